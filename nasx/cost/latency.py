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

from nasx.cost.contention import contended, room, share_of
from nasx.cost.device import demand_device
from nasx.cost.piped import sample_models
from nasx.cost.runtimes import RUNTIMES
from nasx.cost.samples import Networks, Plan, Samples
from nasx.errors import NasxError
from nasx.files import append_json
from nasx.study import Measure


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call of `batch` samples; `median_ms` is the calibrated value.

    With one thread every figure is CPU time of that thread; with more it is wall time; on a GPU
    the time between two of its events. Rank by `min_ms`. `cpu_share` is that clock's share of wall
    time. `contended` says that other work disturbed the measurement. `samples` counts timed runs,
    `inputs` the real samples that each is a mean over (1: one made-up input, whatever its work).
    `by_pass`, the calibrated value of each pass, stays out of the JSON: the raw samples hold it.
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
    by_pass: tuple[float, ...] = ()
    inputs: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        found = asdict(self)
        del found["by_pass"]
        return found


@dataclass(frozen=True)
class Timed:
    """What one measurement found: latencies, and why some networks have none, by name.

    `room` is the share of the CPU it needed that the measurement had, where it had least.
    """

    latencies: dict[str, Latency]
    faults: dict[str, str]
    room: float = 1.0

    @property
    def contended(self) -> bool:
        """Say whether other work disturbed any of it."""
        return any(latency.contended for latency in self.latencies.values())

    def whole(self) -> dict[str, Latency]:
        """Return the latencies; a network that has none is refused."""
        for name, fault in self.faults.items():
            raise NasxError(f"{name} cannot be timed: {fault}")
        return self.latencies


def comparable(a: Latency | Mapping[str, Any], b: Latency | Mapping[str, Any]) -> bool:
    """Say whether two latencies were taken in one setting and may stand in one table."""
    keys = ("runtime", "device", "batch", "threads", "machine")
    x, y = (v.to_json() if isinstance(v, Latency) else v for v in (a, b))
    return all(x.get(k) == y.get(k) for k in keys)


def time_networks(
    networks: Networks,
    measure: Measure,
    *,
    seed: int = 0,
    passes: int = 9,
    runs: int = 4,
    raw: Path | None = None,
) -> dict[str, Latency]:
    """Time networks (model, shape of one sample) together; one that cannot be timed is refused.

    Where its work depends on the input, a network is timed on the samples that come with it
    (`Fed`), without any in its widest form. Otherwise like `time_each`.
    """
    return time_each(networks, measure, seed=seed, passes=passes, runs=runs, raw=raw).whole()


def time_each(
    networks: Networks,
    measure: Measure,
    *,
    seed: int = 0,
    passes: int = 9,
    runs: int = 4,
    raw: Path | None = None,
) -> Timed:
    """Time networks together, as one setting says, leaving out those that cannot be timed.

    Visits are interleaved in an order drawn from `seed`; raw samples are appended to `raw` as JSON
    lines. The networks are left as they were. Refused: a device or runtime that cannot be timed.
    """
    _check(measure, passes, runs)
    if not networks:
        return Timed({}, {})
    plan = Plan(seed, passes, runs)
    return _timed(RUNTIMES[measure.runtime](networks, measure, plan), measure, plan, raw)


def time_models(
    models: Mapping[str, bytes],
    measure: Measure,
    *,
    seed: int = 0,
    passes: int = 9,
    runs: int = 4,
    raw: Path | None = None,
) -> dict[str, Latency]:
    """Time ONNX models, given as bytes by name, like `time_networks`."""
    if measure.runtime != "onnxruntime":
        raise NasxError(f"an ONNX file runs in onnxruntime, not in '{measure.runtime}'")
    _check(measure, passes, runs)
    plan = Plan(seed, passes, runs)
    return _timed(sample_models(models, measure, plan), measure, plan, raw).whole()


def _check(measure: Measure, passes: int, runs: int) -> None:
    if measure.runtime not in RUNTIMES:
        raise NasxError(f"unknown runtime '{measure.runtime}'; known: {', '.join(RUNTIMES)}")
    gpu = measure.device.startswith("cuda")
    if measure.runtime == "cuda" and measure.device == "cpu":
        raise NasxError("measure.runtime cuda times on a GPU: set measure.device: cuda")
    if measure.runtime != "cuda" and gpu:
        raise NasxError(
            f"measure.device '{measure.device}': {measure.runtime} times on a CPU; set "
            "measure.device: cpu, or measure.runtime: cuda"
        )
    if passes < 1 or runs < 1:
        raise NasxError(f"latency needs at least one pass and one run, not {passes} and {runs}")
    demand_device(measure)


def _timed(samples: Samples, measure: Measure, plan: Plan, raw: Path | None) -> Timed:
    if samples.rows:
        demand_device(measure, str(samples.machine.get("gpu") or samples.machine["cpu"]))
    latencies = _summarise(samples, measure)
    rooms = [room(samples, measure, latency.cpu_share) for latency in latencies.values()]
    found = Timed(latencies, samples.faults, min(rooms, default=0.0))
    if raw is not None:
        _append(raw, samples, measure, plan, found.contended)
    return found


def _summarise(samples: Samples, measure: Measure) -> dict[str, Latency]:
    if not samples.rows:
        return {}
    own = "event_ms" if measure.runtime == "cuda" else "cpu_ms"
    clock = own if measure.threads == 1 or measure.runtime == "cuda" else "wall_ms"
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
        share = share_of(rows, own, measure.threads)
        found[name] = Latency(
            median_ms=middle,
            min_ms=min(v for r in rows for v in r[clock]),
            q1_ms=q1,
            q3_ms=q3,
            cpu_share=share,
            contended=contended(samples, room(samples, measure, share)),
            samples=sum(len(r[clock]) for r in rows),
            runtime=measure.runtime,
            device=measure.device,
            batch=measure.batch,
            threads=measure.threads,
            calibrator_ms=whole,
            machine=str(samples.machine.get("gpu") or samples.machine["cpu"]),
            inputs=rows[0].get("calls", 1),
            by_pass=tuple(values),
        )
    return found


def _append(
    raw: Path, samples: Samples, measure: Measure, plan: Plan, contended_at_all: bool
) -> None:
    """Append one line on the measurement, then one per visit, in the order they happened."""
    head = {
        "measurement": {**measure.model_dump(), **asdict(plan)},
        "machine": samples.machine,
        "block": samples.block,
        "exclusive": samples.exclusive,
        "contended": contended_at_all,
        "faults": samples.faults,
    }
    raw.parent.mkdir(parents=True, exist_ok=True)
    for line in (head, *samples.rows):
        append_json(raw, line)
