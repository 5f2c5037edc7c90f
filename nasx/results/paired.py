"""Paired differences by seed: mean, 95 % bootstrap interval, signs.

The interval is the studentised paired bootstrap (bootstrap-t; Efron & Tibshirani 1993, section
12.5): differences are resampled by seed, and each resampled mean is measured in its own standard
error. At the handful of seeds that training affords, the plain percentile interval is far too
short. Share of 2,000 simulated samples whose 95 % interval held the true mean, n = 5 / 10 / 20:

                 normal              exponential         Student t, 3 df
percentile       .85 / .91 / .93     .79 / .85 / .91     .84 / .89 / .91
BCa              .85 / .91 / .93     .80 / .86 / .91     .82 / .87 / .89
Student t        .96 / .96 / .95     .89 / .89 / .91     .96 / .96 / .95
studentised      .96 / .95 / .95     .93 / .94 / .95     .95 / .93 / .92

It pays in length: at n = 5 it is about 1.3 times Student's, from n = 10 on nearly the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np

from nasx.results.dominance import Floats

LEVEL = 0.95
LEAST = 5  # pairs below which there is neither an interval nor a verdict
EQUAL = 1e-9  # differences below are rounding
WHOLE = 8  # up to so many values every resample is taken; beyond, a sample of them
RESAMPLES = 20_000
SEED = 20_26  # of the sample of resamples


@dataclass(frozen=True)
class Paired:
    """First less second, over the seeds that both have.

    `low` and `high` are None below LEAST pairs. `more`, `fewer` and `ties` count the seeds at which
    the first is above, below or equal.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    first: float | None
    second: float | None
    mean: float | None
    low: float | None
    high: float | None
    more: int
    fewer: int
    ties: int

    @property
    def n(self) -> int:
        """Return the number of complete pairs."""
        return len(self.seeds)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired:
    """Return the paired difference of two arms' scores by seed."""
    seeds = tuple(sorted(first.keys() & second.keys()))
    a = np.array([first[s] for s in seeds], dtype=np.float64)
    b = np.array([second[s] for s in seeds], dtype=np.float64)
    difference = a - b
    low, high = interval(difference) if len(seeds) >= LEAST else (None, None)
    return Paired(
        seeds=seeds,
        differences=tuple(difference.tolist()),
        first=float(a.mean()) if seeds else None,
        second=float(b.mean()) if seeds else None,
        mean=float(difference.mean()) if seeds else None,
        low=low,
        high=high,
        more=int((difference > EQUAL).sum()),
        fewer=int((difference < -EQUAL).sum()),
        ties=int((abs(difference) <= EQUAL).sum()),
    )


def pooled(conditions: Mapping[str, tuple[Mapping[int, float], Mapping[int, float]]]) -> Paired:
    """Return the difference over all conditions: seeds are blocks, as they are shared.

    A seed counts with the mean of its conditions; one that lacks any of them is left out.
    """
    pairs = list(conditions.values())
    complete = set.intersection(*(set(a) & set(b) for a, b in pairs)) if pairs else set()

    def mean(side: int) -> dict[int, float]:
        return {s: float(np.mean([pair[side][s] for pair in pairs])) for s in complete}

    return paired(mean(0), mean(1))


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean of two or more values."""
    n = len(values)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    counts, weights = resamples(n)
    centred = values - mean
    means = counts @ centred / n
    spread = (counts * (centred[None, :] - means[:, None]) ** 2).sum(axis=1) / (n - 1)
    errors = np.sqrt(spread / n)
    # One value n times has no error of its own to measure it in: it is infinitely far.
    none = errors <= 1e-9 * error
    t = np.where(none, np.copysign(np.inf, means), means / np.where(none, 1.0, errors))
    tail = (1 - LEVEL) / 2
    upper, lower = _quantile(t, weights, 1 - tail), _quantile(t, weights, tail)
    if not math.isfinite(upper - lower):  # among many ties these are many: Student's stands in
        from scipy.special import stdtrit

        student = float(stdtrit(n - 1, 1 - tail))
        upper = upper if math.isfinite(upper) else student
        lower = lower if math.isfinite(lower) else -student
    return mean - upper * error, mean - lower * error


@lru_cache(maxsize=32)
def resamples(n: int) -> tuple[Floats, Floats]:
    """Return how often each of n values is drawn (m, n), and each resample's probability (m,)."""
    if n > WHOLE:
        drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        return drawn.astype(np.float64), np.full(RESAMPLES, 1 / RESAMPLES)
    rows = [np.bincount(c, minlength=n) for c in combinations_with_replacement(range(n), n)]
    orders = [math.factorial(n) / math.prod(math.factorial(k) for k in row) for row in rows]
    return np.array(rows, dtype=np.float64), np.array(orders) / n**n


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(reached, share - 1e-12)), len(order) - 1)])
