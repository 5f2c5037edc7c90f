"""Membership: what a stated probability is worth, on planted fronts whose truth is known.

Candidates have true scores around a curve of their cost; `tie` is how far those of like cost lie
apart, in standard deviations between seeds, so that a small one plants many near-ties. The protocol
is that of a search: each candidate is trained once, the front of these scores and its three nearest
are trained again with other seeds, and membership is taken from all of it.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from nasx.results.dominance import nondominated
from nasx.results.membership import FEW, membership

WAYS = ("maximize", "minimize")
EDGES = (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0001)


def planted(seed: int, tie: float, seeds: int = 3, candidates: int = 24, uneven: float = 0.0):
    """Return (membership, truth) of one simulated search."""
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(0, 1, candidates))
    score = 10 * np.sqrt(cost) + rng.normal(0, tie, candidates)
    noise = np.exp(rng.normal(0, uneven, candidates)) if uneven else np.ones(candidates)
    truth = nondominated(np.stack([score, cost], 1), WAYS)
    once = score + noise * rng.standard_normal(candidates)
    first = np.stack([once, cost], 1)
    again = nondominated(first, WAYS)
    behind = np.flatnonzero(~again)
    span = np.ptp(first[again], axis=0) + 1e-9
    steps = (first[again][None] - first[behind][:, None]) / span * (1, -1)
    again[behind[np.argsort(steps.max(2).min(1))[:3]]] = True
    trainings = []
    for i in range(candidates):
        more = seeds - 1 if again[i] else 0
        scores = np.r_[once[i], score[i] + noise[i] * rng.standard_normal(more)]
        trainings.append(np.stack([scores, np.full(more + 1, cost[i])], 1))
    found = membership(trainings, WAYS, np.random.default_rng(0), draws=500)
    assert found is not None
    return found, truth


def many(count: int, tie: float, seeds: int = 3, uneven: float = 0.0):
    pairs = [planted(1000 + s, tie, seeds, uneven=uneven) for s in range(count)]
    return [np.concatenate(part) for part in zip(*pairs, strict=True)]


def coverage(stated, truth) -> float:
    """Share of the true front members that a threshold of 5 % keeps."""
    return float((stated[truth] >= 0.05).mean())


def share_held(pairs) -> float:
    """Share of the true front members in the smallest set that should hold 95 % of them."""
    held = true = 0
    for stated, truth in pairs:
        order = np.argsort(-stated)
        enough = np.searchsorted(np.cumsum(stated[order]), 0.95 * stated.sum()) + 1
        held += int(truth[order[:enough]].sum())
        true += int(truth.sum())
    return held / true


def reliability(stated, truth) -> list[tuple[float, float, int]]:
    """Return (mean stated, observed share, candidates) by bins of the stated probability."""
    place = np.digitize(stated, EDGES) - 1
    return [
        (float(stated[place == k].mean()), float(truth[place == k].mean()), int((place == k).sum()))
        for k in range(len(EDGES) - 1)
    ]


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_95_percent_set_holds_90_to_98_percent_of_the_true_front(seeds: int) -> None:
    """210 planted fronts of 24 candidates, from many near-ties to few."""
    pairs = [
        planted(1000 * k + s, tie, seeds)
        for k, tie in enumerate((1.0, 1.5, 3.0))
        for s in range(70)
    ]
    assert 0.90 <= share_held(pairs) <= 0.98
    stated, truth = (np.concatenate(part) for part in zip(*pairs, strict=True))
    contested = truth & (stated < 0.95)  # a member that nobody doubts is kept by any threshold
    assert 0.90 <= coverage(stated, contested) <= 0.98


def test_a_stated_probability_is_met() -> None:
    """In every bin of 200 planted fronts the observed share is near the stated one."""
    stated, truth = many(200, tie=1.5)
    rows = reliability(stated, truth)
    lines = [f"{said:6.2f} {seen:8.2f} {count:10d}" for said, seen, count in rows]
    sys.stdout.write("\n".join(["stated observed candidates", *lines, ""]))  # shown by pytest -rP
    for said, seen, count in rows:
        assert abs(said - seen) <= 0.06 + 2 * (said * (1 - said) / count) ** 0.5


def test_resampling_own_replicates_alone_would_be_too_sure() -> None:
    """Of two trainings each, a true member is missed far more often than 5 % of the time."""
    missed = kept = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        pair = rng.standard_normal((2, 2)) + np.array([[0.5], [0.0]])  # the first is truly better
        picks = rng.integers(2, size=(400, 2, 2))
        means = np.take_along_axis(np.broadcast_to(pair, (400, 2, 2)), picks, 2).mean(2)
        missed += (means[:, 0] >= means[:, 1]).mean() < 0.05
        trainings = [np.stack([row, np.ones(2)], 1) for row in pair]
        found = membership(trainings, WAYS, np.random.default_rng(seed), draws=400)
        kept += found[0] >= 0.05
    assert missed / 300 > 0.08
    assert kept / 300 >= 0.95


def test_one_that_nothing_reaches_is_sure_and_one_far_behind_is_not() -> None:
    trainings = [
        np.array([[90.0, 2.0], [90.4, 2.0], [89.6, 2.0]]),
        np.array([[70.0, 1.0], [70.2, 1.0]]),  # the cheapest stands whatever it scores
        np.array([[60.0, 3.0]]),
    ]
    found = membership(trainings, WAYS, np.random.default_rng(0))
    assert found.tolist() == [1.0, 1.0, 0.0]


def test_equals_share_the_front_and_a_single_training_borrows_the_spread() -> None:
    trainings = [
        np.array([[80.0, 1.0], [81.0, 1.0], [79.0, 1.0]]),
        np.array([[80.0, 1.0]]),
    ]
    first, second = membership(trainings, WAYS, np.random.default_rng(0))
    assert first == pytest.approx(0.5, abs=0.06)
    assert second == pytest.approx(1 - first, abs=0.06)


def test_without_replicates_there_is_no_probability() -> None:
    assert membership([np.array([[80.0, 1.0]])], WAYS, np.random.default_rng(0)) is None


def test_a_limit_on_a_score_keeps_a_draw_off_the_front_and_from_beating_others() -> None:
    trainings = [
        np.array([[80.0, 1.0], [81.0, 1.0], [79.0, 1.0]]),
        np.array([[60.0, 2.0], [61.0, 2.0], [59.0, 2.0]]),
    ]
    free = membership(trainings, WAYS, np.random.default_rng(0))
    assert free.tolist() == [1.0, 0.0]
    limit = [(0, "<=", 80.0)]
    half, other = membership(trainings, WAYS, np.random.default_rng(0), bounds=limit)
    assert half == pytest.approx(0.5, abs=0.06)
    assert other == pytest.approx(1 - half, abs=1e-9)


def test_objectives_of_one_training_stay_together() -> None:
    """Two scores that rise and fall together: a tie in both is half, not a quarter each way."""
    ways = ("maximize", "maximize")
    rows = np.array([[80.0, 30.0], [82.0, 32.0], [78.0, 28.0]])
    first, second = membership([rows, rows.copy()], ways, np.random.default_rng(0))
    assert first + second == pytest.approx(1.0, abs=0.2)  # apart, both would stand half the time
    loose = np.array([[80.0, 30.0], [82.0, 28.0], [78.0, 32.0]])
    assert sum(membership([loose, loose.copy()], ways, np.random.default_rng(0))) > 1.7


def test_leaving_out_those_far_behind_changes_nothing_and_many_are_quick() -> None:
    rng = np.random.default_rng(3)
    count = FEW + 20
    cost, other = rng.uniform(0, 1, (2, count))
    score = 10 * cost + 5 * other + rng.normal(0, 0.5, count)
    trainings = [
        np.stack([s + rng.normal(0, 0.3, 3), np.full(3, c), np.full(3, o)], 1)
        for s, c, o in zip(score, cost, other, strict=True)
    ]
    ways = ("maximize", "minimize", "minimize")
    began = time.process_time()
    some = membership(trainings, ways, np.random.default_rng(0))
    assert time.process_time() - began < 3
    everyone = membership(trainings, ways, np.random.default_rng(0), bounds=[(0, ">=", -1e9)])
    assert np.abs(some - everyone).max() < 0.05
    assert some[np.argmin(cost + other)] > 0
