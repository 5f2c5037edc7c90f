"""The engine on simulated trials: nothing lost, nothing run twice, every fault told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nasx.errors import NasxError, NothingFeasible, NoTrialCompleted
from nasx.files import locked
from nasx.run import Run, status
from nasx.search.search import search
from nasx.shape import TaskShape
from nasx.study import Study
from nasx.trial import Snapshot, State
from simulated import Hill, Simulated

HILL = f"{Path(__file__).parent / 'simulated.py'}:Hill"


def study(trials: int = 18, rungs: int = 2, **changes: object) -> Study:
    asked = {"trials": trials, "sampler": "random", **dict(changes.pop("search", {}))}  # type: ignore[call-overload]
    whole = {
        "name": "hill",
        "desc": "Where is the hill?",
        "space": HILL,
        "task": "simulated",
        "objectives": {"top1": "maximize", "macs": "minimize"},
        "fidelity": {"full": 900, "factor": 3, "rungs": rungs},
        "search": asked,
        "resources": {"executor": "inline"},
        **changes,
    }
    return Study.model_validate(whole)


def ran(path: Path, asked: Study, evaluator: Simulated | None = None, **more: object) -> Snapshot:
    return search(asked, path, evaluate=evaluator or Simulated(), **more).snapshot()  # type: ignore[arg-type]


def test_every_trial_ends_stopped_or_complete(tmp_path: Path) -> None:
    found = ran(tmp_path, study(18))
    counts = Counter(t.state for t in found.trials)
    assert counts == {State.COMPLETE: 6, State.STOPPED: 12}
    assert len({t.key for t in found.trials}) == 18
    assert all(t.samples == 900 for t in found.trials if t.state is State.COMPLETE)
    assert all(t.samples == 300 for t in found.trials if t.state is State.STOPPED)


def test_the_baseline_is_trained_fully_whatever_its_early_score(tmp_path: Path) -> None:
    poor = {"depth": [2, 8], "width": [0.5, 2.0]}  # narrowed so that its default is not the best
    for seed in range(3):
        found = ran(tmp_path / str(seed), study(18, domains=poor, search={"seed": seed}))
        assert found.trials[0].state is State.COMPLETE
        assert Counter(t.state for t in found.trials)[State.COMPLETE] in (6, 7)


def test_rungs_before_scores_may_be_compared_are_skipped(tmp_path: Path) -> None:
    found = ran(tmp_path, study(9, rungs=3), Simulated(comparable=0.2))
    assert {r.rung for t in found.trials for r in t.rungs} == {1, 2}
    assert Counter(t.state for t in found.trials) == {State.COMPLETE: 3, State.STOPPED: 6}


def test_the_baseline_goes_first(tmp_path: Path) -> None:
    first = ran(tmp_path, study(2, rungs=1)).trials[0]
    assert first.origin == "start:baseline"
    assert first.candidate == {"depth": 4, "width": 1.0, "side": 32, "operator": "conv"}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "RuntimeError: the layer does not fit"),
        ("nan", "top1 is nan at 300 samples"),
        ("memory", "out of memory"),
    ],
)
def test_a_fault_fails_its_trial_alone(tmp_path: Path, fault: str, reason: str) -> None:
    found = ran(tmp_path, study(6), Simulated(faults={2: fault}))
    assert found.trials[2].state is State.FAILED
    assert reason in (found.trials[2].reason or "")
    assert all(t.state is not State.FAILED for t in found.trials if t.number != 2)


def test_a_trials_minutes_are_those_of_all_its_segments(tmp_path: Path) -> None:
    minutes = {"start": [], "trial_minutes": 0.01}  # a segment takes .27 or .53 s
    with pytest.raises(NoTrialCompleted, match=r"failed; the first: took longer than 0\.01 min"):
        ran(tmp_path, study(3, search=minutes), Simulated(seconds=0.8))


def test_when_all_fail_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoTrialCompleted, match="2 trials ran and all failed; the first: Runtime"):
        ran(tmp_path, study(2), Simulated(faults={0: "raise", 1: "raise"}))


def test_when_none_reaches_full_fidelity_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoTrialCompleted, match="2 trials ran and none reached full fidelity: "):
        ran(tmp_path, study(2, search={"start": []}))
    assert len(ran(tmp_path, study(2, search={"start": []}), add_trials=4).trials) == 6


def test_the_same_call_continues_and_runs_nothing_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    before = ran(tmp_path / "run", study(9), Simulated(journal=journal))
    lines = journal.read_text()
    after = ran(tmp_path / "run", study(9), Simulated(journal=journal))
    assert journal.read_text() == lines
    assert after.trials == before.trials
    assert status(after) == status(before)


def test_add_trials_extends(tmp_path: Path) -> None:
    ran(tmp_path, study(6))
    found = ran(tmp_path, study(6), add_trials=6)
    assert len(found.trials) == 12
    assert found.study.search.trials == 12
    assert sum(t.state is State.COMPLETE for t in found.trials) == 4


def test_another_study_is_refused_with_the_difference(tmp_path: Path) -> None:
    ran(tmp_path, study(2, rungs=1))
    with pytest.raises(NasxError, match=r"another study: fidelity.rungs: 1 -> 2"):
        ran(tmp_path, study(2, rungs=2))


def test_a_run_in_use_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock", ""),
        pytest.raises(NasxError, match="in use by another nasx search"),
    ):
        ran(tmp_path, study(2))


def test_a_full_disk_stops_the_search_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([10**9] * 5)
    monkeypatch.setattr("nasx.files.free_bytes", lambda _: next(left, 10**6))
    with pytest.raises(NasxError, match="nearly full"):
        ran(tmp_path, study(12))
    monkeypatch.setattr("nasx.files.free_bytes", lambda _: 10**9)
    done = Run(tmp_path).snapshot()
    assert 1 <= len(done.trials) <= 5
    found = ran(tmp_path, study(12))
    assert [t.key for t in found.trials[: len(done.trials)]] == [t.key for t in done.trials]
    assert len(found.trials) == 12


def test_refused_candidates_take_no_number(tmp_path: Path) -> None:
    found = ran(tmp_path, study(12, constraints={"macs": "<= 1.0e5"}))
    assert len(found.trials) == 12
    assert all(t.card["macs"] <= 1e5 for t in found.trials)
    assert found.rejections
    assert all(r.constraint == "macs" and r.value > 1e5 for r in found.rejections)
    assert status(found)["rejected"] == {"macs": len(found.rejections)}


class Wary(Hill):
    """Refuses what its fields ask together; the nearest that stands is one layer less."""

    name = "wary"

    def refusal(self, shape: TaskShape) -> str | None:
        return "too deep for its side" if self.depth > self.side // 8 else None

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Wary | None:
        return replace(self, depth=self.side // 8) if self.operator == "conv" else None


def test_a_space_refuses_or_repairs_what_its_fields_ask(tmp_path: Path) -> None:
    found = ran(tmp_path, study(30, rungs=1, space=f"{__file__}:Wary", search={"seed": 1}))
    assert all(t.candidate["depth"] <= t.candidate["side"] // 8 for t in found.trials)
    assert any(t.origin.endswith("repaired") for t in found.trials)
    assert status(found)["rejected"] == {"space": len(found.rejections)}
    assert found.rejections
    assert all(r.candidate["operator"] != "conv" for r in found.rejections)


def test_an_empty_feasible_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingFeasible, match=r"no candidate .* nearest has macs = .*<= 1"):
        ran(tmp_path, study(4, constraints={"macs": "<= 1"}))


def test_an_exhausted_space_ends_the_study(tmp_path: Path) -> None:
    fixed = {"width": 1.0, "side": 32}
    found = ran(tmp_path, study(100, rungs=1, fix=fixed))
    assert len(found.trials) == 8 * 3


@pytest.mark.parametrize("sampler", ["local", "tpe", "gp"])
def test_samplers_learn_from_stopped_trials(tmp_path: Path, sampler: str) -> None:
    """Change the score of a trial that was stopped: the next proposal changes."""
    from nasx.search.search import proposers
    from nasx.search.view import View

    found = ran(tmp_path, study(14, rungs=2))
    asked = study(14, rungs=2, search={"sampler": sampler})
    proposer = proposers(asked, Simulated())[0]
    stopped = [t.number for t in found.trials if t.state is State.STOPPED]

    def better(trial: object) -> object:
        score = trial.rungs[0]  # type: ignore[attr-defined]
        return replace(trial, rungs=(replace(score, values={**score.values, "top1": 99.0}),))  # type: ignore[type-var]

    trials = found.trials
    changed = tuple(better(t) if t.number in stopped else t for t in trials)

    def proposed(seen: object) -> list[str]:
        views = (View(seen[:n], ()) for n in (11, 12, 13, 14))  # type: ignore[index]
        return [p.key for p in map(proposer.propose, views) if p is not None]

    assert proposed(trials) == proposed(trials)
    assert proposed(trials) != proposed(changed)


@pytest.mark.parametrize("sampler", ["local", "tpe", "gp"])
def test_samplers_bear_limits_beside_running_trials_and_refusals(
    tmp_path: Path, sampler: str
) -> None:
    """Every row a sampler is told carries the same limits, whatever it stands for."""
    from nasx.search.search import proposers
    from nasx.search.view import Drawn, View

    limits = {"params": "<= 9e3", "latency_ms": "<= 0.09", "top1": ">= 20"}
    asked = study(14, constraints=limits, search={"sampler": sampler})
    found = ran(tmp_path, study(14, constraints=limits))
    assert {r.constraint for r in found.rejections} == {"params"}
    proposer = proposers(asked, Simulated())[0]
    first = proposer.propose(View(found.trials, found.rejections))
    assert first is not None
    drawn = Drawn(first.space, first.key, first.candidate.values(), first.origin)
    second = proposer.propose(View(found.trials, found.rejections, (drawn,)))
    assert second is not None
    assert second.key != first.key


def test_strict_order_gives_the_same_proposals(tmp_path: Path) -> None:
    asked = study(16, rungs=2, search={"order": "strict", "sampler": "local"})
    a = ran(tmp_path / "a", asked)
    b = ran(tmp_path / "b", asked)
    assert [t.key for t in a.trials] == [t.key for t in b.trials]


def test_front_members_are_trained_again_with_other_seeds(tmp_path: Path) -> None:
    found = ran(tmp_path, study(9, final={"seeds": 3}))
    again = [t for t in found.trials if t.replicate_of is not None]
    members = {t.replicate_of for t in again}
    assert members
    assert len(again) == 2 * len(members)
    assert all(t.state is State.COMPLETE and t.samples == 900 for t in again)
    for number in members:
        seeds = {t.seed for t in again if t.replicate_of == number}
        assert seeds == {1, 2}
        assert all(t.key == found.trials[number].key for t in again if t.replicate_of == number)
    assert ran(tmp_path, study(9, final={"seeds": 3})).trials == found.trials
