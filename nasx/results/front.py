"""The front: what a run found, from its record alone (numpy only).

COMPLETE trials at full fidelity whose cost is known and whose constraints hold, replicates
averaged with their original. Once the quiet pass has measured the front, it is taken again among
the measured trials; before, latencies are provisional and marked so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nasx.results.controls import against_control
from nasx.results.dominance import crowding, dominates, nondominated, nondominated_rank
from nasx.results.hypervolume import hypervolume
from nasx.results.knee import Entry, knee, log_costs, select
from nasx.results.observed import (
    LATENCY,
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
from nasx.results.repeats import LEAST, failed, memberships
from nasx.study import Study
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run

__all__ = [
    "contenders",
    "crowding",
    "dominates",
    "every_observation",
    "front",
    "hypervolume",
    "hypervolume_history",
    "hypervolume_of",
    "knee",
    "near_front",
    "nondominated",
    "nondominated_rank",
    "reference_of",
    "reference_point",
    "select",
]

MARGIN = 0.1  # of the observed range, between the worst value and the reference point
SLACK = 1.15  # a provisional latency may be this much over its limit and still be measured


def front(run: Run | Snapshot | Path | str, *, latency: Timing | None = None) -> list[Entry]:
    """Return the front by trial number, as INTERFACES lists it, one dictionary per candidate.

    With a latency in the study's objectives or constraints, "latency" says "measured" or
    "provisional"; `latency` asks for one of them (default: see `observed.timing`). "same_as" names
    the trials whose measured latency cannot be told from this one's.
    "membership" is the probability of standing on the front (`membership.membership`), None without
    any replicate. "failed" lists replicates that failed, and "control" has the difference from the
    control (`controls.against_control`), where there are any. "whole" has the network that it was
    cut from and how its latency stands to that one's (`wholes.Wholes.beside`), where it was cut.
    """
    snapshot = snapshot_of(run)
    observed = observations(snapshot, latency or timing(snapshot))
    chance = memberships(observed, snapshot.study)
    members = on_front(observed, snapshot.study)
    return [_entry(o, snapshot, chance.get(o.trial.number)) for o in members]


def contenders(run: Run | Snapshot | Path | str, *, least: float = LEAST) -> list[Entry]:
    """Return the candidates behind the front that may well stand on it, the likeliest first.

    Entries as of `front`, with a membership of at least `least`; none without replicates.
    """
    snapshot = snapshot_of(run)
    study = snapshot.study
    observed = observations(snapshot, timing(snapshot))
    chance = memberships(observed, study)
    members = {o.trial.number for o in on_front(observed, study)}
    behind = [o for o in observed if o.trial.number not in members]
    likely = [o for o in behind if chance.get(o.trial.number, 0.0) >= least]
    likely.sort(key=lambda o: (-chance[o.trial.number], o.trial.number))
    return [_entry(o, snapshot, chance[o.trial.number]) for o in likely]


def reference_point(snapshot: Snapshot) -> dict[str, float]:
    """Return the point that hypervolumes of this run are taken to, by objective.

    See `reference_of`; the observations are those of any finished trial, provisional or measured.
    The same for every front of one snapshot. Empty without a finished trial.
    """
    return reference_of(snapshot.study, every_observation(snapshot))


def every_observation(snapshot: Snapshot) -> list[Observation]:
    """Return all that a reference point must lie behind: each trial alone, both latencies."""
    kinds: tuple[Timing, ...] = ("provisional",)
    if uses_latency(snapshot.study):
        kinds = ("provisional", "measured")
    return [o for kind in kinds for o in observations(snapshot, kind, averaged=False)]


def reference_of(study: Study, observed: Sequence[Observation]) -> dict[str, float]:
    """Return a reference point for a study's objectives, or nothing without observations.

    The study's own limit where a constraint bounds the objective on its worse side; else the
    worst observed value, moved a tenth of the observed range further out.
    """
    limits = study.limits()
    reference: dict[str, float] = {}
    for name, direction in study.objectives.items():
        seen = np.array([o.values[name] for o in observed])
        if not len(seen):
            return {}
        bound = ">=" if direction == "maximize" else "<="
        operator, limit = limits.get(name, ("", 0.0))
        worst = float(seen.min() if direction == "maximize" else seen.max())
        away = -1.0 if direction == "maximize" else 1.0
        if operator == bound and limit != worst:
            reference[name] = limit
        else:
            # A front of one value still needs a box with some depth.
            span = float(np.ptp(seen)) or abs(worst) or 1.0
            reference[name] = worst + away * MARGIN * span
    return reference


def hypervolume_of(snapshot: Snapshot) -> float:
    """Return the hypervolume of the front to `reference_point`, 0 for an empty front."""
    study = snapshot.study
    members = on_front(observations(snapshot, timing(snapshot)), study)
    if not members:
        return 0.0
    reference = list(reference_point(snapshot).values())
    return hypervolume(points(members, study), reference, directions(study))


def hypervolume_history(snapshot: Snapshot) -> list[tuple[int, float]]:
    """Return (trial number, hypervolume up to it) for every trial, to `reference_point`.

    The search as it went: each trial alone (no replicates averaged in), provisional latencies.
    """
    study = snapshot.study
    reference = list(reference_point(snapshot).values())
    observed = observations(snapshot, "provisional", averaged=False)
    scored = {o.trial.number: o.point(study) for o in observed}
    ways = directions(study)
    members: list[list[float]] = []
    volume, rows = 0.0, []
    for number in sorted(t.number for t in snapshot.trials if t.searched):
        point = scored.get(number)
        if point is not None:
            grown = [*members, point]
            mask = nondominated(grown, ways)
            if mask[-1]:
                members = [p for p, keep in zip(grown, mask, strict=True) if keep]
                volume = hypervolume(members, reference, ways)
        rows.append((number, volume))
    return rows


def near_front(snapshot: Snapshot, k: int) -> list[int]:
    """Return the numbers of the k trials nearest behind the provisional front, nearest first.

    Distance is the least step, equal in all objectives on axes scaled to the front's range (costs
    as logarithms), that would bring a trial onto the front (additive epsilon). Trials up to
    1.15 x a latency limit count, since only the quiet pass decides that limit.
    """
    study = snapshot.study
    strict = on_front(observations(snapshot, "provisional"), study)
    members = {o.trial.number for o in strict}
    observed = observations(snapshot, "provisional", slack=SLACK)
    behind = [o for o in observed if o.trial.number not in members]
    if not strict or not behind:
        return [o.trial.number for o in behind[:k]]
    names = list(study.objectives)
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in directions(study)])
    whole = log_costs(points([*strict, *behind], study), names) * signs
    ahead, rest = whole[: len(strict)], whole[len(strict) :]
    # A front of one value has no range: the range of all trials stands in.
    span = np.where(np.ptp(ahead, axis=0) > 0, np.ptp(ahead, axis=0), np.ptp(whole, axis=0))
    steps = (rest[:, None, :] - ahead[None, :, :]) / np.where(span > 0, span, 1.0)
    distance = steps.min(axis=2).max(axis=1)
    order = sorted(range(len(behind)), key=lambda i: (distance[i], behind[i].trial.number))
    return [behind[i].trial.number for i in order[:k]]


def _entry(observed: Observation, snapshot: Snapshot, chance: float | None) -> Entry:
    trial, study = observed.trial, snapshot.study
    entry: Entry = {
        "trial": trial.name,
        "space": trial.space,
        "candidate": trial.candidate,
        "key": trial.key,
        "seeds": [t.seed for t in observed.trials],
        "fidelity": trial.samples,
        "objectives": {name: observed.values[name] for name in study.objectives},
        "test": observed.test,
        "card": trial.card,
        "membership": chance,
    }
    lost = failed(snapshot, trial.number)
    if lost:
        entry["failed"] = lost
    control = against_control(observed, snapshot)
    if control is not None:
        entry["control"] = control
    if uses_latency(study) and LATENCY in observed.values:
        entry["latency"] = observed.latency
        final = snapshot.finals.get(trial.number)
        if observed.latency == "measured" and final and final.latency:
            entry["same_as"] = list(final.latency.get("same_as", ()))
            if "whole" in final.latency:
                entry["whole"] = final.latency["whole"]
    return entry
