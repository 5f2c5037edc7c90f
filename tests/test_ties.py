"""Telling latencies apart: closed forms, properties, and copies of one network."""

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasx.cost.latency import time_networks
from nasx.cost.ties import FLOOR, indistinct, median_interval
from nasx.study import Measure

times = st.lists(st.floats(0.01, 100), min_size=20, max_size=20)


@pytest.mark.parametrize(
    ("n", "k"), [(6, 1), (8, 1), (9, 2), (10, 2), (20, 6), (25, 8), (50, 18), (100, 40)]
)
def test_the_bounds_are_those_of_the_sign_test(n, k):
    """k as printed in tables of the two-sided sign test at 5 %, plus one."""
    values = random.Random(n).sample(range(1000), n)
    ordered = sorted(values)
    assert median_interval(values) == (ordered[k - 1], ordered[n - k])


def test_too_few_values_bound_nothing():
    for n in range(6):
        assert median_interval([1.0] * n) == (-math.inf, math.inf)
    assert indistinct({"a": [1.0] * 5, "b": [9.0] * 5}) == {"a": ("b",), "b": ("a",)}


def test_the_interval_holds_the_median_as_often_as_it_says():
    generator = random.Random(0)
    held = 0
    for _ in range(2000):  # lopsided noise with median log 2
        low, high = median_interval([generator.expovariate(1.0) for _ in range(20)])
        held += low <= math.log(2) <= high
    assert 0.945 < held / 2000 < 0.973  # exact: .9586


def test_what_slows_a_whole_pass_tells_nobody_apart_and_hides_nobody():
    slow = [1 + 10 * wait for wait in (0, 3, 1, 7, 2, 5, 0, 9, 4, 6) * 2]
    jitter = [0.99, 1.01] * 10
    a = [s * j for s, j in zip(slow, jitter, strict=True)]
    b = [s / j for s, j in zip(slow, jitter, strict=True)]
    c = [1.05 * s * j for s, j in zip(slow, jitter, strict=True)]
    assert indistinct({"a": a, "b": b, "c": c}) == {"a": ("b",), "b": ("a",), "c": ()}


def test_a_steady_difference_below_the_floor_tells_nobody_apart():
    a = [1.0] * 20
    assert indistinct({"a": a, "b": [1 + 0.9 * FLOOR] * 20})["a"] == ("b",)
    assert indistinct({"a": a, "b": [1 + 1.1 * FLOOR] * 20})["a"] == ()
    assert indistinct({"a": a, "b": [1 / (1 + 1.1 * FLOOR)] * 20})["a"] == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(times, min_size=1, max_size=4))
def test_the_relation_is_mutual_and_has_no_unit(rows):
    named = {f"n{i}": row for i, row in enumerate(rows)}
    same = indistinct(named)
    for a, b in itertools.permutations(named, 2):
        assert (b in same[a]) == (a in same[b])
    assert all(name not in others for name, others in same.items())
    for power in (0.5, 4.0):  # exact in floating point
        scaled = {name: [v * power for v in row] for name, row in named.items()}
        assert indistinct(scaled) == same
    twins = indistinct({**named, "twin": named["n0"]})
    assert "twin" in twins["n0"]


def test_copies_of_one_network_are_told_from_another_one_only():
    networks = {f"a{i}": (nn.Conv2d(16, 32, 3), (16, 24, 24)) for i in range(4)}
    networks["b"] = (nn.Conv2d(16, 256, 3), (16, 24, 24))
    # Wrong by chance in at most 5 of 100 pairs, and half of that beyond the floor: ask again.
    for seed in range(3):
        timed = time_networks(networks, Measure(runtime="eager"), passes=20, seed=seed)
        same = indistinct({name: found.by_pass for name, found in timed.items()})
        assert same["b"] == ()
        if all(set(same[f"a{i}"]) == {f"a{k}" for k in range(4) if k != i} for i in range(4)):
            return
    raise AssertionError(f"copies of one network were told apart three times: {same}")
