"""Dominance, ranks, crowding and hypervolume against closed forms and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.results.front import crowding, dominates, hypervolume, nondominated, nondominated_rank

# Few distinct values, so that ties and duplicates come up often.
grids = st.integers(1, 4).flatmap(
    lambda m: st.tuples(
        st.lists(st.lists(st.integers(0, 5), min_size=m, max_size=m), min_size=1, max_size=12),
        st.lists(st.sampled_from(["maximize", "minimize"]), min_size=m, max_size=m),
    )
)


def by_definition(points, ways):
    return [not any(dominates(b, a, ways) for b in points) for a in points]


def inclusion_exclusion(points, reference):
    """Return the volume of a union of boxes [p, reference] (minimised), one subset at a time."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            sides = np.maximum(np.asarray(reference) - np.max(subset, axis=0), 0)
            total -= (-1) ** size * float(np.prod(sides))
    return total


def test_dominates_needs_no_worse_everywhere_and_better_somewhere():
    ways = ["maximize", "minimize"]
    assert dominates([2, 1], [1, 1], ways)
    assert not dominates([1, 1], [1, 1], ways)
    assert not dominates([2, 2], [1, 1], ways)


@given(grids)
@settings(max_examples=100, deadline=None)
def test_the_mask_is_the_definition(case):
    points, ways = case
    assert nondominated(points, ways).tolist() == by_definition(points, ways)


@given(grids)
@settings(max_examples=60, deadline=None)
def test_ranks_peel_fronts_one_after_another(case):
    points, ways = case
    ranks = nondominated_rank(points, ways)
    left = list(range(len(points)))
    for rank in range(max(ranks) + 1):
        mask = by_definition([points[i] for i in left], ways)
        front = [i for i, keep in zip(left, mask, strict=True) if keep]
        assert front == [i for i in left if ranks[i] == rank]
        left = [i for i in left if ranks[i] != rank]
    assert not left


@given(grids, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter(case, random):
    points, ways = case
    order = list(range(len(points)))
    random.shuffle(order)
    shuffled = [points[i] for i in order]
    ranks, moved = nondominated_rank(points, ways), nondominated_rank(shuffled, ways)
    assert [ranks[i] for i in order] == moved
    reference = [-1 if w == "maximize" else 6 for w in ways]
    whole, again = (hypervolume(p, reference, ways) for p in (points, shuffled))
    assert whole == pytest.approx(again)


def test_equal_points_share_the_front_and_no_points_have_none():
    assert nondominated([[1, 1], [1, 1], [2, 2]], ["minimize"] * 2).tolist() == [True, True, False]
    assert nondominated([[3], [1], [1]], ["minimize"]).tolist() == [False, True, True]
    assert nondominated_rank([], ["minimize"] * 2) == []
    assert hypervolume([], [1, 1], ["minimize"] * 2) == 0


def test_values_that_are_not_finite_and_odd_shapes_are_refused():
    with pytest.raises(ValueError, match="finite"):
        nondominated([[1, float("nan")]], ["minimize"] * 2)
    with pytest.raises(ValueError, match="do not fit"):
        nondominated([[1, 2, 3]], ["minimize"] * 2)


def test_crowding_is_the_gap_between_neighbours_within_a_rank():
    points = [[0, 4], [1, 2], [4, 0], [5, 5]]
    crowd = crowding(points, [0, 0, 0, 1])
    assert crowd.tolist() == [np.inf, 2.0, np.inf, np.inf]
    # Three equal points: no range, nothing to divide by.
    assert crowding([[1, 1]] * 3, [0, 0, 0])[1] == 0


def test_volumes_known_in_closed_form():
    low = ["minimize"] * 3
    assert hypervolume([[3.0]], [5.0], low[:1]) == 2
    assert hypervolume([[0, 0]], [2, 3], low[:2]) == 6
    assert hypervolume([[1, 2], [2, 1]], [3, 3], low[:2]) == 3
    assert hypervolume([[0.5, 90], [1.0, 95]], [2, 80], ["minimize", "maximize"]) == 20
    # The staircase of n steps covers n (n + 1) / 2 cells.
    n = 50
    stairs = [[i, n - 1 - i] for i in range(n)]
    assert hypervolume(stairs, [n, n], low[:2]) == n * (n + 1) / 2
    # Cells x + y + z >= 3 of a 4-cube: all 64 less the 10 with a sum below.
    cells = [[i, j, 3 - i - j] for i in range(4) for j in range(4 - i)]
    assert hypervolume(cells, [4, 4, 4], low) == 64 - 10
    assert hypervolume([[0] * 5, [1] * 5], [2] * 5, ["minimize"] * 5) == 32


def test_points_past_the_reference_add_nothing():
    ways = ["minimize", "minimize"]
    assert hypervolume([[1, 1], [0, 3], [5, 0]], [3, 3], ways) == 4


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_the_fast_volume_is_inclusion_and_exclusion(m):
    rng = np.random.default_rng(m)
    for _ in range(12):
        points = rng.random((int(rng.integers(1, 8)), m))
        expected = inclusion_exclusion(points, [0.9] * m)
        assert hypervolume(points, [0.9] * m, ["minimize"] * m) == pytest.approx(expected)
        flipped = hypervolume(-points, [-0.9] * m, ["maximize"] * m)
        assert flipped == pytest.approx(expected)


@given(grids, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_point_more_never_makes_the_volume_smaller(case, value):
    points, ways = case
    reference = [-1 if w == "maximize" else 6 for w in ways]
    before = hypervolume(points, reference, ways)
    after = hypervolume([*points, [value] * len(ways)], reference, ways)
    assert after >= before - 1e-9
    mask = nondominated(points, ways)
    front = [p for p, keep in zip(points, mask, strict=True) if keep]
    assert hypervolume(front, reference, ways) == pytest.approx(before)
