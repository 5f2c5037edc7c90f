"""Curves through the points near a front: one axis as a function of x = log c, with intervals.

They stand beside the rule (`crest`) for comparison. A search's own points lie where it looked and
were chosen for being good: intervals of these held planted values 72 to 97 % of the time.

gp      the tiny formula: a Gaussian process with an RBF kernel in log c on values centred by
        their mean; length and noise by maximum marginal likelihood (TinyNet,
        arXiv:2010.14819; Rasmussen & Williams 2006, section 2.2 and equation 5.8)
plain   the formula as the paper writes it: zero mean, uncentred, an RBF kernel in c itself
        with fixed length and noise
power   axis = a c^b, least squares in logarithms
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nasx.results.dominance import Floats

LEVEL = 0.95  # of every interval
PLAIN_LENGTH, PLAIN_NOISE = 1.0, 0.1  # the paper does not state its own
LENGTHS = np.geomspace(0.2, 10.0, 14)  # tried, as multiples of the span of x
NOISES = np.geomspace(1e-3, 30.0, 14)  # tried, as noise variance over signal variance
FOLDS = 40  # leave-one-out up to so many points; beyond, as many interleaved folds


@dataclass(frozen=True)
class Band:
    """A curve with its 95 % interval, each (n,)."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Fit:
    """A fitted form: `predict` maps x (n,) to a Band; `parameters` in words for the report."""

    predict: Callable[[Floats], Band]
    parameters: dict[str, float] = field(default_factory=dict)


Form = Callable[[Floats, Floats], Fit]


def gp(x: Floats, y: Floats) -> Fit:
    """Fit the tiny formula; the interval is that of the curve, not of single points.

    The curve is that of the likeliest length and noise. Its variance is averaged over all that
    were tried, weighted by likelihood: with a dozen points the likeliest pair alone is too sure
    of itself (planted curves lay inside a 95 % interval 77 to 92 % of the time at 6 to 12 points).
    """
    n, mean = len(y), float(y.mean())
    z = y - mean
    lengths = LENGTHS * max(float(np.ptp(x)), 1e-9)
    values, vectors = np.linalg.eigh(_rbf(x, x, lengths))  # (L, n), (L, n, n)
    spectrum = np.maximum(values, 0.0)[:, None, :] + NOISES[None, :, None]  # (L, N, n)
    parts = np.einsum("lij,i->lj", vectors, z)[:, None, :]  # z and 1 along each eigenvector
    ones = vectors.sum(axis=1)[:, None, :]
    # The signal variance has a closed-form optimum, so only length and noise are searched. The
    # floor keeps a constant axis from an infinite likelihood.
    floor = (1e-6 * max(1.0, abs(mean))) ** 2
    variance = np.maximum((parts**2 / spectrum).sum(axis=2) / n, floor)  # (L, N)
    likelihood = -0.5 * (n * np.log(variance) + np.log(spectrum).sum(axis=2))
    belief = np.exp(likelihood - likelihood.max())
    belief /= belief.sum()
    best = np.unravel_index(int(np.argmax(likelihood)), likelihood.shape)
    signal = variance * n / max(n - 1, 1)  # one degree of freedom went into the mean
    quantile = _quantile(n - 1)

    def predict(at: Floats) -> Band:
        cross = (_rbf(at, x, lengths) @ vectors)[:, None]  # (L, 1, m, n), along the eigenvectors
        scaled = cross / spectrum[:, :, None, :]  # (L, N, m, n)
        curves = (scaled * parts[:, :, None, :]).sum(axis=3)
        # Prior variance less what the points tell, plus the uncertainty of the mean itself.
        told = (scaled * cross).sum(axis=3)
        unsure = (1.0 - (scaled * ones[:, :, None, :]).sum(axis=3)) ** 2
        unsure /= (ones**2 / spectrum).sum(axis=2)[:, :, None]
        curve = curves[best]
        each = signal[:, :, None] * (np.maximum(1.0 - told, 0.0) + unsure) + (curves - curve) ** 2
        return _band(mean + curve, quantile * np.sqrt(np.einsum("ln,lnm->m", belief, each)))

    found = {
        "length": float(lengths[best[0]]),
        "signal": float(signal[best]) ** 0.5,
        "noise": float(signal[best] * NOISES[best[1]]) ** 0.5,
        "mean": mean,
    }
    return Fit(predict, found)


