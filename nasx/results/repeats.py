"""What replicates tell: a candidate's chance to stand on the front, and which of them failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasx.axes import AXES
from nasx.results.dominance import Floats
from nasx.results.membership import Bound, membership
from nasx.results.observed import Observation, directions, known
from nasx.study import Study
from nasx.trial import Snapshot, State

LEAST = 0.05  # membership from which a candidate behind the front is worth a look


def memberships(observed: Sequence[Observation], study: Study) -> dict[int, float]:
    """Return by trial number the probability of standing on the front; empty without replicates.

    Replicates move what they measure anew, scores first of all. Latencies and limits on costs are
    taken as they are: the quiet pass times one of a candidate's networks, not each replicate. The
    draws start from the study's seed, so that the same record gives the same numbers.
    """
    scored = [axis for axis in study.limits() if AXES[axis].kind == "score"]
    axes = list(dict.fromkeys([*study.objectives, *scored]))
    bounds: list[Bound] = [(axes.index(axis), *study.limits()[axis]) for axis in scored]
    trainings = [_trainings(o, axes) for o in observed]
    generator = np.random.default_rng(study.search.seed)
    found = membership(trainings, directions(study), generator, bounds=bounds)
    if found is None:
        return {}
    return {o.trial.number: float(p) for o, p in zip(observed, found, strict=True)}


def _trainings(observed: Observation, axes: Sequence[str]) -> Floats:
    rows = []
    for trial in observed.trials:
        own = known(trial)
        moves = (axis for axis in axes if AXES[axis].kind != "measured" and axis in own)
        rows.append({**observed.values, **{axis: own[axis] for axis in moves}})
    return np.array([[row[axis] for axis in axes] for row in rows])


def failed(snapshot: Snapshot, number: int) -> list[dict[str, Any]]:
    """Return the replicates of a trial that failed: their trial, seed and reason."""
    return [
        {"trial": t.name, "seed": t.seed, "reason": t.reason or "no reason recorded"}
        for t in snapshot.trials
        if t.replicate_of == number and t.state is State.FAILED
    ]
