"""A score as a smooth surface over budget and axes, fitted by least squares, and its crest.

With u = log c and v = the axes, both scaled to [-1, 1], a surface is

    score = p(u) + sum_a (s_a(u) v_a + q_a v_a^2) + sum_ab x_ab v_a v_b

p a polynomial of degree 2, 4 or 5 and s_a one of degree 1, 2 or 3 (`bend`): the crest, which is
the best v at each u, is then a line or a curve (response surfaces: Box & Wilson 1951). All
functions take many surfaces at once: R rows of coefficients, from R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasx.results.dominance import Floats

DEGREES = {1: 2, 2: 4, 3: 5}  # of p by bend: what a crest of that bend takes from a parabola
RIDGE = 1e-5  # per trial; keeps coefficients finite that a resample leaves undetermined
SWEEPS = 15  # of the ascent, one axis at a time


@dataclass(frozen=True)
class Shape:
    """One kind of surface: how far the crest bends, and whether axes count by logarithm."""

    bend: int
    log: bool

    def parameters(self, axes: int) -> int:
        """Return the number of coefficients."""
        return DEGREES[self.bend] + 1 + axes * (2 + self.bend) + axes * (axes - 1) // 2


@dataclass(frozen=True)
class Parts:
    """Surfaces at K budgets: level (R, K), slope (A, R, K), curvature (A, R, 1), cross."""

    level: Floats
    slope: Floats
    curvature: Floats
    cross: dict[tuple[int, int], Floats]  # (R, 1) of each pair of axes, both ways round


def columns(u: Floats, v: Floats, bend: int) -> Floats:
    """Return the regressors (n, p) of trials at u (n,), v (n, A)."""
    found = [u**k for k in range(DEGREES[bend] + 1)]
    for a in range(v.shape[1]):
        found += [v[:, a], v[:, a] ** 2, *(v[:, a] * u**k for k in range(1, bend + 1))]
    found += [v[:, a] * v[:, b] for a in range(v.shape[1]) for b in range(a)]
    return np.stack(found, axis=1)


def solve(regressors: Floats, scores: Floats, weights: Floats) -> Floats:
    """Return the coefficients (R, p) for rows of weights (R, n)."""
    n, p = regressors.shape
    products = (regressors[:, :, None] * regressors[:, None, :]).reshape(n, p * p)
    normal = (weights @ products).reshape(-1, p, p)
    ridge = RIDGE * np.eye(p)
    ridge[0, 0] = 0.0
    normal = normal + ridge * np.maximum(weights.sum(axis=1), 1.0)[:, None, None]
    found: Floats = np.linalg.solve(normal, (weights @ (regressors * scores[:, None]))[..., None])
    return found[..., 0]


def parts(coefficients: Floats, u: Floats, axes: int, bend: int) -> Parts:
    """Return the surfaces at budgets u (K,)."""
    at = DEGREES[bend] + 1
    level = coefficients[:, :at] @ u ** np.arange(at)[:, None]
    slope, curvature = [], []
    for _ in range(axes):
        slopes = coefficients[:, [at, *range(at + 2, at + 2 + bend)]]
        slope.append(slopes @ u ** np.arange(bend + 1)[:, None])
        curvature.append(coefficients[:, at + 1, None])
        at += 2 + bend
    cross = {}
    for a in range(axes):
        for b in range(a):
            cross[a, b] = cross[b, a] = coefficients[:, at, None]
            at += 1
    return Parts(level, np.array(slope), np.array(curvature), cross)


def crest(found: Parts) -> tuple[Floats, Floats]:
    """Return the best v (A, R, K) in [-1, 1] and the surface's height there (R, K).

    Exact where a surface is concave. An axis along which it is not has its optimum at an end.
    """
    slope, curvature, axes = found.slope, found.curvature, len(found.slope)
    v = np.zeros_like(slope)
    for _ in range(SWEEPS if axes > 1 else 1):
        for a in range(axes):
            pull = slope[a] + sum(found.cross[a, b] * v[b] for b in range(axes) if b != a)
            top = -pull / (2 * np.minimum(curvature[a], -1e-12))
            v[a] = np.where(curvature[a] < 0, np.clip(top, -1.0, 1.0), np.sign(pull))
    height = found.level + (slope * v + curvature * v**2).sum(axis=0)
    for (a, b), cross in found.cross.items():
        if a > b:
            height = height + cross * v[a] * v[b]
    return v, height
