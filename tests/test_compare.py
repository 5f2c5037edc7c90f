"""Spaces at one accuracy: the cheapest candidate, its interval, and what is not compared."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.errors import NasxError
from nasx.results.compare import compare
from nasx.results.comparetext import cheapest_text
from planted_fronts import BY_PSNR, THREE, run, timed, trial

SPACES = ("one", "two")


def rows_of(found, axis="macs"):
    return {row.space: row.cheapest.get(axis) for row in found.rows}


def made(one, two, name="a", **more):
    """A run of two spaces, each given as {MACs: top1}."""
    points = [("one", one), ("two", two)]
    trials = [
        trial(i, top1, macs, space=space)
        for i, (space, macs, top1) in enumerate(
            (space, macs, top1) for space, rows in points for macs, top1 in rows.items()
        )
    ]
    return run(name, trials, space=SPACES, **more)


def test_the_cheapest_of_each_space_at_a_level():
    found = compare(made({100: 70, 200: 82, 300: 90}, {150: 60, 400: 85}), at="top1=80")
    assert found.primary == "macs"
    assert found.axes == ["macs", "params"]
    assert [row.space for row in found.rows] == ["one", "two"]
    one, two = rows_of(found).values()
    assert (one.value, one.trial, one.score) == (200, "t0001", 82)
    assert (two.value, two.trial) == (400, "t0004")
    assert rows_of(found, "params")["one"].value == 20
    assert found.rows[0].best == 90


def test_an_interval_runs_from_who_may_reach_the_level_to_who_surely_does():
    # 1,000 samples: half a 95 % interval at 80 % is 2.5 points.
    run_ = made({100: 70, 150: 78, 200: 81, 250: 82, 300: 83}, {400: 90, 500: 81})
    found = compare(run_, at="top1=80")
    one, two = rows_of(found).values()
    assert (one.low, one.value, one.high) == (150, 200, 300)
    assert (two.low, two.value, two.high) == (400, 400, 400)
    assert one.error == pytest.approx(1.96 * 100 * (0.81 * 0.19 / 1000) ** 0.5, rel=0.01)
    (pair,) = [p for p in found.pairs if p["axis"] == "macs"]
    assert (pair["cheaper"]["space"], pair["told_apart"]) == ("one", True)
    assert "one is the cheapest found; two costs more" in cheapest_text(found)


def test_overlapping_intervals_cannot_be_told_apart():
    found = compare(made({200: 81, 500: 90}, {300: 82, 600: 95}), at="top1=80")
    assert not any(p["told_apart"] for p in found.pairs)
    assert "two cannot be told apart from it" in cheapest_text(found)
    open_ended = compare(made({200: 81}, {300: 95}), at="top1=80")
    assert rows_of(open_ended)["one"].high is None
    assert "200 or more" in cheapest_text(open_ended)


def test_a_space_that_falls_short_says_so_with_its_best():
    found = compare(made({200: 90}, {300: 60, 400: 70}), at="top1=80")
    assert found.rows[1].cheapest == {}
    assert (found.rows[1].best, found.rows[1].best_trial) == (70, "t0002")
    assert found.pairs == []
    text = cheapest_text(found)
    assert "two does not reach it: its best is 70.0 % (t0002)" in text
    nobody = cheapest_text(compare(made({200: 90}, {300: 60}), at="top1=99.5"))
    assert nobody.count("does not reach it") == 2


def test_by_default_the_level_is_what_every_space_reaches_beyond_doubt():
    run_ = made({200: 90}, {300: 60, 400: 70})
    found = compare(run_)
    half = rows_of(found)["two"].error
    assert found.level.value == pytest.approx(70 - half)
    assert rows_of(found)["two"].high == 400
    exact = compare(replace(run_, provenance={}))
    assert exact.level.value == 70
    assert rows_of(exact)["two"].high is None
    assert not rows_of(exact)["two"].sure
    assert "not known" in cheapest_text(exact)
    assert "no interval" in exact.notes[0]
    # A space that completed nothing has no say.
    missing = compare(made({200: 90}, {}))
    assert missing.level.value > 85
    assert "two: nothing completed" in cheapest_text(missing)


@pytest.mark.parametrize(
    ("at", "value"),
    [("top1=.8", 80), ("top1 = 80", 80), ("top1=80%", 80), ("top1=1", 100), ("top1=0.5%", 0.5)],
)
def test_a_share_is_read_as_percent(at, value):
    level = compare(made({200: 90}, {300: 85}), at=at).level
    assert level.value == pytest.approx(value)
    assert ("taken as" in level.why) == (at in ("top1=.8", "top1=1"))


def test_a_score_without_percent_is_taken_as_it_stands():
    scores = run("a", [trial(0, 0.7, 100, name="ssim")],
                 objectives={"ssim": "maximize", "macs": "minimize"})  # fmt: skip
    assert compare(scores, at="ssim=.6").level.value == 0.6


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("macs=100", "'macs' is no score of these runs; the records know top1"),
        ("psnr=30", "'psnr' is no score of these runs; the records know top1"),
        ("accuracy=.9", "did you mean 'top1'?"),
        ("top1", "write it as top1=VALUE"),
        ("top1=high", "write it as top1=VALUE"),
        ("top1=nan", "write it as top1=VALUE"),
    ],
)
def test_a_level_that_is_none_is_refused(at, said):
    with pytest.raises(NasxError) as refused:
        compare(made({200: 90}, {300: 85}), at=at)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_two_runs_stand_in_one_table_with_their_names():
    found = compare(made({200: 90}, {300: 85}), made({100: 88}, {}, "b"), at="top1=80")
    assert [(row.run, row.space) for row in found.rows] == [
        ("b", "one"), ("a", "one"), ("a", "two"), ("b", "two"),
    ]  # fmt: skip
    text = cheapest_text(found)
    assert "one of b is the cheapest found; one of a, two of a cost more" in text
    assert "two of b: nothing completed" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "photos"}, "task: digits -> photos"),
        ({"data": "xyz"}, "data: "),
        ({"valid": 999}, "splits: "),
        ({"fidelity": {"full": 901}}, "fidelity: "),
    ],
)
def test_runs_whose_scores_mean_different_things_are_refused(changes, said):
    with pytest.raises(NasxError, match=said):
        compare(made({200: 90}, {}), made({200: 90}, {}, "b", **changes))
    with pytest.raises(NasxError, match="no trial completed"):
        compare(made({}, {}))


def test_other_objectives_and_limits_may_still_meet_at_one_accuracy():
    limited = made({100: 95, 300: 90}, {}, "b", constraints={"macs": ">= 200"}, objectives=THREE)
    by_cost = run("c", [trial(0, 90, 100)], objectives={"top1": "maximize", "params": "minimize"})
    assert rows_of(compare(by_cost, at="top1=80"), "params")["one"].value == 10
    assert compare(by_cost).primary == "params"
    with pytest.raises(NasxError, match="no trial completed"):
        compare(limited)  # no latency is known of any candidate, so none can stand


def measured(name, medians, **more):
    setting = {k: more.pop(k) for k in ("machine", "calibrator_ms") if k in more}
    trials = [trial(i, 90, 100 * (i + 1), values={"latency_ms": 5.0}) for i in range(3)]
    finals = [timed(i, median, **setting) for i, median in medians.items()]
    return run(name, trials, finals=finals, objectives=THREE, **more)


def test_only_measured_latencies_count():
    found = compare(measured("a", {1: 2.0, 2: 3.0}), at="top1=80")
    latency = rows_of(found, "latency_ms")["one"]
    assert (latency.value, latency.trial) == (2.0, "t0001")
    assert rows_of(found)["one"].trial == "t0000"
    assert "latency_ms" not in compare(measured("a", {}), at="top1=80").axes


def test_a_limit_on_latency_is_kept_by_the_time_measured():
    found = compare(measured("a", {0: 7.0, 1: 5.5}, constraints={"latency_ms": "<= 6"}))
    assert rows_of(found)["one"].trial == "t0001"  # t0000 broke it, whatever it promised
    assert found.rows[0].candidates == 2  # the third was never measured and promises 5 ms


def test_latencies_of_two_machines_are_left_out_and_of_two_days_brought_to_one_pace():
    here = measured("a", {0: 2.0})
    there = compare(here, measured("b", {0: 1.0}, machine="there"), at="top1=80")
    assert "latency_ms" not in there.axes
    assert "machine here and there" in there.notes[-1]
    slow = measured("b", {0: 3.0}, calibrator_ms=1.0)
    found = compare(here, slow, at="top1=80")
    values = {row.run: row.cheapest["latency_ms"].value for row in found.rows}
    assert values == pytest.approx({"a": 3.0, "b": 2.25})  # both at 0.75 ms
    assert "0.75 ms" in found.notes[-1]


@given(
    st.lists(st.tuples(st.integers(50, 99), st.integers(1, 50)), min_size=1, max_size=12),
    st.integers(50, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_cheapest_reaches_the_level_and_nothing_cheaper_does(points, level):
    trials = [trial(i, top1, macs) for i, (top1, macs) in enumerate(points)]
    at = rows_of(compare(run("a", trials), at=f"top1={level}"))["one"]
    reaching = [macs for top1, macs in points if top1 >= level]
    assert (at is None) == (not reaching)
    if at:
        assert at.value == min(reaching)
        assert at.low <= at.value
        assert at.high is None or at.high >= at.value


def test_the_interval_holds_the_true_cost_at_least_as_often_as_it_says():
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(300):
        macs = np.sort(rng.uniform(1e6, 8e6, 24))
        worth = 55 + 14 * np.log(macs / 1e6) - np.abs(rng.normal(0, 2, 24))
        seen = 100 * rng.binomial(400, worth / 100) / 400
        trials = [trial(i, s, m) for i, (s, m) in enumerate(zip(seen, macs, strict=True))]
        at = rows_of(compare(run("a", trials, valid=400), at="top1=70"))["one"]
        true = min(m for m, w in zip(macs, worth, strict=True) if w >= 70)
        inside.append(at.low <= true <= (at.high or np.inf))
    assert np.mean(inside) >= 0.95


def test_replicates_give_other_scores_an_interval():
    trials = [
        trial(0, 30, 100, name="psnr"), trial(1, 32, 200, name="psnr"),
        trial(2, 30.2, 100, name="psnr", replicate_of=0, seed=1),
    ]  # fmt: skip
    found = compare(run("a", trials, objectives=BY_PSNR), at="psnr=29.9")
    at = rows_of(found)["one"]
    assert found.noise == {"spread": pytest.approx(0.2 / 2**0.5), "degrees": 1,
                           "valid_samples": None}  # fmt: skip
    # Student's t of one degree of freedom: 12.7 x the error of a mean of two.
    assert at.error == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert (at.value, at.low, at.high) == (100, 100, 200)
