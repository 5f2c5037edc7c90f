"""Hypervolumes of one set of candidates under many draws of their scores (numpy only)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nasx.results.dominance import Floats
from nasx.results.hypervolume import hypervolume

AT_ONCE = 2_000_000  # numbers held in memory
EXACT = 30_000  # cells of a grid up to which it is worth its time
SAMPLED = 4096  # budgets beyond it


def volumes(draws: Floats, corner: Floats) -> Floats:
    """Return the hypervolume (d,) of each draw of losses (d, n, m) up to `corner` (m,).

    Fast where one objective alone differs between draws: a score, with exact costs. Of a large
    front in three or more objectives it is estimated, at the same 4,096 budgets in every draw:
    differences between draws are then far more exact than each volume.
    """
    varies = [i for i in range(len(corner)) if np.ptp(draws[:, :, i], axis=0).any()]
    if len(varies) > 1:
        ways = ["minimize"] * len(corner)
        return np.array([hypervolume(points, corner.tolist(), ways) for points in draws])
    column = varies[0] if varies else 0
    costs, limits = np.delete(draws[0], column, axis=1), np.delete(corner, column)
    inside = (costs < limits).all(axis=1)
    # Rows are candidates, so that all draws of one lie together.
    gains = np.maximum(corner[column] - draws[:, inside, column].T, 0.0)
    kept = _ever_ahead(gains, costs[inside])
    gains, costs = gains[kept], costs[inside][kept]
    if not len(gains):
        return np.zeros(len(draws))
    cells = math.prod(len(np.unique(c)) for c in costs.T)
    return (_under if cells <= EXACT else _sampled)(gains, costs, limits)


def _ever_ahead(gains: Floats, costs: Floats) -> NDArray[np.bool_]:
    """Return the mask of candidates on the front of at least one draw; others add nothing."""
    order = np.lexsort((-gains.mean(axis=1), *costs.T[::-1]))  # a rival never comes later
    low, high = gains.min(axis=1), gains.max(axis=1)
    kept = np.zeros(len(gains), dtype=np.bool_)
    for i in order:
        rivals = np.flatnonzero(kept & (costs <= costs[i]).all(axis=1))
        if len(rivals) and low[rivals].max() >= high[i]:
            continue  # beaten whatever is drawn
        kept[i] = not len(rivals) or (gains[rivals].max(axis=0) < gains[i]).any()
    return kept


def _under(gains: Floats, costs: Floats, limits: Floats) -> Floats:
    """Integrate, over all budgets below `limits` (k,), the best gain that a budget buys.

    `costs` (n, k) are the same in every draw of `gains` (n, d), so one grid of budgets serves all.
    """
    levels, places = [], []
    for column in costs.T:
        level, place = np.unique(column, return_inverse=True)
        levels.append(level)
        places.append(place)
    sides = [len(level) for level in levels]
    total = np.zeros(gains.shape[1])
    step = max(1, AT_ONCE // math.prod(sides))
    for start in range(0, len(total), step):
        part = gains[:, start : start + step]
        grid = np.zeros((part.shape[1], *sides))
        for i, gain in enumerate(part):
            cell = (slice(None), *(place[i] for place in places))
            grid[cell] = np.maximum(grid[cell], gain)
        for axis in range(1, grid.ndim):
            np.maximum.accumulate(grid, axis=axis, out=grid)
        for level, limit in reversed(list(zip(levels, limits, strict=True))):
            grid = grid @ np.diff(np.r_[level, limit])
        total[start : start + step] = grid
    return total


def _sampled(gains: Floats, costs: Floats, limits: Floats) -> Floats:
    """Estimate the same integral as the mean over budgets drawn evenly, alike for every call."""
    least = costs.min(axis=0)
    budgets = least + np.random.default_rng(0).random((SAMPLED, len(limits))) * (limits - least)
    best = np.zeros((SAMPLED, gains.shape[1]))
    for gain, cost in zip(gains, costs, strict=True):
        bought = (cost <= budgets).all(axis=1)
        best[bought] = np.maximum(best[bought], gain)
    found: Floats = best.mean(axis=0) * np.prod(limits - least)
    return found
