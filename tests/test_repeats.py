"""Replicates and controls in a search: rows of their own, continued after a kill, never hidden."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from nasx.cost.matched import unmatched
from nasx.errors import Interrupted
from nasx.files import read_json
from nasx.record import Record
from nasx.results.evidence import replicate_spread
from nasx.results.front import contenders, front, near_front
from nasx.results.observed import observations
from nasx.run import Run
from nasx.search.evaluate import Report, Ticket
from nasx.search.search import search
from nasx.search.trained import Trained
from nasx.shape import TaskShape
from nasx.space import choice
from nasx.study import Study
from nasx.trial import Snapshot, State, Trial
from simulated import Hill, Simulated
from test_engine import ran, study
from tiny import Net, Tiny

SHARE = {"conv": 1.0, "dw": 0.3, "shift": 0.2}


class Switched(Hill):
    """Its technique is the operator; a control is a thinner plain convolution, while it can be."""

    name = "switched"

    def control(self, shape: TaskShape) -> Switched | None:
        width = max(0.25, self.width * math.sqrt(SHARE[self.operator]))
        return replace(self, operator="conv", width=width)


class Noisy(Simulated):
    """Scores that differ from seed to seed, and a kill at the start of one trial."""

    cut: int | None = None

    def run(self, ticket: Ticket) -> Iterator[Report]:
        if ticket.number == self.cut:
            raise KeyboardInterrupt
        for report in super().run(ticket):
            if report.values is None:
                yield report
            else:
                jitter = math.sin(37.0 * ticket.seed + int(ticket.key[:4], 16))
                top1 = report.values["top1"] + jitter
                yield replace(report, values={**report.values, "top1": top1})


FINAL = {"seeds": 3, "controls": "front", "neighbours": 2}


def asked(**changes: object) -> Study:
    whole = {"final": FINAL, "space": f"{__file__}:Switched", **changes}
    return study(9, rungs=1, **whole)


def kinds(found: Snapshot) -> tuple[list[Trial], list[Trial], list[Trial]]:
    originals = [t for t in found.trials if t.searched]
    replicates = [t for t in found.trials if t.replicate_of is not None]
    return originals, replicates, [t for t in found.trials if t.control_of is not None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return ran(tmp_path_factory.mktemp("run"), asked(), Noisy())


def test_front_and_near_neighbours_are_trained_again_and_a_replicate_moves_no_target(
    whole: Snapshot,
) -> None:
    originals, replicates, _ = kinds(whole)
    once = replace(whole, trials=tuple(originals))
    targets = {int(e["trial"][1:]) for e in front(once)} | set(near_front(once, 2))
    assert len(targets) == len(front(once)) + 2
    assert {t.replicate_of for t in replicates} == targets
    assert len(replicates) == 2 * len(targets)
    assert len(originals) == 9
    assert all(t.state is State.COMPLETE and t.samples == 900 for t in replicates)


def test_every_member_has_a_control_with_its_seeds_or_says_why_not(whole: Snapshot) -> None:
    _, _, controls = kinds(whole)
    entries = front(whole)
    assert {t.control_of for t in controls} <= {int(e["trial"][1:]) for e in entries}
    compared = 0
    for entry in entries:
        member, control = whole.trial(int(entry["trial"][1:])), entry["control"]
        rows = [t for t in controls if t.control_of == member.number]
        if member.candidate["operator"] == "conv":
            assert rows == []
            assert "technique is off already" in control["reason"]
        elif control["reason"] is None:
            compared += 1
            assert [t.seed for t in rows] == entry["seeds"] == control["seeds"] == [0, 1, 2]
            assert all(t.origin == f"control:{member.name}" for t in rows)
            mine, its = control["macs"]["member"], control["macs"]["control"]
            assert abs(its / mine - 1) <= 0.02
            score = control["scores"]["top1"]
            assert control["n"] == 3
            assert score["low"] < score["difference"] < score["high"]
            assert score["difference"] == pytest.approx(score["member"] - score["control"])
        else:
            assert [t.state for t in rows] == [State.FAILED]
            assert rows[0].reason == control["reason"]
    assert compared >= 1


def test_a_control_stands_on_no_front_and_teaches_neither_rule_nor_sampler(
    whole: Snapshot,
) -> None:
    _, _, controls = kinds(whole)
    better = tuple(
        replace(t, rungs=(replace(t.rungs[0], values={"top1": 999.0, "macs": 1.0}),))
        if t in controls and t.rungs else t
        for t in whole.trials
    )  # fmt: skip
    changed = replace(whole, trials=better)
    assert [e["trial"] for e in front(changed)] == [e["trial"] for e in front(whole)]
    seen = observations(changed, "provisional")
    assert {t.number for o in seen for t in o.trials}.isdisjoint(t.number for t in controls)
    assert replicate_spread(seen, "top1") < 5


def test_more_trials_after_replicates_and_controls_are_all_new(tmp_path: Path) -> None:
    ran(tmp_path, asked(), Noisy())
    found = ran(tmp_path, asked(), Noisy(), add_trials=6)
    originals = kinds(found)[0]
    assert len(originals) == 15
    assert len({t.key for t in originals}) == 15


def test_a_kill_at_any_repeat_is_continued_under_the_same_number(
    tmp_path: Path, whole: Snapshot
) -> None:
    wanted = asked()
    again = [t.number for t in whole.trials if not t.searched and t.rungs]
    for cut in (again[0], again[-1]):
        evaluator = Noisy(journal=tmp_path / f"journal{cut}")
        evaluator.cut = cut
        with pytest.raises(Interrupted):
            ran(tmp_path / str(cut), wanted, evaluator)
        halfway = Run(tmp_path / str(cut)).snapshot()
        assert halfway.trial(cut).state is State.INTERRUPTED
        evaluator.cut = None
        found = ran(tmp_path / str(cut), wanted, evaluator)
        assert [(t.key, t.seed, t.values) for t in found.trials] == [
            (t.key, t.seed, t.values) for t in whole.trials
        ]
        started = [line.split()[1] for line in evaluator.journal.read_text().splitlines()
                   if line.startswith("start")]  # fmt: skip
        assert len(started) == len(set(started))


def test_membership_is_stated_for_members_and_contenders_and_is_the_same_twice(
    whole: Snapshot,
) -> None:
    entries, behind = front(whole), contenders(whole, least=0.0)
    assert all(0 < e["membership"] <= 1 for e in entries)
    assert [e["membership"] for e in entries] == [e["membership"] for e in front(whole)]
    stated = [e["membership"] for e in behind]
    assert stated == sorted(stated, reverse=True)
    assert not {e["trial"] for e in behind} & {e["trial"] for e in entries}
    assert len(entries) + len(behind) == 9
    assert all(e["membership"] >= 0.05 for e in contenders(whole))
    alone = replace(whole, trials=tuple(t for t in whole.trials if t.searched))
    assert {e["membership"] for e in front(alone)} == {None}
    assert contenders(alone) == []


def test_a_replicate_that_failed_is_told_and_the_mean_is_over_the_others(
    tmp_path: Path, whole: Snapshot
) -> None:
    members = {int(e["trial"][1:]) for e in front(whole)}
    lost = next(t for t in whole.trials if t.replicate_of in members)
    found = ran(tmp_path, asked(), Noisy(faults={lost.number: "raise"}))
    entry = next(e for e in front(found) if e["trial"] == f"t{lost.replicate_of:04d}")
    reason = "RuntimeError: the layer does not fit"
    assert entry["failed"] == [{"trial": lost.name, "seed": 1, "reason": reason}]
    assert entry["seeds"] == [0, 2]
    kept = [t.values["top1"] for t in found.trials
            if lost.replicate_of in (t.number, t.replicate_of) and t.rungs]  # fmt: skip
    assert entry["objectives"]["top1"] == pytest.approx(sum(kept) / 2)
    assert sum(t.replicate_of == lost.replicate_of for t in found.trials) == 2  # not tried again
    assert all("failed" not in e for e in front(whole))


def test_a_control_that_failed_is_told_and_leaves_its_pair_out(
    tmp_path: Path, whole: Snapshot
) -> None:
    lost = next(t for t in whole.trials if t.control_of is not None and t.rungs)
    found = ran(tmp_path, asked(), Noisy(faults={lost.number: "raise"}))
    control = next(e for e in front(found) if e["trial"] == f"t{lost.control_of:04d}")["control"]
    assert (control["n"], control["seeds"]) == (2, [1, 2])
    assert control["failed"][0]["trial"] == lost.name
    assert "the layer does not fit" in control["failed"][0]["reason"]
    assert control["reason"] is None


class Dear(Hill):
    """A control at more than twice the cost."""

    name = "dear"

    def control(self, shape: TaskShape) -> Dear:
        return replace(self, operator="conv", side=16 if self.side > 16 else 64)


def test_an_unmatched_cost_is_refused_with_both_numbers(tmp_path: Path) -> None:
    found = ran(tmp_path, asked(space=f"{__file__}:Dear"), Noisy())
    _, _, controls = kinds(found)
    assert controls
    assert all(t.state is State.FAILED and not t.rungs for t in controls)
    assert len({t.control_of for t in controls}) == len(controls)  # one row each, not one a seed
    for row in controls:
        member = found.trial(row.control_of)
        assert f"{row.card['macs']:,} MACs against the {member.card['macs']:,}" in row.reason
        entry = next(e for e in front(found) if e["trial"] == member.name)
        assert entry["control"]["reason"] == row.reason
        assert (entry["control"]["n"], entry["control"]["scores"]) == (0, {})


def test_a_kill_before_a_refusal_is_told_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, journal = asked(space=f"{__file__}:Dear", final={"controls": "front"}), tmp_path / "j"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Record, "fail", killed)
        with pytest.raises(Interrupted):
            ran(tmp_path / "run", wanted, Noisy(journal=journal))
    assert Run(tmp_path / "run").snapshot().trials[-1].control_of is not None
    found = ran(tmp_path / "run", wanted, Noisy(journal=journal))
    assert all(t.state is State.FAILED and "not matched" in t.reason for t in kinds(found)[2])
    started = {int(line.split()[1]) for line in journal.read_text().splitlines()}
    assert started == {t.number for t in found.trials if t.searched}


def test_costs_are_matched_within_two_percent_unless_the_work_is_no_mac() -> None:
    assert unmatched({"macs": 100}, {"macs": 102}, "t0001") is None
    assert "103 MACs against the 100 of t0001 (3.0% off" in str(
        unmatched({"macs": 100}, {"macs": 103}, "t0001")
    )
    assert unmatched({"macs": 100, "adds": 900}, {"macs": 550}, "t0001") is None


class Says:
    """Keeps what a search says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, study: object, run: object, resumed: int) -> None: ...
    def trial(self, trial: object, progress: object) -> None: ...
    def end(self, outcome: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_space_without_a_control_is_one_line_and_the_search_goes_on(tmp_path: Path) -> None:
    heard = Says()
    wanted = study(6, rungs=1, final={"controls": "front"})
    before = ran(tmp_path, study(6, rungs=1), Noisy())
    found = ran(tmp_path, wanted, Noisy(), display=heard)
    assert found.trials == before.trials  # nothing was left to train, and it is said all the same
    assert heard.notes == ["no control: space 'hill' has no control"]
    assert all(t.searched for t in found.trials)
    assert {e["control"]["reason"] for e in front(found)} == {"space 'hill' has no control"}


def test_controls_may_be_asked_for_after_a_search(tmp_path: Path) -> None:
    plain = ran(tmp_path, asked(final={"seeds": 2}), Noisy())
    assert all("control" not in e for e in front(plain))
    found = ran(tmp_path, asked(final={"seeds": 2, "controls": "front"}), Noisy())
    assert found.trials[: len(plain.trials)] == plain.trials
    assert kinds(found)[2]
    assert found.provenance["identity"] == plain.provenance["identity"]


class Dropped(Tiny):
    """Its technique is dropout; off, the network costs the same."""

    name = "dropped"
    dropout: str = choice("on", "off", default="on")

    def build(self, shape: TaskShape) -> nn.Module:
        net = Net(self.width)
        if self.dropout == "off":
            net.dropout = nn.Identity()
        return net

    def control(self, shape: TaskShape) -> Dropped:
        return replace(self, dropout="off")


class Cut(Trained):
    """Trains for real, and is killed once at the start of one trial."""

    cut = -1

    def run(self, ticket: Ticket) -> Iterator[Report]:
        if ticket.number == self.cut:
            raise KeyboardInterrupt
        yield from super().run(ticket)


def test_a_real_search_with_replicates_and_controls_from_kill_to_report(tmp_path: Path) -> None:
    here = Path(__file__).parent
    wanted = Study.model_validate({
        "name": "dropped", "desc": "Does dropout help?", "space": f"{__file__}:Dropped",
        "task": f"{here}/tiny.py:TinyDigits", "fix": {"rate": 0.01, "dropout": "on"},
        "domains": {"width": [4, 16]},
        "objectives": {"top1": "maximize", "macs": "minimize"},
        "fidelity": {"full": 320, "rungs": 1}, "search": {"trials": 2, "sampler": "random"},
        "final": {"seeds": 3, "controls": "front", "neighbours": 1},
        "resources": {"executor": "inline"},
    })  # fmt: skip
    run = tmp_path / "run"
    evaluator = Cut(wanted, run.resolve(), Path.cwd())
    for evaluator.cut in (3, 6):  # 2 trials, 4 replicates, then controls
        with pytest.raises(Interrupted):
            search(wanted, run, evaluate=evaluator)
    found = search(wanted, run).snapshot()
    assert [len(kind) for kind in kinds(found)][:2] == [2, 4]
    assert all(t.state is State.COMPLETE for t in found.trials)
    entries = read_json(run / "front.json")
    for entry in entries:
        assert entry["seeds"] == [0, 1, 2]
        assert 0 < entry["membership"] <= 1
        assert entry["control"]["n"] == 3
        assert entry["control"]["macs"]["member"] == entry["control"]["macs"]["control"]
        assert entry["control"]["candidate"]["dropout"] == "off"
    assert "Against its control" in (run / "report.html").read_text()
