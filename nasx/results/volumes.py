"""Hypervolumes of one set of candidates under many draws of their scores (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasx.results.dominance import Floats
from nasx.results.hypervolume import hypervolume

AT_ONCE = 2_000_000  # numbers of a grid held in memory


def volumes(draws: Floats, corner: Floats) -> Floats:
    """Return the hypervolume (d,) of each draw of losses (d, n, m) up to `corner` (m,)."""
    varies = [i for i in range(len(corner)) if np.ptp(draws[:, :, i], axis=0).any()]
    kept = draws[:, _matter(draws), :]
    if len(varies) > 1:
        ways = ["minimize"] * len(corner)
        return np.array([hypervolume(points, corner.tolist(), ways) for points in kept])
    column = varies[0] if varies else 0
    costs = np.delete(kept[0], column, axis=1)
    limits = np.delete(corner, column)
    inside = (costs < limits).all(axis=1)
    gains = np.maximum(corner[column] - kept[:, inside, column], 0.0)
    return _under(gains, costs[inside], limits)


def _matter(draws: Floats) -> NDArray[np.bool_]:
    """Return the mask (n,) of candidates that another one does not beat in every single draw."""
    kept = np.ones(draws.shape[1], dtype=np.bool_)
    low, high = draws.min(axis=0), draws.max(axis=0)
    for i in range(len(kept)):
        # Cheap test first: who is nowhere worse at its best draw than i at its worst.
        rivals = np.flatnonzero(kept & (low <= high[i]).all(axis=1))
        rivals = rivals[rivals != i]
        beaten = (draws[:, rivals] <= draws[:, [i]]).all(axis=(0, 2)).any()
        kept[i] = not beaten
    return kept


def _under(gains: Floats, costs: Floats, limits: Floats) -> Floats:
    """Integrate, over all budgets below `limits` (k,), the best gain that a budget buys.

    `costs` (n, k) are the same in every draw of `gains` (d, n), so one grid of budgets serves all.
    """
    total = np.zeros(len(gains))
    if not gains.shape[1]:
        return total
    levels, places = [], []
    for column in costs.T:
        level, place = np.unique(column, return_inverse=True)
        levels.append(level)
        places.append(place)
    sides = [len(level) for level in levels]
    step = max(1, AT_ONCE // max(1, int(np.prod(sides))))
    for start in range(0, len(gains), step):
        part = gains[start : start + step]
        grid = np.zeros((len(part), *sides))
        for i in range(part.shape[1]):
            cell = (slice(None), *(place[i] for place in places))
            grid[cell] = np.maximum(grid[cell], part[:, i])
        for axis in range(1, grid.ndim):
            np.maximum.accumulate(grid, axis=axis, out=grid)
        for level, limit in reversed(list(zip(levels, limits, strict=True))):
            grid = grid @ np.diff(np.r_[level, limit])
        total[start : start + step] = grid
    return total
