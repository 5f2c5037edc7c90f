"""Dominance: which points are no worse everywhere and better somewhere (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def losses(points: ArrayLike, directions: Sequence[str]) -> Floats:
    """Return points (n, m) with every objective turned so that less is better.

    `directions` are "maximize" or "minimize".

    Raises ValueError when the columns do not match `directions` or a value is not finite.
    """
    signs = np.array([-1.0 if d == "maximize" else 1.0 for d in directions])
    array = np.asarray(points, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, len(signs)))
    if array.ndim != 2 or array.shape[1] != len(signs):
        raise ValueError(f"points of shape {array.shape} do not fit {len(signs)} directions")
    if not np.isfinite(array).all():
        raise ValueError("every objective of every point must be finite")
    turned: Floats = array * signs + 0.0  # + 0.0 turns -0.0 into 0.0, so that equal rows are equal
    return turned


def dominates(a: ArrayLike, b: ArrayLike, directions: Sequence[str]) -> bool:
    """Say whether point `a` (m,) is no worse than `b` everywhere and better somewhere."""
    first, second = losses(np.stack([np.asarray(a), np.asarray(b)]), directions)
    return bool((first <= second).all() and (first < second).any())


def nondominated(points: ArrayLike, directions: Sequence[str]) -> NDArray[np.bool_]:
    """Return the mask (n,) of the points that no other point dominates; equal points all stay."""
    return np.array([rank == 0 for rank in _ranks(losses(points, directions), 1)], dtype=np.bool_)


def nondominated_rank(points: ArrayLike, directions: Sequence[str]) -> list[int]:
    """Return each point's rank: 0 on the front, 1 on the front once rank 0 is taken away, ..."""
    return [int(rank) for rank in _ranks(losses(points, directions), None)]


def crowding(points: ArrayLike, ranks: Sequence[int]) -> Floats:
    """Return each point's crowding distance (n,) within its rank; ends are infinite.

    The sum over objectives of the gap between a point's two neighbours, as a share of the rank's
    range (Deb et al. 2002, NSGA-II, section III-B).
    """
    array = np.asarray(points, dtype=np.float64).reshape(len(ranks), -1)
    found = np.zeros(len(ranks))
    for rank in set(ranks):
        rows = np.flatnonzero(np.asarray(ranks) == rank)
        for column in array[rows].T:
            order = np.argsort(column, kind="stable")
            ordered = column[order]
            span = ordered[-1] - ordered[0]
            found[rows[order[[0, -1]]]] = np.inf
            if span > 0:
                found[rows[order[1:-1]]] += (ordered[2:] - ordered[:-2]) / span
    return found


def _ranks(loss: Floats, most: int | None) -> NDArray[np.int64]:
    """Return ranks (n,) by peeling fronts; after `most` fronts the rest share the next rank."""
    if len(loss) == 0:
        return np.empty(0, dtype=np.int64)
    order = np.lexsort(loss.T[::-1])  # by the first objective, ties by the second, ...
    ordered = loss[order]
    fresh = np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)]
    unique = ordered[fresh]
    rank = np.zeros(len(unique), dtype=np.int64)
    left = np.arange(len(unique))
    peeled = 0
    while len(left) and peeled != most:
        front = _first_front(unique[left])
        left = left[~front]
        rank[left] += 1
        peeled += 1
    found = np.empty(len(loss), dtype=np.int64)
    found[order] = rank[np.cumsum(fresh) - 1]
    return found


def _first_front(ordered: Floats) -> NDArray[np.bool_]:
    """Return the non-dominated mask of distinct rows in lexicographic order."""
    if ordered.shape[1] == 1:
        first: NDArray[np.bool_] = np.arange(len(ordered)) == 0
        return first
    if ordered.shape[1] == 2:
        # Every earlier row is no worse in the first objective, so a row stands exactly if it is
        # better in the second than all before it.
        best = np.minimum.accumulate(ordered[:, 1])
        stands: NDArray[np.bool_] = np.r_[True, ordered[1:, 1] < best[:-1]]
        return stands
    # A row can only be dominated by an earlier one, and what a dominated row dominates its
    # dominator dominates too: so the first row left always stands.
    keep = np.zeros(len(ordered), dtype=np.bool_)
    left = np.arange(len(ordered))
    while len(left):
        keep[left[0]] = True
        beaten = (ordered[left] >= ordered[left[0]]).all(axis=1)
        left = left[~beaten]
    return keep
