"""What two runs must share before their numbers may stand in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.results.observed import LATENCY, Observation, Timing
from nasx.trial import Snapshot

# What makes two latencies comparable, as `nasx.cost.latency.comparable` (which needs torch) has it.
SETTING = ("runtime", "device", "batch", "threads", "machine")


def demand_alike(a: Snapshot, b: Snapshot, *, question: bool = False) -> None:
    """Refuse two runs whose scores mean different things, with every difference.

    Task, data, splits and fidelity must be the same; with `question` also the objectives and
    constraints. Spaces, budgets and seeds may differ.
    """
    found = [f"{what}: {x} -> {y}" for what, x, y in _aspects(a, b, question) if x != y]
    if found:
        one = "one study question" if question else "one task, data and fidelity"
        raise NasxError(
            f"{a.path} and {b.path} are not to be compared: {'; '.join(found)}; "
            f"name two runs of {one}"
        )


def unlike_latency(runs: Sequence[tuple[Snapshot, Timing]]) -> str | None:
    """Say how the latencies of some runs differ in setting or machine, or return None.

    `measured` latencies carry their setting; `provisional` ones are those of the study's setting
    on the machine of the run.
    """
    if len({kind for _, kind in runs}) > 1:
        return "one run's latencies are measured, the other's provisional"
    settings = [setting for run, kind in runs for setting in _settings(run, kind)]
    parts = []
    for name, *values in zip(SETTING, *settings, strict=False):
        several = list(dict.fromkeys(str(v) for v in values))
        if len(several) > 1:
            parts.append(f"{name} {' and '.join(several)}")
    return "; ".join(parts) or None


def common_pace(runs: Sequence[Snapshot]) -> float | None:
    """Return the calibrator's milliseconds that latencies of several quiet passes are told at.

    The mean over the passes; None where all are of one pass, or one kept no calibrator.
    """
    paces = {
        float(final.latency.get("calibrator_ms") or 0.0)
        for run in runs
        for final in run.finals.values()
        if final.latency
    }
    return sum(sorted(paces)) / len(paces) if len(paces) > 1 and 0.0 not in paces else None


def at_pace(
    observed: Sequence[Observation], run: Snapshot, pace: float | None
) -> list[Observation]:
    """Return observations with measured latencies brought to one calibrator's pace.

    A processor runs now faster, now slower: the same network's milliseconds of two days differ
    where their ratios to the calibrator do not.
    """
    return [_paced(o, run, pace) if pace else o for o in observed]


def _paced(o: Observation, run: Snapshot, pace: float) -> Observation:
    timed = (run.finals[t.number].latency for t in o.trials if t.number in run.finals)
    own = next((float(found["calibrator_ms"]) for found in timed if found), None)
    if own is None or o.latency != "measured" or LATENCY not in o.values:
        return o
    return replace(o, values={**o.values, LATENCY: o.values[LATENCY] * (pace / own)})


def _aspects(a: Snapshot, b: Snapshot, question: bool) -> Iterator[tuple[str, Any, Any]]:
    yield "task", _task(a), _task(b)
    yield "data", a.provenance.get("data"), b.provenance.get("data")
    yield "splits", a.provenance.get("splits"), b.provenance.get("splits")
    first, second = (f"{r.study.fidelity.full} {r.study.fidelity.unit}" for r in (a, b))
    yield "fidelity", first, second
    if question:
        yield "objectives", list(a.study.objectives.items()), list(b.study.objectives.items())
        yield "constraints", a.study.limits(), b.study.limits()


def _task(run: Snapshot) -> Any:
    """Return a task without where its files lie: the data's hash speaks for them."""
    task = run.study.task
    named = {"name": task} if isinstance(task, str) else task
    kept = {k: v for k, v in named.items() if k != "path"} | {"name": Path(named["name"]).name}
    return kept["name"] if len(kept) == 1 else kept


def _settings(run: Snapshot, kind: Timing) -> list[list[Any]]:
    if kind == "measured":
        timed = [f.latency for f in run.finals.values() if f.latency]
        return [[latency.get(name) for name in SETTING] for latency in timed]
    asked = run.study.measure
    cpu = run.provenance.get("machine", {}).get("cpu")
    return [[asked.runtime, asked.device, asked.batch, asked.threads, cpu]]