def plain(x: Floats, y: Floats) -> Fit:
    """Fit the paper's zero-mean GP in c = exp(x), length 1, unit signal, noise 0.1."""

    def kernel(a: Floats, b: Floats) -> Floats:
        gap: Floats = np.exp(a)[:, None] - np.exp(b)[None, :]
        found: Floats = np.exp(-0.5 * (gap / PLAIN_LENGTH) ** 2)
        return found

    inverse = np.linalg.inv(kernel(x, x) + PLAIN_NOISE**2 * np.eye(len(x)))

    def predict(at: Floats) -> Band:
        cross = kernel(at, x)
        told = np.einsum("ai,ij,aj->a", cross, inverse, cross)
        return _band(cross @ inverse @ y, 1.96 * np.sqrt(np.maximum(1.0 - told, 0.0)))

    return Fit(predict, {"length": PLAIN_LENGTH, "signal": 1.0, "noise": PLAIN_NOISE, "mean": 0.0})


def power(x: Floats, y: Floats) -> Fit:
    """Fit axis = a c^b by least squares in logarithms; `y` must be positive."""
    n, middle = len(x), float(x.mean())
    logs = np.log(y)
    around = max(float(((x - middle) ** 2).sum()), 1e-12)  # one budget only: no slope, no limit
    slope = float(((x - middle) * (logs - logs.mean())).sum()) / around
    level = float(logs.mean())
    rest = logs - level - slope * (x - middle)
    spread = float(np.sqrt((rest**2).sum() / max(n - 2, 1)))
    quantile = _quantile(n - 2)

    def predict(at: Floats) -> Band:
        line = level + slope * (at - middle)
        half = quantile * spread * np.sqrt(1.0 / n + (at - middle) ** 2 / around)
        half = np.minimum(half, 50.0)  # e^50 is no interval either, and still finite
        return Band(np.exp(line), np.exp(line - half), np.exp(line + half))

    half = quantile * spread / around**0.5
    bounds = {"b_low": slope - half, "b_high": slope + half}
    return Fit(predict, {"a": float(np.exp(level - slope * middle)), "b": slope, **bounds})


FORMS: dict[str, Form] = {"gp": gp, "plain": plain, "power": power}


def usable(form: str, y: Floats) -> bool:
    """Say whether a form can be fitted to these values (a power law needs positive ones)."""
    return form != "power" or bool((y > 0).all())


def left_out(form: Form, x: Floats, y: Floats) -> Floats:
    """Return the error (n,) of predicting each point from a fit without it.

    Everything is fitted anew without the point, hyper-parameters too.
    """
    errors = np.empty(len(x))
    folds = np.arange(len(x)) % FOLDS
    for fold in range(min(FOLDS, len(x))):
        out = folds == fold
        errors[out] = form(x[~out], y[~out]).predict(x[out]).mean - y[out]
    return errors


def _rbf(a: Floats, b: Floats, lengths: Floats) -> Floats:
    """Return the kernel matrices (lengths, a, b)."""
    gaps = (a[:, None] - b[None, :]) ** 2
    found: Floats = np.exp(-0.5 * gaps / lengths[:, None, None] ** 2)
    return found


def _band(mean: Floats, half: Floats) -> Band:
    return Band(mean, mean - half, mean + half)


def _quantile(degrees: int) -> float:
    """Return Student's t at the level, for at least one degree of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, max(degrees, 1)))
