"""What a front may be made of: finished trials, replicates averaged, one kind of latency."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nasx.axes import AXES, Direction
from nasx.results.dominance import Floats, nondominated
from nasx.study import Study
from nasx.trial import Snapshot, State, Trial

if TYPE_CHECKING:
    from nasx.run import Run

LATENCY = "latency_ms"
Timing = Literal["measured", "provisional"]


@dataclass(frozen=True)
class Observation:
    """One candidate as a front sees it: the original trial and the mean over its replicates.

    `values` holds every known axis. `latency` says where latency_ms comes from: the quiet pass
    or the search.
    """

    trial: Trial
    values: dict[str, float]
    trials: tuple[Trial, ...]  # the original first, then its replicates
    test: dict[str, float]
    latency: Timing

    def point(self, study: Study) -> list[float]:
        """Return the study's objectives in order."""
        return [self.values[name] for name in study.objectives]


def snapshot_of(run: Run | Snapshot | Path | str) -> Snapshot:
    """Return a run as plain values, whatever way it is named."""
    if isinstance(run, Snapshot):
        return run
    from nasx import run as runs

    return runs.snapshot_of(run)


def uses_latency(study: Study) -> bool:
    """Say whether latency is an objective or a constraint of the study."""
    return LATENCY in study.objectives or LATENCY in study.constraints


def observations(
    snapshot: Snapshot, latency: Timing, *, averaged: bool = True, slack: float = 1.0
) -> list[Observation]:
    """Return what may stand on a front, in trial order.

    COMPLETE at full fidelity, no control, nothing unpriced, every objective known, constraints met
    (a latency limit times `slack`). With latency "measured" only trials that the quiet pass timed
    are returned when the study uses latency, so that measured and provisional never meet.
    """
    study = snapshot.study
    groups: dict[int, list[Trial]] = defaultdict(list)
    roots = {t.number: t.replicate_of for t in snapshot.trials}
    for trial in sorted(snapshot.trials, key=lambda t: t.number):
        if _finished(trial, study):
            root = trial.number
            while (original := roots.get(root)) is not None:
                root = original
            groups[root].append(trial)
    found = []
    for root, members in sorted(groups.items()):
        if members[0].number != root:  # the original itself did not finish
            continue
        kept = members if averaged else members[:1]
        seen = _observe(snapshot, kept, latency)
        if seen and _feasible(seen.values, study, slack):
            found.append(seen)
    return found


def points(observed: Sequence[Observation], study: Study) -> Floats:
    """Return the objectives (n, m) of some observations."""
    return np.array([o.point(study) for o in observed]).reshape(-1, len(study.objectives))


def directions(study: Study) -> list[Direction]:
    """Return the study's directions in the order of its objectives."""
    return list(study.objectives.values())


def on_front(observed: Sequence[Observation], study: Study) -> list[Observation]:
    """Return the non-dominated ones."""
    mask = nondominated(points(observed, study), directions(study))
    return [o for o, keep in zip(observed, mask, strict=True) if keep]


def timing(snapshot: Snapshot) -> Timing:
    """Say which latencies a front is made of: measured once the quiet pass covers the front.

    It covers the front when it visited every member of the provisional one, with or without the
    replicates (which may have been trained before or after it). A search that went on after its
    quiet pass is provisional again.
    """
    if not any(final.latency for final in snapshot.finals.values()):
        return "provisional"
    for averaged in (True, False):
        front = on_front(observations(snapshot, "provisional", averaged=averaged), snapshot.study)
        if all(o.trial.number in snapshot.finals for o in front):
            return "measured"
    return "provisional"


def _finished(trial: Trial, study: Study) -> bool:
    return (
        trial.state is State.COMPLETE
        and trial.control_of is None
        and trial.samples == study.fidelity.full
        and not trial.card.get("unpriced")
    )


def _observe(snapshot: Snapshot, trials: list[Trial], latency: Timing) -> Observation | None:
    """Return the mean over the trials, or None where something a front needs is unknown."""
    finals = [snapshot.finals[t.number] for t in trials if t.number in snapshot.finals]
    values = _means(known(t) for t in trials)
    if latency == "measured":
        timed = [float(f.latency["median_ms"]) for f in finals if f.latency]
        values.pop(LATENCY, None)
        if timed:
            values[LATENCY] = sum(timed) / len(timed)
        elif uses_latency(snapshot.study):
            return None
    if any(name not in values for name in snapshot.study.objectives):
        return None
    test = _means(f.test for f in finals if f.test)
    return Observation(trials[0], values, tuple(trials), test, latency)


def known(trial: Trial) -> dict[str, float]:
    """Return every axis that a trial knows, from its score and its cost card."""
    card = {name: trial.card[name] for name in AXES if trial.card.get(name) is not None}
    if "macs" in card:
        card["flops"] = 2 * card["macs"]
    whole = {**card, **trial.values}
    return {name: float(v) for name, v in whole.items() if v is not None and math.isfinite(v)}


def _means(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every name that all rows know."""
    kept = list(rows)
    shared = [name for name in kept[0] if all(name in row for row in kept)] if kept else []
    return {name: sum(row[name] for row in kept) / len(kept) for name in shared}


def _feasible(values: dict[str, float], study: Study, slack: float) -> bool:
    for axis, (operator, limit) in study.limits().items():
        if axis not in values:
            return False
        bound = limit * slack if axis == LATENCY else limit
        if values[axis] > bound if operator == "<=" else values[axis] < bound:
            return False
    return True
