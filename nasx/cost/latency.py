"""Latency that repeats: interleaved visits, CPU time, a calibrator, medians.

    value = reference x median over passes of (median of a visit / median of the pass's calibrators)

with the reference = the calibrator's median over the whole measurement, so that the unit stays
the millisecond of this machine at this time. The calibrator's value is stored: dividing by it
compares records of two days.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nasx.cost.device import demand_device
from nasx.cost.runtimes import RUNTIMES, Plan, Samples, sample_models
from nasx.errors import NasxError
from nasx.files import append_json
from nasx.shape import Shape
from nasx.study import Measure

SHARE = 0.9  # of wall time that a run must have had the CPU, or it counts as contended


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call of `batch` samples; `median_ms` is the calibrated value.

    With one thread every figure is CPU time of that thread; with more it is wall time. Rank by
    `min_ms`. `contended` says that other work took the CPU meanwhile. `samples` counts timed runs.
    """

    median_ms: float
    min_ms: float
    q1_ms: float
    q3_ms: float
    cpu_share: float
    contended: bool
    samples: int
    runtime: str
    device: str
    batch: int
    threads: int
    calibrator_ms: float = 0.0
    machine: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)


def comparable(a: Latency | Mapping[str, Any], b: Latency | Mapping[str, Any]) -> bool:
    """Say whether two latencies were taken in one setting and may stand in one table."""
    keys = ("runtime", "device", "batch", "threads", "machine")
    x, y = (v.to_json() if isinstance(v, Latency) else v for v in (a, b))
    return all(x.get(k) == y.get(k) for k in keys)


def time_networks(
    networks: Mapping[str, tuple[nn.Module, Shape]],
    measure: Measure,
    *,
    seed: int = 0,
    passes: int = 10,
    runs: int = 5,
    raw: Path | None = None,
) -> dict[str, Latency]:
    """Time networks (model, shape of one sample) together, as one setting says.

    Visits are interleaved in an order drawn from `seed`; raw samples are appended to `raw` as JSON
    lines. The networks are left as they were. Refused: a device or runtime that cannot be timed,
    a network that cannot run in it.
    """
    _check(measure, passes, runs)
    if not networks:
        return {}
    plan = Plan(seed, passes, runs)
    return _summarise(RUNTIMES[measure.runtime](networks, measure, plan), measure, plan, raw)


def time_models(
    models: Mapping[str, bytes],
    measure: Measure,
    *,
    seed: int = 0,
    passes: int = 10,
    runs: int = 5,
    raw: Path | None = None,
) -> dict[str, Latency]:
    """Time ONNX models, given as bytes by name, like `time_networks`."""
    if measure.runtime != "onnxruntime":
        raise NasxError(f"an ONNX file runs in onnxruntime, not in '{measure.runtime}'")
    _check(measure, passes, runs)
    plan = Plan(seed, passes, runs)
    return _summarise(sample_models(models, measure, plan), measure, plan, raw)


def _check(measure: Measure, passes: int, runs: int) -> None:
    if measure.runtime not in RUNTIMES:
        raise NasxError(f"unknown runtime '{measure.runtime}'; known: {', '.join(RUNTIMES)}")
    if measure.device.startswith("cuda"):
        raise NasxError(
            f"measure.device '{measure.device}': {measure.runtime} is timed on 'cpu' only"
        )
    if passes < 1 or runs < 1:
        raise NasxError(f"latency needs at least one pass and one run, not {passes} and {runs}")
    demand_device(measure)


def _summarise(
    samples: Samples, measure: Measure, plan: Plan, raw: Path | None
) -> dict[str, Latency]:
    demand_device(measure, str(samples.machine.get("gpu") or samples.machine["cpu"]))
    if raw is not None:
        _append(raw, samples, measure, plan)
    clock = "cpu_ms" if measure.threads == 1 else "wall_ms"
    reference: dict[int, list[float]] = {}
    for row in samples.rows:
        reference.setdefault(row["pass"], []).extend(row[f"calibrator_{clock}"])
    by_pass = {turn: statistics.median(values) for turn, values in reference.items()}
    whole = statistics.median(v for values in reference.values() for v in values)

    visits: dict[str, list[dict[str, Any]]] = {}
    for row in samples.rows:
        visits.setdefault(row["network"], []).append(row)
    found = {}
    for name, rows in visits.items():
        values = [whole * statistics.median(r[clock]) / by_pass[r["pass"]] for r in rows]
        q1, middle, q3 = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        cpu = sum(sum(r["cpu_ms"]) for r in rows)
        wall = sum(sum(r["wall_ms"]) for r in rows)
        share = min(1.0, cpu / (wall * measure.threads))
        found[name] = Latency(
            median_ms=middle,
            min_ms=min(v for r in rows for v in r[clock]),
            q1_ms=q1,
            q3_ms=q3,
            cpu_share=share,
            contended=_contended(share, samples, measure.threads),
            samples=sum(len(r[clock]) for r in rows),
            runtime=measure.runtime,
            device=measure.device,
            batch=measure.batch,
            threads=measure.threads,
            calibrator_ms=whole,
            machine=str(samples.machine["cpu"]),
        )
    return found


def _contended(share: float, samples: Samples, threads: int) -> bool:
    """Say whether other work disturbed a network's runs.

    One thread either has its CPU or waits. Several never use all their CPU time, so there it is
    asked whether the cores that others kept busy left `threads` free.
    """
    if threads == 1:
        return share < SHARE
    cores = int(samples.machine["cores"] or threads)
    return samples.others is not None and samples.others > cores - threads * SHARE


def _append(raw: Path, samples: Samples, measure: Measure, plan: Plan) -> None:
    """Append one line on the measurement, then one per visit, in the order they happened."""
    head = {
        "measurement": {**measure.model_dump(), **asdict(plan)},
        "machine": samples.machine,
        "others": samples.others,
    }
    raw.parent.mkdir(parents=True, exist_ok=True)
    for line in (head, *samples.rows):
        append_json(raw, line)
