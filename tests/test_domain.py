"""Domains: every drawn value is legal, every neighbour one step away, narrowing never widens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasx.domain import Choice, Integer, Real
from nasx.errors import SpaceError
from nasx.search.proposals import primes, radical_inverse

DOMAINS = [
    Integer(8, 61, 8, 16),
    Real(0.03, 1.05, True, 1.0),
    Real(-1.0, 2.0, False, 0.0),
    Choice(("a", "b", 3, None), "a"),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=repr)
@given(unit=st.floats(0, 1, exclude_max=True))
def test_every_place_and_its_neighbours_are_legal(domain, unit: float) -> None:
    value = domain.at(unit)
    assert domain.fault(value) is None
    for near in domain.neighbours(value):
        assert domain.fault(near) is None
        assert near != value


def test_integers_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    drawn = [DOMAINS[0].sample(rng) for _ in range(700)]
    counts = np.unique(drawn, return_counts=True)
    assert counts[0].tolist() == [8, 16, 24, 32, 40, 48, 56]
    assert counts[1].min() > 70


def test_narrowing_keeps_the_grid_and_refuses_to_widen() -> None:
    assert Integer(8, 64, 8, 16).narrow([10, 50], "w") == Integer(16, 48, 8, 16)
    assert Real(0.0, 1.0, False, 0.9).narrow([0.2, 0.5], "r").default == 0.5
    with pytest.raises(SpaceError, match="may narrow a domain, never widen it"):
        Integer(8, 64, 8, 16).narrow([0, 64], "w")
    with pytest.raises(SpaceError, match="holds no value"):
        Integer(8, 64, 8, 16).narrow([9, 15], "w")


def test_the_even_start_is_even() -> None:
    assert primes(5) == [2, 3, 5, 7, 11]
    assert [radical_inverse(i, 2) for i in range(1, 5)] == [0.5, 0.25, 0.75, 0.125]
    for base in (2, 3, 5):
        places = sorted(radical_inverse(i, base) for i in range(1, base**2))
        assert places == pytest.approx([k / base**2 for k in range(1, base**2)])
