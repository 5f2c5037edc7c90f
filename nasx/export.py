"""Export: one trained network of a run as files that work without nasx.

    export("runs/tinynet", "knee")  ->  runs/tinynet/exports/t0007/

The network is the one that was scored: decided, with the BatchNorm statistics of its last score.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.files import demand_space
from nasx.operators import deciding_layers, kernels_of
from nasx.trial import Snapshot, State, Trial

if TYPE_CHECKING:
    from torch import nn

    from nasx.modelcard import About
    from nasx.run import Run
    from nasx.space import Space
    from nasx.tasks.base import Task

log = logging.getLogger("nasx")

BUNDLE_ROOM = 16 * 2**20  # bytes of a bundle beside its weights, generously
SAMPLES = 64  # validation samples that the files are checked on
DECIDED = 1000  # where layers round their input: one flip in a thousand must show


def export(
    run: Run | Snapshot | Path | str, which: str, out: Path | None = None, head: str | None = None
) -> Path:
    """Write the bundle of `which`: knee, best, smallest or a trial tNNNN; return its folder.

    `out` defaults to exports/tNNNN in the run's folder. Of a network of several heads each gets
    files of its own; `head` names the only one wanted. Raises NasxError for a trial that does
    not exist, did not complete or has no weights, and for a head it does not have; ParityError for
    a file that computes something else than the network that was scored.
    """
    from nasx.bundle import bundle, demand_replaceable
    from nasx.exportheads import about_head, samples_by_head
    from nasx.onehead import heads_to_export, one_head
    from nasx.readback import deployed_network
    from nasx.registry import space, task
    from nasx.run import snapshot_of
    from nasx.tasks.spread import READ, spread_samples

    snapshot = snapshot_of(run)
    trial = chosen(snapshot, which)
    folder = destination(snapshot, trial, out)
    demand_replaceable(folder)
    checkpoint = snapshot.path / "trials" / trial.name / "checkpoint"
    own = task(snapshot.study.task, snapshot.path)
    candidate = space(trial.space, snapshot.path).from_json(trial.candidate)
    shape = candidate.input_shape(own.shape)
    if not all(isinstance(side, int) for side in shape):
        raise NasxError(f"{trial.name}: the network takes several inputs; export knows one")
    network = deployed_network(candidate, own, checkpoint)
    heads = heads_to_export(network, own.shape, head)
    demand_space(nearest_folder(folder), room_for(network, len(heads)))
    about = replace(about_trial(snapshot, trial, candidate, own), kernels=kernels_of(network))
    count = DECIDED if deciding_layers(network) else SAMPLES
    if not heads:
        valid = (batch.inputs for batch in own.batches("valid", shape, READ))
        return bundle(network, about, folder, spread_samples(own, shape, count), valid)
    inputs = samples_by_head(own, shape, heads, count)
    if len(heads) > 1:
        return bundle(network, about, folder, inputs)
    (only,) = heads
    network = one_head(network, only, inputs[only][:2])
    about = about_head(about, network, shape, only, snapshot.study.measure.energy)
    return bundle(network, about, folder, inputs[only])


def nearest_folder(path: Path) -> Path:
    """Return the deepest folder on the way to `path` that exists."""
    return next(p for p in path.resolve().parents if p.is_dir())


def room_for(network: nn.Module, heads: int = 1) -> int:
    """Return the bytes a bundle takes at most: torch aborts where a disk fills under its hands."""
    weights = sum(int(t.nbytes) for t in network.state_dict().values())
    return BUNDLE_ROOM + 4 * weights * max(1, heads)


def chosen(snapshot: Snapshot, which: str) -> Trial:
    """Return the complete trial named by `which`: any tNNNN, or a named point of the front."""
    from nasx.results.front import front, select

    if not re.fullmatch(r"t\d{4,}", which):
        entry = select(front(snapshot), which, snapshot.study.objectives)
        log.info("%s is %s, %s", which, entry["trial"], entry["chosen"])
        which = str(entry["trial"])
    trial = snapshot.trial(int(which[1:]))
    if trial.state is not State.COMPLETE:
        why = f" ({trial.reason})" if trial.reason else ""
        raise NasxError(
            f"{snapshot.path}: trial {trial.name} is {trial.state.value}{why}; only a COMPLETE "
            "trial can be exported, see `nasx front`"
        )
    return trial


def destination(snapshot: Snapshot, trial: Trial, out: Path | None) -> Path:
    """Return the bundle's folder; the default one stays inside the run's folder."""
    if out is not None:
        return out.expanduser()
    folder = snapshot.path / "exports" / trial.name
    if not folder.resolve().is_relative_to(snapshot.path.resolve()):
        raise NasxError(f"{folder}: leads out of the run's folder; name another one with --out")
    return folder


def about_trial(snapshot: Snapshot, trial: Trial, candidate: Space, task: Task) -> About:
    """Gather what the record knows of a trial."""
    from nasx.axes import AXES
    from nasx.checkpoint import find, read_state
    from nasx.modelcard import About

    saved = read_state(find(snapshot.path / "trials" / trial.name / "checkpoint"))
    final = snapshot.finals.get(trial.number)
    shape = candidate.input_shape(task.shape)
    described: dict[str, Any] = {}
    if hasattr(task, "preprocessing"):  # a task of the user's may not say
        described = dict(task.preprocessing(shape))
    classes = described.pop("classes", ())
    if not classes and isinstance(task.shape.outputs, int):
        classes = tuple(str(i) for i in range(task.shape.outputs))
    machine = snapshot.provenance.get("machine", {})
    # What scores are a mean over: samples, unless the task scores something larger.
    scored = getattr(task, "scored", task.size)
    values = {**trial.card, **trial.values}
    return About(
        study=snapshot.name,
        question=snapshot.study.desc,
        trial=trial.name,
        space=trial.space if ".py:" not in trial.space else candidate.name,
        candidate=trial.candidate,
        key=trial.key,
        seed=trial.seed,
        samples=trial.samples,
        recipe=saved["recipe"],
        decisions=saved["decisions"],
        task=task.name,
        classes=tuple(classes),
        preprocessing=described,
        sizes={"valid": scored("valid"), "test": scored("test")},
        valid={name: trial.values[name] for name in task.metrics if name in trial.values},
        test=dict(final.test) if final else {},
        costs={
            name: values[name]
            for name, axis in AXES.items()
            if axis.kind == "static" and isinstance(values.get(name), int | float)
        }
        | ({"macs_max": trial.card["macs_max"]} if "macs_max" in trial.card else {}),
        latency=final.latency if final else None,
        cautions=candidate.cautions,
        machine=machine.get("cpu", ""),
        versions=snapshot.provenance.get("versions", {}),
    )
