"""Candidates with their scores drawn anew from their noise, as if all had been trained again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasx.axes import AXES
from nasx.results.dominance import Floats, losses
from nasx.results.noise import Noise, noise_of
from nasx.results.observed import Observation, directions, points
from nasx.study import Study
from nasx.trial import Snapshot

DRAWS = 1000


def noises_of(pools: Sequence[Sequence[Observation]], runs: Sequence[Snapshot]) -> list[Noise]:
    """Return the noise of every score among the objectives, pooled over the runs."""
    scores = [name for name in runs[0].study.objectives if AXES[name].kind == "score"]
    once = {_identity(o): o for pool in pools for o in pool}
    observed = [once[name] for name in sorted(once)]
    return [noise_of(observed, score, runs) for score in scores]


def redrawn(
    pools: Sequence[Sequence[Observation]],
    study: Study,
    noises: Sequence[Noise],
    rng: np.random.Generator,
) -> list[Floats] | None:
    """Return each pool's losses (1 + DRAWS, n, m), or None where a score's noise is not known.

    The first are as observed. A training that stands in several pools is drawn once for all, and
    a network's scores share their luck. What is drawn depends on the set of trainings, not on the
    order of the pools.
    """
    if not all(noise.known for noise in noises):
        return None
    order = sorted({_identity(o) for pool in pools for o in pool})
    place = {name: i for i, name in enumerate(order)}
    luck = rng.standard_normal((1 + DRAWS, len(order)))
    luck[0] = 0.0
    names, streams = list(study.objectives), rng.integers(2**63, size=len(noises))
    found = []
    for pool in pools:
        drawn = np.repeat(losses(points(pool, study), directions(study))[None], len(luck), axis=0)
        own = luck[:, [place[_identity(o)] for o in pool]]
        for noise, stream in zip(noises, streams, strict=True):
            errors = noise.errors(pool, len(luck), np.random.default_rng(stream))
            drawn[:, :, names.index(noise.score)] += own * errors
        found.append(drawn)
    return found


def _identity(o: Observation) -> tuple[Any, ...]:
    """Return what tells trainings apart: equal in two records, they are the same."""
    return (o.trial.key, *((t.seed, *sorted(t.values.items())) for t in o.trials))
