"""Records whose true scores are known: what comparisons and differences of runs are tested on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nasx.files import write_json
from nasx.record import Record
from nasx.storage import open_store
from nasx.study import Fidelity, Study
from nasx.trial import Final, RungScore, Snapshot, State, Trial

TWO = {"top1": "maximize", "macs": "minimize"}
THREE = {**TWO, "latency_ms": "minimize"}
BY_PSNR = {"psnr": "maximize", "macs": "minimize"}


def trial(number: int, score: float, macs: float, **more: Any) -> Trial:
    """A finished trial; `name` is its score's axis, `values` further ones."""
    values = {more.pop("name", "top1"): score, "macs": macs, **more.pop("values", {})}
    rungs = (RungScore(0, 300, values, 10.0), RungScore(1, 900, values, 20.0))
    fields: dict[str, Any] = {
        "space": "one",
        "candidate": {"width": number},
        "key": f"k{number}",
        "card": {"macs": macs, "params": macs / 10, "unpriced": []},
        **more,
    }
    return Trial(number=number, state=State.COMPLETE, rungs=rungs, **fields)


def run(
    name: str,
    trials: Sequence[Trial],
    *,
    valid: int | None = 1000,
    data: str = "abc",
    finals: Sequence[Final] = (),
    **changes: Any,
) -> Snapshot:
    """A run of `trials` on a validation split of `valid` samples (None: not known)."""
    base: dict[str, Any] = {
        "name": "planted",
        "desc": "A test.",
        "space": "one",
        "task": "digits",
        "objectives": TWO,
        "fidelity": Fidelity(full=900, rungs=2),
    }
    made = Study.model_validate({**base, **changes})
    known = {} if valid is None else {"splits": {"train": 4000, "valid": valid, "test": 900}}
    return Snapshot(
        name, Path(name), made, tuple(trials),
        finals={f.number: f for f in finals}, provenance={"data": data, **known},
    )  # fmt: skip


def front_of(name: str, points: Mapping[float, float], **more: Any) -> Snapshot:
    """A run of one trial for each MACs -> score."""
    trials = [
        trial(i, score, macs, key=f"{macs:g}/{score:g}")
        for i, (macs, score) in enumerate(points.items())
    ]
    return run(name, trials, **more)


def timed(number: int, median: float, **more: Any) -> Final:
    """What the quiet pass found of one trial."""
    setting = {"runtime": "onnxruntime", "device": "cpu", "batch": 1, "threads": 1}
    latency = {"median_ms": median, **setting, "machine": "here", "calibrator_ms": 0.5, **more}
    return Final(number, "front", {}, latency)


def written(snapshot: Snapshot, folder: Path) -> Path:
    """Write a run folder with the record of a planted run; its finals are left out."""
    folder.mkdir(parents=True)
    study, identity = snapshot.study, "0123456789ab"
    (folder / "resolved.yaml").write_text(yaml.safe_dump(study.resolved()))
    write_json(folder / "provenance.json", {"identity": identity, **snapshot.provenance})
    with contextlib.closing(open_store(folder, study, identity, None, create=True)) as store:
        record = Record(folder, study, store)
        for t in snapshot.trials:
            record.add(t, {}, {}, t.values)
            record.rung(t.number, t.rungs[0], 0.0, "running")
            record.complete(t.number, t.rungs[1], 0.0, {})
    return folder
