"""The cheapest candidate of each space at one accuracy, from the records of one run or two.

The 95 % interval of that cost goes from the cheapest candidate whose score may reach the level to
the cheapest whose score surely does, each by its own 95 % interval. (Drawing all scores again and
taking the cheapest each time is too sure of itself: of many candidates just below the level some
pass in every draw. On planted sets of 48 candidates that held the true cost 46 to 96 % of the
time, by their noise, and this interval 95 to 99 %.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.axes import AXES
from nasx.errors import NasxError
from nasx.results.alike import common_pace, demand_alike, unlike_latency
from nasx.results.knee import primary
from nasx.results.level import Level, level_of
from nasx.results.noise import Noise, noise_of
from nasx.results.observed import LATENCY, Observation, snapshot_of
from nasx.results.priced import by_space, priced
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run

COSTS = ("macs", "params", LATENCY, "energy_uj", "peak_bytes", "bytes")


@dataclass(frozen=True)
class Cheapest:
    """The least cost at the level on one axis, and the candidate that has it.

    `low` to `high` is the 95 % interval; `high` None means that no candidate reaches the level
    beyond doubt. Both are None where the score's noise is not known (`sure` is False).
    """

    value: float
    low: float | None
    high: float | None
    sure: bool
    trial: str
    key: str
    candidate: dict[str, Any]
    score: float
    error: float | None  # half of the score's 95 % interval


@dataclass(frozen=True)
class Row:
    """One space of one run: its best score and, by cost axis, its cheapest candidate at the level.

    `cheapest` is empty where no candidate reaches the level.
    """

    run: str
    space: str
    candidates: int
    best: float | None
    best_trial: str | None
    cheapest: dict[str, Cheapest]


@dataclass(frozen=True)
class Comparison:
    """Rows by rising primary cost; `pairs` says which costs can be told apart, axis by axis."""

    level: Level
    primary: str
    axes: list[str]
    rows: list[Row]
    pairs: list[dict[str, Any]]
    noise: dict[str, Any]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def compare(
    a: Run | Snapshot | Path | str,
    b: Run | Snapshot | Path | str | None = None,
    *,
    at: str | None = None,
) -> Comparison:
    """Compare the spaces of one run or two at one accuracy, such as at="top1=.9".

    By default the highest score that every space reaches beyond doubt. Raises NasxError for runs
    of different tasks, data, splits or fidelities, for a level that is no score of theirs, and
    where nothing has completed.
    """
    runs = [snapshot_of(run) for run in ([a] if b is None else [a, b])]
    demand_alike(runs[0], runs[-1])
    reason = unlike_latency([(run, "measured") for run in runs])
    pace = None if reason else common_pace(runs)
    groups = [
        (run, space, found)
        for run in runs
        for space, found in by_space(run, priced(run, pace, latency=not reason)).items()
    ]
    every = [o for _, _, found in groups for o in found]
    if not every:
        raise NasxError(
            f"{' and '.join(str(run.path) for run in runs)}: no trial completed at full fidelity "
            "within the constraints; see `nasx status`"
        )
    score = primary(runs[0].study.objectives) if at is None else at.partition("=")[0].strip()
    noise = noise_of(every, score, runs)
    level = level_of(at, score, [found for _, _, found in groups], noise)
    axes = _axes(runs, every)
    rows = [_row(run, space, found, level, axes, noise) for run, space, found in groups]
    rows.sort(key=lambda row: _order(row, axes[0]))
    notes = [noise.caveat(), f"latencies are not compared: {reason}" if reason else None]
    if pace:
        notes.append(f"latencies of several quiet passes are told at a calibrator of {pace:.3g} ms")
    return Comparison(
        level=level,
        primary=axes[0],
        axes=axes,
        rows=rows,
        pairs=[pair for axis in axes for pair in _pairs(rows, axis)],
        noise=noise.to_json(),
        notes=[note for note in notes if note],
    )


def _axes(runs: Sequence[Snapshot], every: Sequence[Observation]) -> list[str]:
    """Return the cost axes that any candidate knows, the first cost objective before all."""
    asked = [n for run in runs for n in run.study.objectives if AXES[n].kind != "score"]
    names = list(dict.fromkeys([*asked, *COSTS]))
    known = [name for name in names if any(name in o.values for o in every)]
    if not known:
        raise NasxError("no candidate's cost is known, so there is nothing to compare")
    return known


def _row(
    run: Snapshot,
    space: str,
    found: Sequence[Observation],
    level: Level,
    axes: Sequence[str],
    noise: Noise,
) -> Row:
    best = max(found, key=lambda o: o.values[level.score], default=None)
    cheapest = {axis: _cheapest(found, axis, level, noise) for axis in axes}
    return Row(
        run=str(run.path),
        space=space,
        candidates=len(found),
        best=best.values[level.score] if best else None,
        best_trial=best.trial.name if best else None,
        cheapest={axis: one for axis, one in cheapest.items() if one},
    )


def _cheapest(
    found: Sequence[Observation], axis: str, level: Level, noise: Noise
) -> Cheapest | None:
    priced = [o for o in found if axis in o.values]
    priced.sort(key=lambda o: (o.values[axis], -o.values[level.score], o.trial.number))
    chosen = next((o for o in priced if o.values[level.score] >= level.value), None)
    if chosen is None:
        return None
    low = high = None
    if noise.known:
        reach = [
            (o.values[axis], o.values[level.score], noise.half_width(o) or 0.0) for o in priced
        ]
        low = next(cost for cost, score, half in reach if score + half >= level.value)
        high = next((cost for cost, score, half in reach if score - half >= level.value), None)
    return Cheapest(
        value=chosen.values[axis],
        low=low,
        high=high,
        sure=noise.known,
        trial=chosen.trial.name,
        key=chosen.trial.key,
        candidate=chosen.trial.candidate,
        score=chosen.values[level.score],
        error=noise.half_width(chosen),
    )


def _pairs(rows: Sequence[Row], axis: str) -> list[dict[str, Any]]:
    """Return, for each pair of rows that reach the level, whether their intervals overlap."""
    there = [row for row in rows if axis in row.cheapest]
    there.sort(key=lambda row: row.cheapest[axis].value)
    return [
        {
            "axis": axis,
            "cheaper": {"run": x.run, "space": x.space},
            "dearer": {"run": y.run, "space": y.space},
            "told_apart": told_apart(x.cheapest[axis], y.cheapest[axis]),
        }
        for x, y in combinations(there, 2)
    ]


def told_apart(x: Cheapest, y: Cheapest) -> bool:
    """Say whether the 95 % intervals of two costs, the cheaper first, do not overlap."""
    return bool(x.sure and y.sure and x.high is not None and y.low is not None and x.high < y.low)


def _order(row: Row, axis: str) -> tuple[bool, float, float]:
    at = row.cheapest.get(axis)
    return at is None, at.value if at else 0.0, -(row.best or 0.0)
