"""Where the score is best at each budget, with an interval from a bootstrap over architectures.

A candidate with all its replicates is one architecture. Each resample draws architectures with
replacement, takes the front anew, keeps what lies near it, fits every shape of surface and takes
the one with the least AICc; so selection, fit and choice of shape are all inside the interval
(Efron & Tibshirani 1993, chapter 13; Hurvich & Tsai 1989). What it holds of planted rules is
measured: benchmarks/rule_coverage.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasx.results.dominance import Floats
from nasx.results.forms import Band
from nasx.results.surface import Shape, columns, crest, parts, solve

SHAPES = tuple(Shape(bend, log) for bend in (2, 1, 3) for log in (True, False))
RESAMPLES = 200
TAIL = 0.025  # off each end of the resamples
NEAR = 6.0  # standard errors behind the front, or behind the fitted crest: what a fit stands on
STRAY = 2.0  # how much further behind a score may be than its place on the surface says
TRIALS_EACH = 2.5  # distinct trials per coefficient that a fit reaches out for, if there are


@dataclass(frozen=True)
class Trials:
    """All full-fidelity trials by rising MACs: x = log c (n,), axes (n, A), scores (n,).

    Larger scores are better. `spread` is the standard deviation of replicates (0 where unknown);
    `samples` the validation samples behind a top-1 score, 0 for other scores.
    """

    x: Floats
    axes: Floats
    scores: Floats
    spread: float
    samples: int

    def errors(self, best: Floats) -> Floats:
        """Return one standard error at some scores."""
        if not self.samples:
            return np.full_like(best, self.spread)
        share = np.clip(best / 100, 0.0, 1.0)
        found: Floats = np.maximum(100 * np.sqrt(share * (1 - share) / self.samples), self.spread)
        return found


@dataclass(frozen=True)
class Frame:
    """How budgets and axes are scaled; axes that never vary keep their value."""

    middle: float
    half: float
    spans: Floats  # (A, 2)
    varying: tuple[int, ...]
    still: Floats  # (A,) their common value

    def budgets(self, x: Floats) -> Floats:
        """Return u of x."""
        found: Floats = (x - self.middle) / self.half
        return found

    def scaled(self, axes: Floats, log: bool) -> Floats:
        """Return v (n, varying) of axes (n, A)."""
        low, high = self._ends(log)
        values = self._logs(axes[:, self.varying], log)
        found: Floats = 2 * (values - low) / (high - low) - 1
        return found

    def axes(self, v: Floats, log: bool) -> Floats:
        """Return axes (R, K, A) of v (varying, R, K)."""
        low, high = self._ends(log)
        values = low + (np.moveaxis(v, 0, -1) + 1) / 2 * (high - low)
        found: Floats = np.broadcast_to(self.still, (*v.shape[1:], len(self.still))).copy()
        found[..., self.varying] = np.where(self._by_log(log), np.exp(values), values)
        return found

    def _by_log(self, log: bool) -> np.ndarray:
        return log & (self.spans[self.varying, 0] > 0)

    def _logs(self, values: Floats, log: bool) -> Floats:
        chosen = self._by_log(log)
        found: Floats = np.where(chosen, np.log(np.where(chosen, values, 1.0)), values)
        return found

    def _ends(self, log: bool) -> tuple[Floats, Floats]:
        low, high = self._logs(self.spans[self.varying, :].T, log)
        return low, high


@dataclass(frozen=True)
class Crest:
    """Fitted surfaces, one row for each resample; the first is of all trials."""

    frame: Frame
    coefficients: dict[Shape, Floats]
    chosen: np.ndarray

    def curves(self, x: Floats) -> Floats:
        """Return the best axes (R, K, A) at budgets x (K,)."""
        each = [
            self.frame.axes(
                crest(parts(rows, self.frame.budgets(x), len(self.frame.varying), shape.bend))[0],
                shape.log,
            )
            for shape, rows in self.coefficients.items()
        ]
        found: Floats = np.stack(each)[self.chosen, np.arange(len(self.chosen))]
        return found

    def bands(self, x: Floats) -> list[Band]:
        """Return each axis at budgets x, the mean that of all trials."""
        curves = self.curves(x)
        low, high = np.quantile(curves[1:], [TAIL, 1 - TAIL], axis=0)
        # The whole record's curve is part of its own interval, also where resamples lean away.
        low, high = np.minimum(low, curves[0]), np.maximum(high, curves[0])
        return [Band(curves[0, :, a], low[:, a], high[:, a]) for a in range(curves.shape[2])]


def least_trials(axes: int) -> int:
    """Return how many trials a fit over this many axes needs: two for each coefficient."""
    return 2 * min(shape.parameters(axes) for shape in SHAPES)


def resamples(kept: np.ndarray, times: int = RESAMPLES) -> Floats:
    """Return how often each trial counts (1 + times, n): all kept ones once, then draws of them.

    The same record always gives the same draws.
    """
    rng = np.random.default_rng(0)
    n = int(kept.sum())
    counts = np.zeros((1 + times, len(kept)))
    counts[:, kept] = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), times)])
    return counts


def fit(trials: Trials, spans: Floats, counts: Floats) -> Crest:
    """Fit every shape to every row of counts (R, n), and choose among them by row."""
    frame = _frame(trials, spans)
    errors, behind = _behind(trials, counts)
    u, axes = frame.budgets(trials.x), len(frame.varying)
    coefficients, criteria = {}, []
    for shape in SHAPES:
        regressors = columns(u, frame.scaled(trials.axes, shape.log), shape.bend)
        least = TRIALS_EACH * regressors.shape[1]
        rows = solve(regressors, trials.scores, _near(behind, errors, counts, least))
        # Again with what lies near the fitted crest: the first choice went by scores with their
        # noise, and cuts the lucky from the unlucky. A score far below its neighbours' (a training
        # that went wrong) stays out.
        below = crest(parts(rows, u, axes, shape.bend))[1] - rows @ regressors.T
        weights = _near(np.maximum(below, behind / STRAY), errors, counts, least)
        rows = solve(regressors, trials.scores, weights)
        squares = weights * (trials.scores - rows @ regressors.T) ** 2
        n = np.maximum(weights.sum(axis=1), 1.0)
        mean = np.maximum(squares.sum(axis=1) / n, 1e-12)
        p, distinct = regressors.shape[1], (weights > 0).sum(axis=1)
        criteria.append(np.log(mean) + 2 * p / np.maximum(distinct - p - 1, 1.0))
        coefficients[shape] = rows
    return Crest(frame, coefficients, np.argmin(criteria, axis=0))


def _frame(trials: Trials, spans: Floats) -> Frame:
    moved = np.ptp(trials.axes, axis=0) > 0
    low, high = float(trials.x.min()), float(trials.x.max())
    return Frame(
        middle=(low + high) / 2,
        half=max((high - low) / 2, 1e-9),
        spans=spans,
        varying=tuple(np.flatnonzero(moved).tolist()),
        still=trials.axes[0],
    )


def _behind(trials: Trials, counts: Floats) -> tuple[Floats, Floats]:
    """Return each row's standard errors and distances behind its own front, both (R, n)."""
    best = np.maximum.accumulate(np.where(counts > 0, trials.scores, -np.inf), axis=1)
    best = np.where(np.isfinite(best), best, trials.scores)  # cheaper than all that were drawn
    return trials.errors(best), best - trials.scores


def _near(behind: Floats, errors: Floats, counts: Floats, least: float) -> Floats:
    """Return the counts of what lies near: within NEAR errors, or as far as `least` trials take."""
    behind = np.maximum(behind, 0.0)
    ordered = np.sort(np.where(counts > 0, behind, np.inf), axis=1)
    last = (counts > 0).sum(axis=1) - 1
    reach = ordered[np.arange(len(ordered)), np.minimum(int(least), last)]
    near = behind <= np.maximum(NEAR * errors, reach[:, None])
    found: Floats = near * counts
    return found
