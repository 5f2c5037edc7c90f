"""Did the front move? Two runs of one study question, before and after, from their records alone.

Both hypervolumes are taken to one reference point. Their difference carries a 95 % interval:
scores are drawn again from their noise, membership anew in each draw; costs are exact. The best
of many noisy scores looks better than it is, in the record and once more in each draw, so the
interval is the reflected ("basic") bootstrap one, which takes that bias out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nasx.errors import NasxError
from nasx.results.alike import at_pace, common_pace, demand_alike, unlike_latency
from nasx.results.dominance import Floats, losses
from nasx.results.front import every_observation, reference_of
from nasx.results.hypervolume import hypervolume
from nasx.results.noise import LEVEL, Noise
from nasx.results.observed import (
    Observation,
    Timing,
    directions,
    observations,
    on_front,
    points,
    snapshot_of,
    timing,
    uses_latency,
)
from nasx.results.redraw import noises_of, redrawn
from nasx.results.volumes import volumes
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run

Verdict = Literal["better", "worse", "no difference detected"]


@dataclass(frozen=True)
class Side:
    """One run: its front's hypervolume and members, and what it spent (CPU seconds of training)."""

    run: str
    study: str
    hypervolume: float
    front: int
    trials: int
    samples: int
    cpu_seconds: float


@dataclass(frozen=True)
class Difference:
    """What changed from `before` to `after`; `difference` in the product of the objectives' units.

    `interval` is None where no score's noise is known: then no difference is detected either.
    `gained` and `lost` are front members with the share of draws ("chance") in which they are.
    `kept` counts the networks on both fronts.
    """

    before: Side
    after: Side
    reference: dict[str, float]
    difference: float
    interval: tuple[float, float] | None
    verdict: Verdict
    gained: list[dict[str, Any]]
    lost: list[dict[str, Any]]
    kept: int
    latency: Timing | None
    noise: dict[str, dict[str, Any]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Pool:
    """What may stand on one run's front, its front, and draws of its losses (1 + d, n, m)."""

    run: Snapshot
    pool: list[Observation]
    front: list[Observation]
    draws: Floats | None


def diff(
    before: Run | Snapshot | Path | str, after: Run | Snapshot | Path | str, *, seed: int = 0
) -> Difference:
    """Compare the fronts of two runs of one study question; `seed` is that of the draws.

    A training that both records hold (same network, seed and score) is drawn once for both.
    Raises NasxError for runs of two questions, latencies that are not to be compared, or no
    finished trial at all.
    """
    runs = [snapshot_of(before), snapshot_of(after)]
    demand_alike(*runs, question=True)
    study = runs[0].study
    latency = _latency(runs)
    pace = common_pace(runs) if latency == "measured" else None
    kind = latency or "provisional"
    pools = [at_pace(observations(run, kind), run, pace) for run in runs]
    every = [o for run in runs for o in at_pace(every_observation(run), run, pace)]
    reference = reference_of(study, every)
    if not reference:
        raise NasxError(
            f"neither {runs[0].path} nor {runs[1].path} has a finished trial within the "
            "constraints; see `nasx status`"
        )
    noises = noises_of(pools, runs)
    drawn = redrawn(pools, study, noises, np.random.default_rng(seed))
    old, new = (
        _Pool(run, pool, on_front(pool, study), draws)
        for run, pool, draws in zip(runs, pools, drawn or (None, None), strict=True)
    )
    corner = list(reference.values())
    areas = [hypervolume(points(p.front, study), corner, directions(study)) for p in (old, new)]
    change = areas[1] - areas[0]
    interval = _interval(change, old, new, losses([corner], directions(study))[0])
    return Difference(
        before=_side(old, areas[0]),
        after=_side(new, areas[1]),
        reference=reference,
        difference=change,
        interval=interval,
        verdict=_verdict(interval),
        gained=_ahead(new, old),
        lost=_ahead(old, new),
        kept=len({o.trial.key for o in old.front} & {o.trial.key for o in new.front}),
        latency=latency,
        noise={noise.score: noise.to_json() for noise in noises},
        notes=_notes(noises, latency, pace),
    )


def _latency(runs: Sequence[Snapshot]) -> Timing | None:
    """Return the kind of latency that both fronts are made of, or None if none plays a part."""
    if not uses_latency(runs[0].study):
        return None
    kinds = [timing(run) for run in runs]
    reason = unlike_latency(list(zip(runs, kinds, strict=True)))
    if reason:
        raise NasxError(
            f"{runs[0].path} and {runs[1].path}: latencies are not to be compared ({reason}); "
            "measure both alike, or ask a study without latency_ms"
        )
    return kinds[0]


def _interval(change: float, old: _Pool, new: _Pool, corner: Floats) -> tuple[float, float] | None:
    if old.draws is None or new.draws is None:
        return None
    drawn = volumes(new.draws, corner) - volumes(old.draws, corner)
    drawn += change - drawn[0]  # the first is as observed, and may be estimated like the others
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn[1:], (tail, 1 - tail)).tolist()
    # Reflected; where the bias exceeds the spread, what was observed still belongs to it.
    return min(2 * change - high, change), max(2 * change - low, change)


def _verdict(interval: tuple[float, float] | None) -> Verdict:
    if interval and interval[0] > 0:
        return "better"
    return "worse" if interval and interval[1] < 0 else "no difference detected"


def _ahead(here: _Pool, there: _Pool) -> list[dict[str, Any]]:
    """Return the front members here that no network there is, matches or dominates."""
    study = here.run.study
    ways = directions(study)
    rivals = losses(points(there.front, study), ways)
    known = {o.trial.key for o in there.front}
    found = []
    for o, loss in zip(here.front, losses(points(here.front, study), ways), strict=True):
        if o.trial.key in known or (rivals <= loss).all(axis=1).any():
            continue
        found.append(
            {
                "trial": o.trial.name,
                "space": o.trial.space,
                "key": o.trial.key,
                "candidate": o.trial.candidate,
                "objectives": {name: o.values[name] for name in study.objectives},
                "chance": _chance(here, there, here.pool.index(o)),
            }
        )
    return found


def _chance(here: _Pool, there: _Pool, index: int) -> float | None:
    """Return the share of draws in which nothing there matches or dominates one network here."""
    if here.draws is None or there.draws is None:
        return None
    reached = np.any(np.all(there.draws <= here.draws[:, [index]], axis=2), axis=1)
    return float(1 - reached[1:].mean())


def _side(pool: _Pool, area: float) -> Side:
    trials = pool.run.trials
    return Side(
        run=str(pool.run.path),
        study=pool.run.name,
        hypervolume=area,
        front=len(pool.front),
        trials=len(trials),
        samples=sum(t.samples for t in trials),
        cpu_seconds=sum(rung.seconds for t in trials for rung in t.rungs),
    )


def _notes(noises: Sequence[Noise], latency: Timing | None, pace: float | None) -> list[str]:
    notes = [noise.caveat() for noise in noises]
    if latency == "provisional":
        notes.append("latencies are provisional: no quiet pass has measured these fronts")
    if pace:
        notes.append(f"latencies of several quiet passes are told at a calibrator of {pace:.3g} ms")
    return [note for note in notes if note]
