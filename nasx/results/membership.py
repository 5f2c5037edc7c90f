"""How sure a front is: the probability that each candidate stands on it (numpy only).

A draw resamples whole replicates (a multiplier bootstrap): every candidate's mean is moved by a
random combination of residuals, a residual being one training's difference from its candidate's
mean in all columns together, and the front is taken anew. Two or three replicates know their own
spread badly, so residuals are pooled over the candidates, and scaled in each draw by how uncertain
the pooled variance itself is (sqrt(nu / chi2(nu)), as in Student's t). Picking among a candidate's
own replicates, without that, is too sure of itself, and with two or three of them mostly ties.

What a stated probability is worth was measured on planted fronts (tests/test_membership.py and
docs/evidence.md have the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nasx.results.dominance import Floats, losses

DRAWS = 2000  # Monte Carlo error of a probability: at most .011
CELLS = 4_000_000  # comparisons in memory at once
FAR = 3.0  # standard deviations that one training hardly moves
FEW = 40  # candidates that are all compared; of more, those far behind are left out first

Bound = tuple[int, str, float]  # column, "<=" or ">=", limit


def membership(
    replicates: Sequence[Floats],
    directions: Sequence[str],
    generator: np.random.Generator,
    *,
    bounds: Sequence[Bound] = (),
    draws: int = DRAWS,
) -> Floats | None:
    """Return each candidate's probability (n,) of standing on the front, or None.

    `replicates` has one array (trainings, columns) per candidate: the objectives of `directions`
    first, then further columns that only `bounds` speaks of. A candidate with a single training
    borrows the spread of the others; where nobody was trained twice there is no spread to borrow,
    and the answer is None.
    """
    counts = np.array([len(r) for r in replicates])
    if not (counts > 1).any():
        return None
    means = np.array([r.mean(axis=0) for r in replicates])
    freedom = int((counts - 1).sum())
    residuals = np.concatenate([r - r.mean(axis=0) for r in replicates]) / np.sqrt(freedom)
    # Normal weights times all residuals have the law of fewer weights times their triangle.
    triangle = np.linalg.qr(residuals, mode="r")
    scale = np.sqrt(freedom / generator.chisquare(freedom, draws))
    spread = np.sqrt((residuals**2).sum(axis=0))  # standard deviation of one training
    found = np.zeros(len(means))
    reach = FAR * spread * float(np.quantile(scale, 0.99))
    kept = _contested(means, directions, reach, bounded=bool(bounds))
    ways = list(directions)
    per = max(1, CELLS // (len(kept) ** 2 * len(ways)))
    for start in range(0, draws, per):
        some = scale[start : start + per]
        weights = generator.standard_normal((len(some), len(kept), len(triangle)))
        noise = weights @ triangle / np.sqrt(counts[kept])[:, None]
        moved = means[kept] + noise * some[:, None, None]
        found[kept] += _stand(moved, ways, bounds).sum(axis=0)
    probability: Floats = found / draws
    return probability


def _stand(moved: Floats, directions: Sequence[str], bounds: Sequence[Bound]) -> NDArray[np.bool_]:
    """Return the mask (draws, n) of feasible points that no feasible point dominates."""
    draws, n, _ = moved.shape
    allowed = np.ones((draws, n), dtype=np.bool_)
    for column, operator, limit in bounds:
        values = moved[..., column]
        allowed &= values <= limit if operator == "<=" else values >= limit
    no_worse = np.repeat(allowed[:, :, None], n, axis=2)  # [draw, i, j]: i may beat j
    better = np.zeros((draws, n, n), dtype=np.bool_)
    for column, direction in enumerate(directions):
        value = -moved[..., column] if direction == "maximize" else moved[..., column]
        no_worse &= value[:, :, None] <= value[:, None, :]
        better |= value[:, :, None] < value[:, None, :]
    stand: NDArray[np.bool_] = allowed & ~(no_worse & better).any(axis=1)
    return stand


def _contested(
    means: Floats, directions: Sequence[str], reach: Floats, *, bounded: bool
) -> NDArray[np.intp]:
    """Return the candidates that could stand on a front; none dropped while they are few.

    Left out is what another one beats by more than both could move. It takes nobody along: what it
    dominates, that other one dominates too (as long as no draw can put it over a limit).
    """
    if bounded or len(means) <= FEW:
        return np.arange(len(means))
    loss = losses(means[:, : len(directions)], directions)
    far = 2 * reach[: len(directions)]
    beaten = [bool((loss + far <= row).all(axis=1).any() and (far > 0).any()) for row in loss]
    return np.flatnonzero(~np.array(beaten))
