"""Steps of latency: planted ones are found, slopes and noise are not taken for steps."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.results.scan import RUNGS, around
from nasx.results.scanned import sentences, slower_text
from nasx.results.steps import (
    Rung,
    against,
    flats,
    free_above,
    part_found,
    step_below,
    time_saved,
)
from nasx.space import Part

WIDTHS = (24, 28, 31, 32, 33, 36, 40, 44, 48)
PASSES = 20


def blocks(width: int) -> float:
    """Kernels that take 16 channels at a time: 1 ms, and 1 ms for every 16 begun."""
    return 1 + math.ceil(width / 16)


def slope(width: int) -> float:
    return 1 + width / 16


def measured(
    law: Callable[[int], float], seed: int, noise: float = 0.01, widths: tuple[int, ...] = WIDTHS
) -> list[Rung]:
    """Passes that are fast and slow as a whole, and noise of each visit; MACs follow the width."""
    rng = np.random.default_rng(seed)
    drift = np.exp(rng.normal(0, 0.2, PASSES))
    return [
        Rung(w, 100_000 * w, tuple(law(w) * drift * np.exp(rng.normal(0, noise, PASSES))))
        for w in widths
    ]


def test_planted_steps_are_found_at_every_seed_though_passes_differ_by_20_percent():
    for seed in range(50):
        found = flats(measured(blocks, seed))
        assert [(f.narrow, f.wide) for f in found] == [(24, 32), (33, 48)]
        assert [f.macs for f in found] == [800_000, 1_500_000]


def test_a_slope_has_no_step():
    wrong = [seed for seed in range(300) if flats(measured(slope, seed))]
    assert len(wrong) <= 3  # 1 %


@pytest.mark.parametrize("law", [slope, blocks])
def test_where_noise_hides_what_the_macs_promise_nothing_is_said(law):
    wrong = [seed for seed in range(100) if flats(measured(law, seed, noise=0.3))]
    assert len(wrong) <= 4  # 4 %, as the chance of a pair that does not hold


def test_the_useful_side_is_the_widest_of_the_step():
    rungs = measured(blocks, 1)
    up = free_above(rungs, 36)
    assert up is not None
    assert (up.narrow, up.wide, up.macs) == (36, 48, 1_200_000)
    assert free_above(rungs, 48) is None
    assert free_above(rungs, 32) is None
    down = step_below(rungs, 36)
    assert down is not None
    assert (down.narrow, down.wide) == (32, 36)
    assert down.low < 0.25 < down.high  # 4 ms become 3
    assert step_below(rungs, 28) is None  # nothing below it was timed to be faster


def test_a_wider_part_that_is_even_faster_is_the_useful_side_and_no_flat_crosses_a_hump():
    def hump(width: int) -> float:
        return 3.0 if width in (33, 36) else 2.0  # kernels that dislike odd sizes

    rungs = measured(hump, 2)
    up = free_above(rungs, 36)
    assert up is not None
    assert up.wide == 48
    assert up.high < -0.2
    beside = free_above(rungs, 32)
    assert beside is not None
    assert beside.wide == 48  # whatever lies between
    assert not any(f.narrow <= 32 and f.wide in (33, 36) for f in flats(rungs))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.001, 0.1))
def test_what_is_called_flat_never_saves_what_it_must_not(seed, noise):
    for found in flats(measured(blocks, seed, noise)):
        assert found.high < 0.05
        assert found.narrow < found.wide
        assert found.macs > 0


def test_time_saved_holds_the_truth():
    rungs = measured(blocks, 3)
    low, high = time_saved(rungs[0].by_pass, rungs[-1].by_pass)
    assert low < 0.25 < high  # 3 ms for 4
    assert high - low < 0.03


def test_slower_than_the_whole_is_said_only_beyond_doubt():
    rng = np.random.default_rng(0)
    whole = 2 * np.exp(rng.normal(0, 0.01, PASSES))
    for ratio, slower in ((1.1, True), (1.005, False), (0.8, False)):
        stands = against(ratio * whole * np.exp(rng.normal(0, 0.005, PASSES)), whole)
        assert stands["low"] < ratio < stands["high"]
        assert stands["slower"] is slower
        said = slower_text("t0004", stands)
        assert (said is not None) is slower
    assert against([2.0] * 5, [1.0] * 5)["low"] is None  # too few passes to be sure
    assert not against([2.0] * 5, [1.0] * 5)["slower"]


def test_the_sentence_names_the_range_its_macs_and_both_ways_from_it():
    part = part_found(measured(blocks, 4), 36)
    scan = {"trial": "t0007", "parts": {"stage 1": part}, "whole": None, "snapped": None,
            "left_out": []}  # fmt: skip
    (said,) = sentences(scan)
    assert said.startswith(
        "stage 1: 33 to 48 channels take the same time, and the 1.50 M MACs saved between them "
        "buy nothing; so too 24 to 32 (800 k); beside its 36 channels, 48 would take no more time ("
    )
    assert "for 1.20 M more MACs; the next step below 36 is at 32: -2" in said
    assert said.endswith("of time for 400 k fewer MACs.")
    part = part_found(measured(slope, 4, noise=0.5), 36)
    (said,) = sentences({**scan, "parts": {"stage 1": part}})
    assert said == "stage 1: no step is sure between 24 and 48 channels."


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(3, RUNGS))
def test_widths_around_hold_its_own_and_multiples_of_8_on_either_side(own, top, most):
    part = Part(own, range(1, max(own, top) + 1))
    found = around(part, most)
    assert own in found
    assert found == sorted(set(found))
    assert len(found) <= most
    for near in (8 * (own // 8 + 1), 8 * ((own - 1) // 8)):
        assert near in found or near not in part.widths


def test_few_widths_are_all_looked_at():
    assert around(Part(16, (8, 16, 24, 48))) == [8, 16, 24, 48]
    wide = around(Part(100, range(1, 257)))
    assert wide == [80, 88, 96, 99, 100, 101, 104, 112, 120]
