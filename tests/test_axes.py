"""Every axis as objective and as constraint, through the real engine on simulated trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nasx.axes import AXES
from nasx.cost.card import CostCard
from nasx.errors import NothingFeasible
from nasx.files import read_json_lines
from nasx.results.front import front
from nasx.search.evaluate import Ticket
from nasx.search.gate import LATENCY_SLACK, Gate
from nasx.study import Study
from nasx.trial import State
from simulated import Hill, Simulated
from test_engine import ran, study

STATIC = [a.name for a in AXES.values() if a.kind == "static"]
SCORES = [a.name for a in AXES.values() if a.kind == "score"]


class Carrying(Simulated):
    """Costs Hill on every axis, in proportion to its MACs, and scores it on every score.

    Candidates with an `operator` of `unknown` have no value on these axes.
    """

    def __init__(self, unknown: dict[str, str] | None = None) -> None:
        super().__init__()
        self.unknown = unknown or {}

    def price(self, candidate: Hill) -> CostCard:
        macs = candidate.macs()
        card = CostCard(
            params=macs, params_trained=macs, bytes=macs, macs=macs, macs_max=macs, adds=macs,
            shifts=macs, bit_ops=macs, lookups=macs, energy_uj=macs / 7, peak_bytes=macs,
        )  # fmt: skip
        lost = [axis for axis, operator in self.unknown.items() if operator == candidate.operator]
        return replace(card, **dict.fromkeys(lost))

    def run(self, ticket: Ticket):
        candidate = Hill.from_json(ticket.candidate)
        for report in super().run(ticket):
            if report.values is not None:
                score = report.values["top1"]
                known = {"latency_ms": self.latency(candidate), **report.values}
                report = replace(report, values={**known, **dict.fromkeys(SCORES, score)})
            yield report


def own(axis: str, candidate: dict) -> float:
    """Return the value on a cost axis that Carrying gives a candidate."""
    return {"flops": 2.0, "energy_uj": 1 / 7, "latency_ms": 1e-6}.get(axis, 1.0) * Hill.from_json(
        candidate
    ).macs()


def asked(axis: str, **more: object) -> Study:
    cost = axis if AXES[axis].kind != "score" else "macs"
    score = axis if AXES[axis].kind == "score" else "top1"
    return study(12, rungs=1, objectives={score: "maximize", cost: "minimize"}, **more)


@pytest.mark.parametrize("axis", AXES)
def test_every_axis_is_an_objective(tmp_path: Path, axis: str) -> None:
    found = ran(tmp_path, asked(axis, search={"sampler": "local"}), Carrying())
    assert [t.state for t in found.trials] == [State.COMPLETE] * 12
    entries = front(found)
    assert entries
    values = {e["trial"]: e["objectives"][axis] for e in entries}
    complete = {t.name: t for t in found.trials}
    for name, value in values.items():
        if axis in SCORES:
            assert value == complete[name].values["top1"]
        else:
            assert value == pytest.approx(own(axis, complete[name].candidate))
    best = max if axis in SCORES else min
    every = [t.values[axis] for t in found.trials]
    assert best(values.values()) == best(every)  # nobody off the front is better on this axis


@pytest.mark.parametrize("axis", [*STATIC, "latency_ms"])
def test_every_cost_is_a_limit_that_holds_before_training(tmp_path: Path, axis: str) -> None:
    limit = own(axis, {"depth": 4, "width": 1.0, "side": 32})  # the default's own cost: it passes
    found = ran(tmp_path, asked("macs", constraints={axis: f"<= {limit}"}), Carrying())
    assert len(found.trials) == 12
    assert found.trials[0].origin == "start:baseline"
    refused = read_json_lines(tmp_path / "rejected.jsonl")
    assert refused
    assert {r["constraint"] for r in refused} == {axis}
    slack = LATENCY_SLACK if axis == "latency_ms" else 1.0
    for r in refused:
        assert r["value"] == pytest.approx(own(axis, r["candidate"]))
        assert r["value"] > slack * r["limit"]
    assert all(own(axis, t.candidate) <= slack * limit for t in found.trials)
    for entry in front(found):
        assert own(axis, entry["candidate"]) <= limit


def test_a_provisional_latency_may_be_a_little_over_its_limit() -> None:
    mine = Hill()
    for over, broken in ((1.14, False), (1.16, True)):
        limit = {"latency_ms": f"<= {own('latency_ms', mine.values()) / over}"}
        gate = Gate(asked("macs", constraints=limit), Carrying())
        assert (gate.broken(gate.price(mine)) is not None) is broken


@pytest.mark.parametrize("axis", SCORES)
def test_every_score_is_a_limit_of_the_front_alone(tmp_path: Path, axis: str) -> None:
    limits = {"constraints": {axis: ">= 60"}, "search": {"sampler": "local"}}
    found = ran(tmp_path, asked("top1", **limits), Carrying())
    assert found.rejections == ()
    scores = [t.values[axis] for t in found.trials]
    assert min(scores) < 60 < max(scores)
    entries = front(found)
    assert entries
    assert all(e["objectives"]["top1"] >= 60 for e in entries)


@pytest.mark.parametrize("role", ["objective", "constraint"])
@pytest.mark.parametrize("sampler", ["local", "gp", "tpe"])
def test_an_unknown_cost_is_refused_before_training(
    tmp_path: Path, role: str, sampler: str
) -> None:
    axis = "energy_uj"
    more = {"search": {"sampler": sampler}, "fix": {"depth": 4, "width": 1.0}}
    if role == "constraint":
        this = asked("macs", constraints={axis: "<= 1e9"}, **more)
    else:
        this = asked(axis, **more)
    found = ran(tmp_path, this, Carrying(unknown={axis: "shift"}))
    assert {r.constraint for r in found.rejections} == {axis}
    for r in found.rejections:
        assert r.candidate["operator"] == "shift"
        assert (r.value, r.limit) == (None, 1e9 if role == "constraint" else None)
        assert r.values["macs"] > 0  # what could be had is kept
    assert len(found.trials) == 12
    assert all(t.candidate["operator"] != "shift" for t in found.trials)
    assert all(t.state is State.COMPLETE for t in found.trials)


def test_a_space_whose_cost_is_unknown_throughout_is_told(tmp_path: Path) -> None:
    this = asked("energy_uj", fix={"operator": "shift"})
    with pytest.raises(NothingFeasible, match=r"energy_uj of no candidate of .* is known"):
        ran(tmp_path, this, Carrying(unknown={"energy_uj": "shift"}))
