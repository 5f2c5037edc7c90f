"""Hypervolume: the volume between a set of points and a reference point, exact (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nasx.results.dominance import Floats, losses


def hypervolume(points: ArrayLike, reference: Sequence[float], directions: Sequence[str]) -> float:
    """Return the volume that `points` (n, m) dominate up to `reference` (m,).

    In the product of the objectives' units. A point that is not better than the reference in
    every objective adds nothing. Exact in any dimension: a sweep in two, slices beyond
    (Knowles 2002; While et al. 2006, "hypervolume by slicing objectives").
    """
    corner = losses([list(reference)], directions)[0]
    loss = losses(points, directions)
    loss = loss[(loss < corner).all(axis=1)]
    return _volume(loss, corner) if len(loss) else 0.0


def _volume(loss: Floats, corner: Floats) -> float:
    """Return the volume of minimised points (n >= 1, m), all better than `corner` everywhere."""
    if len(corner) == 1:
        return float(corner[0] - loss[:, 0].min())
    if len(corner) == 2:
        return _sweep(loss, corner)
    # Cut along the last objective: between two cuts the cross-section is the volume, one
    # dimension lower, of all points at or before the first cut.
    ordered = loss[np.argsort(loss[:, -1], kind="stable")]
    depths = np.diff(np.r_[ordered[:, -1], corner[-1]])
    section = np.empty((0, len(corner) - 1))
    area = total = 0.0
    for point, depth in zip(ordered[:, :-1], depths, strict=True):
        if not (section <= point).all(axis=1).any():  # else the cross-section stays as it was
            section = np.vstack([section[~(section >= point).all(axis=1)], point])
            area = _volume(section, corner[:-1])
        total += area * float(depth)
    return total


def _sweep(loss: Floats, corner: Floats) -> float:
    """Return the area of minimised points (n, 2) as strips between neighbours."""
    ordered = loss[np.argsort(loss[:, 0], kind="stable")]
    # The strip to the right of a point is as high as the best second objective so far, so
    # dominated points need no sorting out.
    heights = corner[1] - np.minimum.accumulate(ordered[:, 1])
    widths = np.diff(np.r_[ordered[:, 0], corner[0]])
    return float(widths @ heights)
