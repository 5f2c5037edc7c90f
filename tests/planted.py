"""Searches simulated over a planted scaling rule: what its intervals are measured on.

A candidate is (c, r, d): its budget and two axes; the width that meets the budget must lie in
0.35 to 1.3, as in a real space, so corners of the box are missing. Its score falls away from the
planted axes and carries the binomial noise of 1,500 validation samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nasx.results.crest import Trials, fit, resamples
from nasx.results.rule import WIDEST

BOX = np.array([[0.3, 1.3], [0.35, 1.6]])
LEAST_C, SAMPLES = 0.06, 1500
BUDGETS = 7  # at which each simulation is looked at, from end to end of the fitted range

Law = Callable[[np.ndarray], np.ndarray]
LAWS: dict[str, tuple[Law, Law]] = {
    "power": (lambda c: c**0.1, lambda c: 1.1 * c**0.3),
    "saturating": (
        lambda c: 0.45 + 0.55 * (1 - np.exp(-c / 0.2)),
        lambda c: 0.5 + 0.6 * (1 - np.exp(-c / 0.3)),
    ),
    "flat": (lambda c: c**0.2, lambda c: 0.9 + 0 * c),
}
SEARCHES = ("random", "local")
# Points of top-1 lost beside the planted axes: by their logarithms, by their plain values, twice
# as fast below as above (a shape that no fit of ours has), and with an axis that hardly matters.
LOSSES = ("log", "linear", "kinked", "weak")


@dataclass(frozen=True)
class Outcome:
    """One simulation: for each budget and axis whether the truth is inside, width over range.

    `answered` says for each budget whether the rule would name a network there.
    """

    inside: np.ndarray  # (BUDGETS, 2)
    width: np.ndarray  # (BUDGETS, 2)
    answered: np.ndarray  # (BUDGETS,)


def simulate(law: str, search: str, n: int, seed: int, loss: str = "log") -> Trials:
    """Return n trials of a random search, or of one that moves from members of its front."""
    rng = np.random.default_rng([seed, n, list(LAWS).index(law), SEARCHES.index(search)])
    rows: list[tuple[float, float, float, float]] = []
    for i in range(n):
        c, r, d = _drawn(rng) if search == "random" or i < max(10, n // 4) else _moved(rows, rng)
        top1 = min(max(85 + 8 * math.log10(c) - _lost(law, loss, c, r, d), 1.0), 99.0)
        rows.append((c, r, d, 100 * rng.binomial(SAMPLES, top1 / 100) / SAMPLES))
    known = np.array(sorted(rows))
    return Trials(np.log(known[:, 0]), known[:, 1:3], known[:, 3], 0.0, SAMPLES)


def outcome(trials: Trials, law: str, times: int = 200) -> Outcome:
    """Return how the intervals of one simulation fare over the range of its points."""
    best = np.maximum.accumulate(trials.scores)
    points = trials.x[best - trials.scores <= trials.errors(best)]
    x = np.linspace(points[0], points[-1], BUDGETS)
    counts = resamples(np.ones(len(trials.x), bool), times)
    bands = fit(trials, BOX, counts).bands(x)
    truth = [planted(np.exp(x)) for planted in LAWS[law]]
    pairs = list(zip(bands, truth, strict=True))
    inside = [(b.low - 1e-9 <= t) & (t <= b.high + 1e-9) for b, t in pairs]
    width = np.stack([b.high - b.low for b in bands], axis=1) / np.ptp(BOX, axis=1)
    return Outcome(np.stack(inside, axis=1), width, (width <= WIDEST).all(axis=1))


def _lost(law: str, loss: str, c: float, r: float, d: float) -> float:
    best_r, best_d = (float(planted(np.array(c))) for planted in LAWS[law])
    if loss == "linear":
        return 150 * (r - best_r) ** 2 + 25 * (d - best_d) ** 2
    a, b = math.log(r / best_r), math.log(d / best_d)
    if loss == "kinked":
        return 80 * (2 if a < 0 else 1) * a**2 + 17 * (2 if b < 0 else 1) * b**2
    return 120 * a**2 + (6 if loss == "weak" else 25) * b**2


def _legal(c: float, r: float, d: float) -> bool:
    return 0.35 <= math.sqrt(c / (r**2 * d)) <= 1.3


def _drawn(rng: np.random.Generator) -> tuple[float, float, float]:
    while True:
        c = math.exp(rng.uniform(math.log(LEAST_C), 0))
        r, d = rng.uniform(BOX[:, 0], BOX[:, 1])
        if _legal(c, r, d):
            return c, float(r), float(d)


def _moved(
    rows: list[tuple[float, float, float, float]], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return a neighbour of a front member: one of c, r, d about a tenth of its range away."""
    front, best = [], -math.inf
    for row in sorted(rows):
        if row[3] > best:
            front.append(row)
            best = row[3]
    for _ in range(100):
        values = np.array(front[rng.integers(len(front))][:3])
        k, step = rng.integers(3), rng.choice((-1, 1)) * rng.uniform(0.05, 0.15)
        if k == 0:
            values[0] = np.clip(values[0] * LEAST_C**-step, LEAST_C, 1.0)
        else:
            values[k] = np.clip(values[k] + step * np.ptp(BOX[k - 1]), *BOX[k - 1])
        c, r, d = values.tolist()
        if _legal(c, r, d):
            return c, r, d
    return _drawn(rng)
