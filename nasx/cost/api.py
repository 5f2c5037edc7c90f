"""Cost cards and latencies of anything a user can name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError, SpaceError
from nasx.nearest import hint
from nasx.shape import Boxes, TaskShape
from nasx.space import Space
from nasx.study import Measure
from nasx.varying import widest_of

if TYPE_CHECKING:
    from torch import nn

    from nasx.cost.card import CostCard
    from nasx.cost.check import Tally
    from nasx.cost.energy import Model
    from nasx.cost.latency import Latency
    from nasx.cost.samples import Networks
    from nasx.run import Run
    from nasx.shape import Shape
    from nasx.tasks.base import Task

SMALL_IMAGES = TaskShape("classify", (3, 64, 64), 10)  # where nobody names a task
SMALL_SCENES = TaskShape("detect", (3, 96, 96), Boxes(10, (4, 8, 16)))
SMALL_PATCHES = TaskShape("restore", (3, 32, 32), ("x2",))


def cost(
    space: str | type[Space] | Space,
    *,
    published: str | None = None,
    values: Mapping[str, Any] | None = None,
    task: str | Mapping[str, Any] | Task | TaskShape | None = None,
    energy: Model = "arith",
) -> CostCard:
    """Count what a candidate costs when deployed, per sample.

    `space` is a name, "./file.py:Class", a class (the baseline, with `values` set by field or
    flat name) or a candidate. A `published` point has its own values and shape, unless `task` is
    given. Without a task: small colour images to classify, or to enlarge by 2, or the first
    published point's shape where the space does neither. `energy` is the model of energy:
    arithmetic, or with moving. Of a network of several heads it is the first that is counted; a
    note has the MACs of each. Raises SpaceError for names and values that are not there.
    """
    from nasx.cost.card import card_of
    from nasx.onehead import by_head

    model, deployed, shape = _networks(space, published, values, task)
    card = card_of(deployed, shape, trained=model, energy=energy)
    said = by_head(deployed, shape)
    return replace(card, notes=(*card.notes, said)) if said else card


def check(
    space: str | type[Space] | Space,
    *,
    published: str | None = None,
    values: Mapping[str, Any] | None = None,
    task: str | Mapping[str, Any] | Task | TaskShape | None = None,
) -> list[Tally]:
    """Count what `cost` would count by nasx and by other counters; differences are explained.

    MACs per sample. The arguments and refusals are those of `cost`.
    """
    from nasx.cost.check import cross_check
    from nasx.cost.inputs import example

    _, deployed, shape = _networks(space, published, values, task)
    return cross_check(widest_of(deployed), example(deployed, shape, 1))


def _networks(
    space: str | type[Space] | Space,
    published: str | None,
    values: Mapping[str, Any] | None,
    task: str | Mapping[str, Any] | Task | TaskShape | None,
) -> tuple[nn.Module, nn.Module, Shape]:
    """Return the network that is trained, the one deployed, and the shape of one sample."""
    import torch

    cls, settings = _space(space)
    settings.update(values or {})
    own = None
    if published is not None:
        points = {point.name.lower(): point for point in cls.published}  # papers write A, B, C
        point = points.get(published.lower())
        if point is None:
            near = hint(published, [p.name for p in cls.published])
            raise SpaceError(f"space '{cls.name}' has no published point '{published}'; {near}")
        settings, own = {**point.candidate, **settings}, point.shape
    candidate = _candidate(cls, settings)
    shape = _shape(task) or own or _default_shape(cls)
    refusal = candidate.refusal(shape)
    if refusal:
        raise SpaceError(f"space '{cls.name}': {refusal}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = candidate.build(shape)
        deployed = candidate.decide(copy.deepcopy(model))
    return model, deployed, candidate.input_shape(shape)


def measure(
    target: str | Path | Run,
    *,
    measure: Measure | None = None,
    runtime: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    via: str | None = None,
    seed: int = 0,
    raw: Path | None = None,
) -> list[dict[str, Any]]:
    """Time one ONNX file, or the deployed networks of a run's front together; least minimum first.

    `measure` is the setting (default: the run's own); the single values override it. Returns rows
    {"network", median_ms, min_ms, ..., same_as}, the last naming the networks whose latency
    cannot be told from it. Raw samples are appended to `raw` as JSON lines.
    """
    from nasx.cost.latency import time_models, time_networks
    from nasx.cost.ties import indistinct
    from nasx.run import Run

    path = target.path if isinstance(target, Run) else Path(target)
    asked = {"runtime": runtime, "device": device, "batch": batch, "threads": threads, "via": via}
    timed: dict[str, Latency]
    if path.suffix == ".onnx":
        try:
            model = path.read_bytes()
        except OSError as error:
            raise NasxError(f"{path}: cannot be read: {error.strerror}") from error
        setting = _setting(measure or Measure(), asked)
        timed = time_models({path.name: model}, setting, seed=seed, raw=raw)
    else:
        run = target if isinstance(target, Run) else Run(path)
        setting = _setting(measure or run.snapshot().study.measure, asked)
        timed = time_networks(_front_of(run), setting, seed=seed, raw=raw)
    same = indistinct({name: latency.by_pass for name, latency in timed.items()})
    rows = [
        {"network": name, **latency.to_json(), "same_as": list(same[name])}
        for name, latency in timed.items()
    ]
    return sorted(rows, key=lambda row: float(row["min_ms"]))


def _space(space: str | type[Space] | Space) -> tuple[type[Space], dict[str, Any]]:
    if isinstance(space, Space):
        return type(space), space.values()
    if isinstance(space, str):
        from nasx import registry

        return registry.space(space), {}
    return space, {}


def _candidate(cls: type[Space], settings: Mapping[str, Any]) -> Space:
    """Return the candidate with these values, given by field or by flat name ("width.0")."""
    fields = cls().values()
    whole = {k: v for k, v in settings.items() if k in fields}
    flat = {k: v for k, v in settings.items() if k not in fields}
    candidate = cls.from_json(whole)
    return cls.from_flat({**candidate.flat(), **flat}) if flat else candidate


def _shape(task: str | Mapping[str, Any] | Task | TaskShape | None) -> TaskShape | None:
    if task is None or isinstance(task, TaskShape):
        return task
    if isinstance(task, str | Mapping):
        from nasx import registry

        return registry.task(task).shape
    return task.shape


def _default_shape(cls: type[Space]) -> TaskShape:
    if "classify" in cls.tasks:
        return SMALL_IMAGES
    if "restore" in cls.tasks:
        return SMALL_PATCHES
    if "detect" in cls.tasks:
        return SMALL_SCENES
    if cls.published:
        return cls.published[0].shape
    kinds = ", ".join(cls.tasks)
    raise SpaceError(f"space '{cls.name}' is for {kinds}: say on which task it is to be counted")


def _setting(base: Measure, asked: Mapping[str, Any]) -> Measure:
    """Return a setting with the values asked for, checked."""
    changed = {key: value for key, value in asked.items() if value is not None}
    on_gpu = changed.get("runtime", base.runtime) == "cuda"
    if "device" not in changed and on_gpu != (base.runtime == "cuda"):
        changed["device"] = "cuda" if on_gpu else "cpu"
    try:
        return Measure.model_validate({**base.model_dump(), **changed})
    except ValueError as error:
        raise NasxError(
            f"cannot measure with {changed}: {str(error).splitlines()[2].strip()}"
        ) from error


def _front_of(run: Run) -> Networks:
    """Return the deployed networks of a run's front by trial name."""
    from nasx import registry
    from nasx.cost.samples import fed
    from nasx.results.front import front
    from nasx.training import load_deployed

    snapshot = run.snapshot()
    entries = front(snapshot)
    if not entries:
        raise NasxError(f"{run.path}: its front is empty, so there is nothing to measure")
    task = registry.task(snapshot.study.task)
    networks = {}
    for entry in entries:
        number = int(str(entry["trial"]).removeprefix("t"))
        trial = snapshot.trial(number)
        candidate = registry.space(trial.space).from_json(trial.candidate)
        model = load_deployed(candidate, task.shape, run.folder(number) / "checkpoint")
        networks[trial.name] = fed(model, candidate.input_shape(task.shape), task)
    return networks
