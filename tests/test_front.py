"""Fronts of a record: who may stand on one, replicates, latency, knee, history, neighbours."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.errors import NasxError
from nasx.results.front import (
    dominates,
    front,
    hypervolume,
    hypervolume_history,
    hypervolume_of,
    knee,
    near_front,
    reference_point,
    select,
)
from nasx.study import Fidelity, Study
from nasx.trial import Final, RungScore, Snapshot, State, Trial

TWO = {"top1": "maximize", "macs": "minimize"}
THREE = {**TWO, "latency_ms": "minimize"}


def study(objectives=TWO, constraints=None):
    return Study(
        name="tiny",
        desc="A test.",
        space="toy",
        task="digits",
        objectives=objectives,
        constraints=constraints or {},
        fidelity=Fidelity(full=900, rungs=2),
    )


def trial(number, top1, macs, *, state=State.COMPLETE, samples=900, latency=None, **more):
    values = {"top1": top1, "macs": macs}
    if latency is not None:
        values["latency_ms"] = latency
    return Trial(
        number=number,
        space="toy",
        candidate={"width": number},
        key=f"k{number}",
        state=state,
        seed=number,
        rungs=(RungScore(1, samples, values),),
        card={"macs": macs, "params": 10 * number, "unpriced": [], **more.pop("card", {})},
        **more,
    )


def snapshot(*trials, objectives=TWO, constraints=None, finals=()):
    whole = study(objectives, constraints)
    kept = {f.number: f for f in finals}
    return Snapshot("tiny", Path("runs/tiny"), whole, trials, finals=kept)


def timed(number, median):
    return Final(number, "front", {"top1": 50.0 + number}, {"median_ms": median})


def numbers(entries):
    return [int(e["trial"].removeprefix("t")) for e in entries]


def test_only_finished_priced_full_fidelity_trials_stand_on_a_front():
    run = snapshot(
        trial(0, 50, 100),
        trial(1, 99, 10, state=State.STOPPED, samples=300),
        trial(2, 99, 10, samples=300),
        trial(3, 99, 10, card={"unpriced": ["aten._cdist_forward"]}),
        trial(4, 99, 10, state=State.FAILED),
        trial(5, float("nan"), 10),
        trial(6, 60, 200),
        trial(7, 55, 300),
    )
    entries = front(run)
    assert numbers(entries) == [0, 6]
    assert entries[1] == {
        "trial": "t0006",
        "space": "toy",
        "candidate": {"width": 6},
        "key": "k6",
        "seeds": [6],
        "fidelity": 900,
        "objectives": {"top1": 60, "macs": 200},
        "test": {},
        "card": {"macs": 200, "params": 60, "unpriced": []},
        "membership": None,
    }


def test_constraints_hold_on_axes_that_are_no_objective():
    limits = {"params": "<= 15", "top1": ">= 40"}
    run = snapshot(trial(1, 50, 100), trial(2, 60, 100), constraints=limits)
    assert numbers(front(run)) == [1]
    assert front(replace(run, study=study(constraints={"psnr": ">= 1"}))) == []


def test_a_cost_that_only_the_card_knows_can_be_an_objective():
    ways = {"top1": "maximize", "flops": "minimize", "params": "minimize"}
    run = snapshot(trial(1, 50, 100), trial(2, 60, 100), objectives=ways)
    assert front(run)[1]["objectives"] == {"top1": 60, "flops": 200, "params": 20}


def test_one_objective_and_ties():
    one = {"top1": "maximize"}
    run = snapshot(trial(0, 50, 9), trial(1, 70, 9), trial(2, 70, 5), objectives=one)
    entries = front(run)
    assert numbers(entries) == [1, 2]
    assert select(entries, "best")["trial"] == "t0002"  # a tie goes to the cheaper one
    assert select(entries, "smallest")["trial"] == "t0002"
    assert "most accurate" in knee(entries)["chosen"]
    assert near_front(run, 5) == [0]
    assert hypervolume_of(run) == pytest.approx(22)


def test_replicates_are_averaged_with_their_original():
    run = snapshot(
        trial(0, 50, 100),
        trial(1, 60, 100),
        trial(2, 44, 100, replicate_of=1),
        trial(3, 42, 100, replicate_of=2),
        trial(4, 99, 100, replicate_of=5),
        trial(5, 99, 100, state=State.FAILED),
        finals=[Final(0, "front", {"top1": 48.0})],
    )
    entries = front(run)
    assert numbers(entries) == [0]  # 60 was luck: the mean of 60, 44, 42 is below 50
    assert entries[0]["test"] == {"top1": 48.0}
    alone = front(replace(run, trials=run.trials[1:]))
    assert alone[0]["objectives"]["top1"] == pytest.approx(146 / 3)
    assert alone[0]["seeds"] == [1, 2, 3]


def test_provisional_and_measured_latencies_are_never_compared():
    before = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 100, latency=2.0),
        trial(2, 49, 100, latency=1.1),
        objectives=THREE,
    )
    assert numbers(front(before)) == [0, 1]
    assert {e["latency"] for e in front(before)} == {"provisional"}
    # The quiet pass finds t0000 slower than thought and its neighbour t0002 faster.
    after = replace(before, finals={n: timed(n, ms) for n, ms in ((0, 3.5), (1, 3.2), (2, 3.0))})
    entries = front(after)
    assert numbers(entries) == [1, 2]
    assert [e["objectives"]["latency_ms"] for e in entries] == [3.2, 3.0]
    assert {e["latency"] for e in entries} == {"measured"}
    assert entries[1]["test"] == {"top1": 52.0}
    # t0003 came later and was never timed: provisional again until the next pass.
    later = replace(after, trials=(*after.trials, trial(3, 80, 100, latency=0.5)))
    assert numbers(front(later)) == [3]
    assert front(later)[0]["latency"] == "provisional"
    assert numbers(front(later, latency="measured")) == [1, 2]


def test_a_network_that_the_quiet_pass_could_not_time_is_left_out():
    run = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 100, latency=2.0),
        objectives=THREE,
        finals=[timed(0, 1.0), Final(1, "front")],
    )
    assert numbers(front(run)) == [0]


def test_replicates_trained_after_the_quiet_pass_keep_it_valid():
    run = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 100, latency=1.0),
        trial(2, 20, 100, latency=1.0, replicate_of=1),
        objectives=THREE,
        finals=[timed(1, 2.0)],  # the front as it was without the replicate
    )
    entries = front(run)
    assert numbers(entries) == [1]
    assert entries[0]["latency"] == "measured"


def test_a_latency_limit_is_decided_by_the_quiet_pass():
    run = snapshot(
        trial(0, 50, 100, latency=9.0),
        trial(1, 60, 100, latency=8.1),
        constraints={"latency_ms": "<= 8.5"},
    )
    assert numbers(front(run)) == [1]
    assert near_front(run, 3) == [0]  # 9.0 is within 1.15 x 8.5: worth timing
    measured = replace(run, finals={0: timed(0, 8.0), 1: timed(1, 9.0)})
    assert numbers(front(measured)) == [0]


def test_the_knee_is_farthest_from_the_line_in_log_cost():
    run = snapshot(
        trial(0, 50, 1e6),
        trial(1, 78, 2e6),
        trial(2, 82, 1e7),
        trial(3, 85, 1e8),
        trial(4, 20, 9e5),
    )
    entries = front(run)
    chosen = select(entries, "knee", run.study.objectives)
    assert chosen["trial"] == "t0001"
    assert "farthest from the line" in chosen["chosen"]
    few = knee(entries[:2])
    assert few["trial"] == "t0001"
    assert "most accurate" in few["chosen"]
    assert "2 points" in few["chosen"]


def test_a_front_bent_the_wrong_way_still_has_an_inner_knee():
    bent = front(snapshot(trial(0, 0, 1), trial(1, 20, 10), trial(2, 30, 100), trial(3, 100, 1000)))
    assert len(bent) == 4
    assert knee(bent)["trial"] == "t0001"  # of the inner points the one nearest the line


def test_the_knee_of_three_objectives_is_an_inner_point():
    run = snapshot(
        trial(0, 90, 900, latency=9.0),
        trial(1, 10, 10, latency=5.0),
        trial(2, 20, 500, latency=1.0),
        trial(3, 70, 50, latency=2.0),
        objectives=THREE,
    )
    assert knee(front(run))["trial"] == "t0003"


def test_choosing_by_name_and_what_is_said_when_it_is_not_there():
    entries = front(snapshot(trial(0, 50, 100), trial(12, 60, 200)))
    assert select(entries, "t0012")["trial"] == "t0012"
    assert select(entries, "best")["trial"] == "t0012"
    assert select(entries, "smallest")["trial"] == "t0000"
    with pytest.raises(NasxError, match=r"knee, best, smallest or one of t0000, t0012"):
        select(entries, "t0003")
    with pytest.raises(NasxError, match="front is empty"):
        select([], "knee")


def test_the_reference_point_is_a_margin_beyond_the_worst_or_the_limit():
    trials = (trial(0, 50, 100), trial(1, 60, 200), trial(2, 40, 300))
    assert reference_point(snapshot(*trials)) == {"top1": 38.0, "macs": 320.0}
    limited = snapshot(*trials, constraints={"macs": "<= 1000"})
    assert reference_point(limited) == {"top1": 38.0, "macs": 1000.0}
    assert reference_point(snapshot(trials[0])) == pytest.approx({"top1": 45.0, "macs": 110.0})
    assert reference_point(snapshot()) == {}
    assert hypervolume_of(snapshot()) == 0


def test_every_front_of_a_snapshot_lies_before_its_reference_point():
    run = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 100, latency=2.0),
        objectives=THREE,
        finals=[timed(0, 7.0), timed(1, 1.0)],
    )
    assert reference_point(run)["latency_ms"] > 7.0


def test_history_rises_over_trial_numbers_and_ends_at_the_fronts_volume():
    run = snapshot(
        trial(0, 50, 200),
        trial(1, 45, 300),
        trial(2, 40, 100, state=State.FAILED),
        trial(3, 40, 100),
        trial(4, 60, 150),
    )
    rows = hypervolume_history(run)
    assert [n for n, _ in rows] == [0, 1, 2, 3, 4]
    volumes = [v for _, v in rows]
    assert volumes[0] == volumes[1] == volumes[2] < volumes[3] < volumes[4]
    points = [list(e["objectives"].values()) for e in front(run)]
    reference = list(reference_point(run).values())
    volume = hypervolume(points, reference, list(TWO.values()))
    assert volumes[-1] == pytest.approx(volume)
    assert hypervolume_of(run) == pytest.approx(volume)
    assert hypervolume_history(snapshot(trial(0, 1, 1, state=State.FAILED))) == [(0, 0.0)]


def test_the_nearest_behind_the_front_come_first():
    run = snapshot(
        trial(0, 50, 100),
        trial(1, 80, 1000),
        trial(2, 79, 1010),  # just behind t0001
        trial(3, 20, 900),  # far behind
        trial(4, 49.9, 101),  # nearer still
        trial(5, 80, 1000),  # equal to t0001: on the front itself
    )
    assert numbers(front(run)) == [0, 1, 5]
    assert near_front(run, 2) == [4, 2]
    assert near_front(run, 9) == [4, 2, 3]
    assert near_front(snapshot(), 3) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=15))
@settings(max_examples=60, deadline=None)
def test_no_member_dominates_another_and_every_other_trial_is_dominated(rows):
    run = snapshot(*(trial(i, top1, macs) for i, (top1, macs) in enumerate(rows)))
    members = set(numbers(front(run)))
    ways = list(TWO.values())
    for i, row in enumerate(rows):
        assert any(dominates(rows[m], row, ways) for m in members) == (i not in members)
    assert set(near_front(run, 99)) == set(range(len(rows))) - members
