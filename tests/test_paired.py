"""Paired differences: closed forms, the whole bootstrap, and how often its interval holds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from nasx.results.paired import interval, paired, pooled, resamples
from nasx.results.verdict import Side, cost_gap, failed, too_few, unmatched, unmet, verdict


def shifted(values: list[float], by: float = 50.0) -> tuple[dict[int, float], dict[int, float]]:
    """Two arms whose differences by seed are `values`, under a large common effect of the seed."""
    common = np.random.default_rng(0).normal(0, 20, len(values))
    second = {s: by + float(c) for s, c in enumerate(common)}
    return {s: second[s] + v for s, v in enumerate(values)}, second


def test_what_seeds_share_cancels():
    found = paired(*shifted([1.0, 2.0, 3.0, -1.0, 0.5]))
    assert found.n == 5
    assert found.mean == pytest.approx(1.1)
    assert found.differences == pytest.approx((1.0, 2.0, 3.0, -1.0, 0.5))
    assert found.first - found.second == pytest.approx(1.1)
    assert (found.more, found.fewer, found.ties) == (4, 1, 0)


def test_equal_differences_have_no_width():
    found = paired({s: 12.0 + s for s in range(6)}, {s: 10.0 + s for s in range(6)})
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
    assert verdict(found, []) == "supported"
    same = paired(dict.fromkeys(range(5), 1.0), dict.fromkeys(range(5), 1.0))
    assert (same.low, same.high, same.ties) == (0.0, 0.0, 5)
    assert verdict(same, []) == "no difference detected"


def test_the_interval_is_that_of_all_resamples():
    values = np.array([0.3, -1.2, 2.0, 0.9, 1.4])
    error = values.std(ddof=1) / math.sqrt(5)
    drawn = values[np.array(list(itertools.product(range(5), repeat=5)))]  # all 3,125, in order
    errors = drawn.std(axis=1, ddof=1) / math.sqrt(5)
    moved = drawn.mean(axis=1) - values.mean()
    alone = errors < 1e-9  # the five of one value have no error to be measured in
    assert alone.sum() == 5
    t = np.sort(np.where(alone, np.copysign(np.inf, moved), moved / np.where(alone, 1, errors)))
    upper, lower = t[math.ceil(0.975 * 3125) - 1], t[math.ceil(0.025 * 3125) - 1]
    low, high = interval(values)
    assert low == pytest.approx(values.mean() - upper * error)
    assert high == pytest.approx(values.mean() - lower * error)


@pytest.mark.parametrize("n", [5, 8, 9])
def test_resamples_are_weighted_draws_of_n(n):
    counts, weights = resamples(n)
    assert (counts.sum(axis=1) == n).all()
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ counts == pytest.approx(np.ones(n), abs=0.03)


def test_among_ties_an_end_without_bound_is_students():
    """Equal values are equal up to rounding: a third of all resamples hold one value alone."""
    values = np.array([0.1 + 0.2, 0.3, 0.3, 0.3, 0.4]) + 3
    low, high = interval(values)
    assert high == pytest.approx(3.32 + 2.776 * 0.02, abs=1e-4)
    assert 3.27 < low < 3.32


def test_the_interval_moves_and_turns_with_its_values():
    values = np.array([0.3, -1.2, 2.0, 0.9, 1.4, 0.1])
    low, high = interval(values)
    assert interval(10 + 3 * values) == pytest.approx((10 + 3 * low, 10 + 3 * high))
    assert interval(-values) == pytest.approx((-high, -low), rel=0.02)


@pytest.mark.parametrize(("n", "samples", "least"), [(5, 1000, 0.94), (10, 200, 0.92)])
def test_the_interval_holds_the_true_mean(n, samples, least):
    """The percentile bootstrap holds it 85 % of the time at n = 5: it would fail here."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(samples):
        low, high = interval(rng.normal(1.0, 2.0, n))
        held += low <= 1.0 <= high
    assert least <= held / samples <= 0.985


def test_conditions_are_pooled_in_blocks_of_seeds():
    a = {"x": ({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.0, 1: 0.0, 2: 0.0}),
         "y": ({0: 3.0, 1: 6.0}, {0: 0.0, 1: 0.0})}  # fmt: skip
    found = pooled(a)
    assert found.seeds == (0, 1)  # seed 2 has no pair under y
    assert found.differences == (2.0, 4.0)
    # Copies of one condition are no new evidence.
    one = shifted([1.0, 2.0, 3.0, -1.0, 0.5])
    assert pooled({"x": one, "y": one, "z": one}).low == pytest.approx(paired(*one).low)


def test_fewer_than_five_pairs_have_neither_interval_nor_verdict():
    found = paired(*shifted([3.0, 3.1, 3.2, 2.9]))
    assert found.low is None
    assert verdict(found, []) == "invalid"
    assert too_few(found) == ["4 complete pairs of seeds: 5 are the least for a verdict"]
    assert paired({}, {}).mean is None


def test_the_verdict_follows_the_interval_and_any_reason_forbids_it():
    clear = [3.0, 3.1, 3.2, 2.9, 3.3]
    assert verdict(paired(*shifted(clear)), []) == "supported"
    assert verdict(paired(*shifted([-v for v in clear])), []) == "opposite"
    assert verdict(paired(*shifted([3.0, -3.1, 3.2, -2.9, 0.3])), []) == "no difference detected"
    assert verdict(paired(*shifted(clear)), ["a reason"]) == "invalid"


def test_reasons_name_arm_seed_and_both_numbers():
    a = Side("a", {1: 50.0}, {2: "out of memory"}, {"macs": 103_100.0, "top1": 50.0})
    b = Side("b", {1: 9.0}, {}, {"macs": 100_000.0, "top1": 9.0})
    assert failed([a, b]) == ["a, seed 2: out of memory"]
    (said,) = unmatched(a, b, {"macs": 0.03})
    assert said == "macs are 3.10 % apart (a 103,100, b 100,000), more than 3 %"
    assert unmatched(a, b, {"macs": 0.032}) == []
    assert unmatched(a, b, {"params": 0.03}) == ["params of a is not known"]
    assert unmet([a, b], {"top1": (">=", 20.0)}) == ["check top1 >= 20: b has 9.000"]
    assert unmet([a, b], {"macs": ("<=", 101_000.0)}) == ["check macs <= 101000: a has 103100"]
    assert cost_gap(0.0, 5.0) == math.inf
