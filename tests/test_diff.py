"""Whether a front moved: closed forms, symmetry, noise, and how often the interval is right."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.errors import NasxError
from nasx.results.comparetext import difference_text
from nasx.results.diff import diff
from nasx.results.front import hypervolume, hypervolume_of, reference_point
from nasx.results.volumes import volumes
from planted_fronts import BY_PSNR, THREE, TWO, front_of, run, timed, trial

OLD = {100: 50, 200: 60, 300: 70}
NEW = {100: 55, 200: 60, 300: 80}


def test_two_planted_fronts_differ_by_a_known_volume():
    found = diff(front_of("a", OLD), front_of("b", NEW))
    # Worst of both records moved a tenth of the observed range of both: 50 - 3 and 300 + 20.
    assert found.reference == pytest.approx({"top1": 47, "macs": 320})
    assert found.before.hypervolume == pytest.approx(3 * 100 + 13 * 100 + 23 * 20)
    assert found.after.hypervolume == pytest.approx(8 * 100 + 13 * 100 + 33 * 20)
    assert found.difference == pytest.approx(5 * 100 + 10 * 20)
    assert [p["key"] for p in found.gained] == ["100/55", "300/80"]
    assert found.lost == []  # 50 and 70 are beaten at their own cost
    assert found.kept == 1
    back = diff(front_of("b", NEW), front_of("a", OLD))
    assert [p["key"] for p in back.lost] == ["100/55", "300/80"]
    assert back.gained == []


def test_what_a_run_spent_is_counted_from_its_rungs():
    found = diff(front_of("a", OLD), front_of("b", {**OLD, 400: 71}))
    assert (found.before.trials, found.before.samples, found.before.cpu_seconds) == (3, 2700, 90)
    assert (found.after.trials, found.after.samples, found.after.cpu_seconds) == (4, 3600, 120)


def test_a_run_does_not_differ_from_itself():
    same = front_of("a", OLD)
    found = diff(same, same)
    assert found.difference == 0
    assert found.interval == (0, 0)
    assert found.verdict == "no difference detected"
    assert (found.gained, found.lost, found.kept) == ([], [], 3)
    assert found.before.hypervolume == hypervolume_of(same)
    assert found.reference == reference_point(same)


def test_more_trials_of_the_same_run_cannot_make_it_worse():
    # The three trainings that both hold are drawn once for both, so every draw is a gain.
    found = diff(front_of("a", OLD), front_of("a", {**OLD, 150: 65}))
    assert found.interval is not None
    assert 0 < found.interval[0] < found.difference < found.interval[1]
    assert found.verdict == "better"


def test_a_front_far_ahead_is_better_and_its_mirror_worse():
    ahead = {macs: score + 9 for macs, score in OLD.items()}
    found = diff(front_of("a", OLD), front_of("b", ahead))
    assert found.verdict == "better"
    assert len(found.gained) == 3
    assert all(p["chance"] > 0.95 for p in found.gained)
    worse = diff(front_of("b", ahead), front_of("a", OLD))
    assert worse.verdict == "worse"
    assert worse.gained == []
    assert diff(front_of("a", OLD, valid=20), front_of("b", ahead, valid=20)).verdict == (
        "no difference detected"
    )


def test_replicates_that_lie_far_apart_hide_a_difference():
    def made(name, shift, apart):
        numbers = count()
        trials = []
        for macs, score in OLD.items():
            first = next(numbers)
            key = f"{name}{macs}"
            low = trial(first, score + shift - apart, macs, key=key, seed=0)
            high = trial(next(numbers), score + shift + apart, macs, key=key, seed=1)
            trials += [low, replace(high, replicate_of=first)]
        return run(name, trials, valid=100_000)

    quiet = diff(made("a", 0, 0.3), made("b", 3, 0.3))
    assert quiet.verdict == "better"
    assert quiet.notes == []
    noisy = diff(made("a", 0, 6), made("b", 3, 6))
    assert noisy.difference == pytest.approx(quiet.difference)
    assert noisy.interval[0] < 0 < noisy.interval[1]
    assert noisy.verdict == "no difference detected"
    # Pooled over six pairs: each has a variance of 2 x 6^2.
    assert noisy.noise["top1"]["degrees"] == 6
    assert noisy.noise["top1"]["spread"] == pytest.approx(6 * 2**0.5)


def test_without_any_known_noise_no_difference_is_claimed():
    old = run("a", [trial(0, 30, 100, name="psnr")], objectives=BY_PSNR)
    new = run("b", [trial(0, 40, 100, name="psnr")], objectives=BY_PSNR)
    found = diff(old, new)
    assert found.difference > 0
    assert found.interval is None
    assert found.verdict == "no difference detected"
    assert "final.seeds: 2" in found.notes[0]
    assert "95 % interval" not in difference_text(found)
    assert diff(front_of("a", OLD, valid=None), front_of("b", NEW, valid=None)).interval is None


def test_one_empty_front_is_all_lost_and_two_are_refused():
    found = diff(front_of("a", OLD), run("b", []))
    assert len(found.lost) == 3
    assert found.verdict == "worse"
    assert found.after.hypervolume == 0
    assert diff(run("b", []), front_of("a", OLD)).verdict == "better"
    with pytest.raises(NasxError, match="neither a nor b has a finished trial"):
        diff(run("a", []), run("b", []))


def test_one_network_on_both_fronts_is_neither_gained_nor_lost():
    old = run("a", [trial(0, 50, 100, key="same")])
    new = run("b", [trial(0, 70, 100, key="same")])
    found = diff(old, new)
    assert (found.gained, found.lost, found.kept) == ([], [], 1)
    assert found.verdict == "better"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "photos"}, "task: digits -> photos"),
        ({"data": "xyz"}, "data: abc -> xyz"),
        ({"valid": 999}, "'valid': 999"),
        ({"fidelity": {"full": 901}}, "fidelity: 900 samples -> 901 samples"),
        ({"objectives": {"top1": "maximize", "params": "minimize"}}, "objectives: "),
        ({"constraints": {"macs": "<= 5e6"}}, "constraints: "),
    ],
)
def test_another_question_is_refused_in_one_line(changes, said):
    with pytest.raises(NasxError, match="a and b are not to be compared") as refused:
        diff(front_of("a", OLD), front_of("b", OLD, **changes))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_that_moved_is_the_same_task():
    here = {"name": "folder", "path": "x/pets", "side": 32}
    moved = front_of("b", OLD, task={**here, "path": "y/pets"})
    assert diff(front_of("a", OLD, task=here), moved).difference == 0
    with pytest.raises(NasxError, match="task"):
        diff(front_of("a", OLD, task=here), front_of("b", OLD, task={**here, "side": 64}))


def with_latency(name, medians, **setting):
    rows = enumerate(zip(OLD.items(), medians, strict=True))
    trials = [
        trial(i, score, macs, key=f"{macs}", values={"latency_ms": 9.0})
        for i, ((macs, score), _) in rows
    ]
    finals = [timed(i, median, **setting) for i, median in enumerate(medians)]
    return run(name, trials, finals=finals, objectives=THREE)


def test_latencies_of_two_passes_are_told_at_one_calibrators_pace():
    old = with_latency("a", (1.0, 2.0, 3.0), calibrator_ms=0.5)
    slow = with_latency(
        "b", (1.5, 3.0, 4.5), calibrator_ms=0.75
    )  # the same, all half as long again
    found = diff(old, slow)
    assert found.latency == "measured"
    assert found.difference == pytest.approx(0)
    assert "0.625 ms" in found.notes[-1]
    assert diff(old, with_latency("b", (1.5, 3.0, 4.5))).difference < 0


@pytest.mark.parametrize("setting", [{"threads": 2}, {"machine": "there"}, {"runtime": "eager"}])
def test_latencies_of_two_settings_are_never_compared(setting):
    old, other = with_latency("a", (1, 2, 3)), with_latency("b", (1, 2, 3), **setting)
    name, value = next(iter(setting.items()))
    with pytest.raises(NasxError, match=f"{name} .* and {value}"):
        diff(old, other)
    unmeasured = replace(old, finals={})
    with pytest.raises(NasxError, match="measured, the other's provisional"):
        diff(old, unmeasured)
    assert "provisional" in diff(unmeasured, unmeasured).notes[-1]


ROWS = st.lists(st.tuples(st.integers(20, 90), st.integers(1, 9)), max_size=8)


@given(ROWS, ROWS.filter(len), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_other_way_round_is_the_opposite(first, second, latency):
    def made(name, rows):
        trials = [
            trial(i, top1, 1e6 * macs, key=f"{top1}/{macs}", values={"latency_ms": 10.0 - macs})
            for i, (top1, macs) in enumerate(rows)
        ]
        return run(name, trials, objectives=THREE if latency else TWO)

    one, other = made("a", first), made("b", second)
    there, back = diff(one, other), diff(other, one)
    assert back.difference == -there.difference
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))
    assert (back.gained, back.lost) == (there.lost, there.gained)
    assert (back.before, back.after) == (there.after, there.before)
    opposite = {"better": "worse", "worse": "better"}
    assert back.verdict == opposite.get(there.verdict, there.verdict)
    assert there.interval[0] <= there.difference <= there.interval[1]
    assert diff(other, other).interval == (0, 0)


@given(st.integers(1, 4), st.integers(0, 12), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_volumes_of_draws_are_those_one_by_one(objectives, n, both, seed):
    rng = np.random.default_rng(seed)
    draws = np.repeat(rng.integers(0, 6, (1, n, objectives)).astype(float), 5, axis=0)
    draws[:, :, : 2 if both else 1] += rng.normal(size=(5, n, 1))  # one score or two are drawn
    corner = np.full(objectives, 4.5)
    ways = ["minimize"] * objectives
    expected = [hypervolume(points, corner.tolist(), ways) for points in draws]
    assert volumes(draws, corner) == pytest.approx(expected, abs=1e-9)


def test_volumes_of_a_large_front_are_estimated_alike_in_every_draw():
    rng = np.random.default_rng(0)
    costs = rng.uniform(0, 1, (60, 3))
    scores = 1 - costs.mean(axis=1) + rng.normal(0, 0.05, (40, 60))
    draws = np.concatenate([scores[:, :, None], np.repeat(costs[None], 40, axis=0)], axis=2)
    corner = np.full(4, 1.1)
    found = volumes(draws, corner)
    exact = np.array([hypervolume(p, corner.tolist(), ["minimize"] * 4) for p in draws])
    assert found == pytest.approx(exact, rel=0.03)
    errors = (found - found[0]) - (exact - exact[0])
    assert errors.std() < 0.1 * exact.std()


def planted_curve(rng, n, scatter=2.0):
    macs = np.sort(rng.uniform(1e6, 8e6, n))
    return macs, 55 + 14 * np.log(macs / 1e6) - np.abs(rng.normal(0, scatter, n))


def covered(rng, sizes, sample):
    """Say whether the interval holds the difference of the true fronts."""
    sides, true = [], []
    for name, n in zip("ab", sizes, strict=True):
        macs, worth = planted_curve(rng, n)
        sides.append(sample(name, macs, worth))
        true.append(np.c_[worth, macs])
    found = diff(*sides)
    corner, ways = list(found.reference.values()), ["maximize", "minimize"]
    wanted = hypervolume(true[1], corner, ways) - hypervolume(true[0], corner, ways)
    return found.interval[0] <= wanted <= found.interval[1]


@pytest.mark.parametrize("sizes", [(10, 10), (5, 20)])
def test_the_interval_holds_the_truth_as_often_as_it_says(sizes):
    rng = np.random.default_rng(1)

    def sample(name, macs, worth):
        seen = 100 * rng.binomial(400, worth / 100) / 400
        rows = zip(seen, macs, strict=True)
        trials = [trial(i, s, m, key=f"{name}{i}") for i, (s, m) in enumerate(rows)]
        return run(name, trials, valid=400)

    share = np.mean([covered(rng, sizes, sample) for _ in range(200)])
    assert 0.90 <= share <= 0.98


def test_the_interval_from_replicates_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)

    def sample(name, macs, worth):
        trials = []
        for i, (m, w) in enumerate(zip(macs, worth, strict=True)):
            for seed in range(2 if i % 2 else 1):  # half of them are trained twice
                score = w + rng.normal(0, 2)
                more = {"name": "psnr", "key": f"{name}{i}", "seed": seed}
                number = i + 100 * seed
                trials.append(trial(number, score, m, **more, replicate_of=i if seed else None))
        return run(name, trials, valid=None, objectives=BY_PSNR)

    share = np.mean([covered(rng, (8, 8), sample) for _ in range(200)])
    assert 0.90 <= share <= 0.98
