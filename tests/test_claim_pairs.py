"""Claims with budgets by condition, and with further pairs beside the one that decides."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nasx.claims.pages import csv_text, latex, markdown, text
from nasx.claims.protocol import kept
from nasx.claims.run import run_claim
from nasx.errors import Interrupted
from nasx.run import Run
from nasx.search.evaluate import Report, Ticket
from nasx.terminal import PlainDisplay, SilentDisplay
from test_claims import ARMS, TWO, Noisy, claim

BUDGETS: dict[str, Any] = {
    "short": {"samples": 30, "candidate": {"side": 32}},
    "long": {"samples": 60, "candidate": {"side": 32}},
    "whole": {"candidate": {"side": 32}},
}


def test_a_condition_may_have_its_own_budget(tmp_path: Path) -> None:
    """The networks are the same under all conditions; how long they train makes other trials."""
    asked = claim(conditions=BUDGETS)
    found = run_claim(asked, tmp_path, evaluate=Noisy())
    run = Run(tmp_path / found.protocol)
    assert run.study.fidelity.full == 90
    trials = {t.name: t for t in run.snapshot().trials}
    assert len(trials) == 3 * 2 * 5
    wanted = {"short": 30, "long": 60, "whole": 90}
    for arm in found.arms:
        assert arm["samples"] == wanted[arm["condition"]]
        for name in arm["trials"].values():
            trial = trials[name]
            assert trial.samples == arm["samples"]
            assert trial.full == (None if arm["condition"] == "whole" else arm["samples"])
            assert trial.origin == f"arm:{arm['arm']}/{arm['condition']}"
    assert len({a["key"] for a in found.arms}) == 6
    assert [row.samples for row in found.rows] == [30, 60, 90]
    assert found.total.samples is None
    assert found.to_json()["samples"] == wanted
    (kept_,) = kept(tmp_path)
    assert kept_["content"]["claim"]["conditions"]["short"]["samples"] == 30
    assert "samples: short 30, long 60, whole 90." in markdown(found)
    assert found.total.verdict == "supported"


def test_budgets_are_all_a_claim_may_have(tmp_path: Path) -> None:
    """Where every condition states its own, the longest is the study's; one twice is one trial."""
    twice = {"a": {"samples": 30}, "b": {"samples": 60}, "c": {"samples": 60}}
    found = run_claim(claim(conditions=twice), tmp_path, evaluate=Noisy())
    run = Run(tmp_path / found.protocol)
    assert run.study.fidelity.full == 60
    assert sorted(t.samples for t in run.snapshot().trials) == [30] * 10 + [60] * 10
    b, c = (row.to_json() for row in found.rows[1:])
    assert {**b, "condition": "c"} == c


def test_what_a_claim_does_not_say_is_no_part_of_its_hash() -> None:
    plain = claim().resolved()
    assert "also" not in plain
    assert set(plain["conditions"]["small"]) == {"candidate", "share"}
    assert set(plain["arms"]["deep"]) == {"candidate", "at", "rule", "meet", "recipe"}
    said = claim(conditions=BUDGETS, also=[["plain", "deep"]], compare=["deep", "plain"])
    assert said.resolved()["also"] == [["plain", "deep"]]


def test_a_killed_trial_with_a_budget_of_its_own_goes_on_to_it(tmp_path: Path) -> None:
    class Stops(Noisy):
        def run(self, ticket: Ticket) -> Iterator[Report]:
            if ticket.full == 30 and ticket.seed == 2:
                raise KeyboardInterrupt
            return super().run(ticket)

    asked = claim(conditions=BUDGETS)
    with pytest.raises(Interrupted):
        run_claim(asked, tmp_path / "c", evaluate=Stops())
    found = run_claim(asked, tmp_path / "c", evaluate=Noisy())
    whole = run_claim(asked, tmp_path / "whole", evaluate=Noisy())
    assert found.to_json()["rows"] == whole.to_json()["rows"]
    assert not [a for a in found.arms if a["failed"]]


FLAT = {**ARMS, "flat": {"candidate": {"depth": 1}}, "again": ARMS["deep"]}


def test_further_pairs_are_told_and_decide_nothing(tmp_path: Path) -> None:
    """`flat` fails once and differs in what nobody declared: only its own pairs hear of it."""
    asked = claim(arms=FLAT, conditions=TWO, also=[["plain", "flat"], ["deep", "again"]])
    found = run_claim(asked, tmp_path, evaluate=Noisy(faults={2: "raise"}))
    assert found.total.verdict == "supported"
    alone = run_claim(claim(conditions=TWO), tmp_path / "alone", evaluate=Noisy())
    assert [r.to_json() for r in found.rows] == [r.to_json() for r in alone.rows]
    flat, same = found.also
    assert flat.rows[0].reasons[0] == "flat, seed 1: RuntimeError: the layer does not fit"
    assert flat.total.verdict == "invalid"
    assert (flat.rows[1].verdict, flat.rows[1].differ) == ("supported", ("depth", "operator"))
    assert flat.rows[1].found.n == 5
    assert set(same.total.found.differences) == {0.0}
    assert "small: deep and again are the same network with the same recipe" in same.total.reasons


def test_further_pairs_are_held_to_checks_and_to_no_equal_cost(tmp_path: Path) -> None:
    """A pair that is not the claim's own matches nothing; its costs stand beside its scores."""
    arms = {**ARMS, "wide": {"candidate": {"depth": 8, "width": 1.2}}}
    asked = claim(
        arms=arms,
        also=[["deep", "plain"], ["wide", "plain"]],
        compare=["wide", "deep"],
        differ=["width"],
        matched={"macs": 0.5},
        checks={"top1": ">= 50"},
    )
    found = run_claim(asked, tmp_path, evaluate=Noisy())
    assert found.total.verdict == "supported"
    assert [pair.total.verdict for pair in found.also] == ["supported", "supported"]
    first, second = found.also[0].rows[0].costs["macs"]
    assert first is not None
    assert second is not None
    assert first > 3 * second
    strict = claim(arms=arms, also=[["deep", "plain"]], compare=["wide", "deep"], differ=["width"],
                   checks={"top1": ">= 59"})  # fmt: skip
    found = run_claim(strict, tmp_path / "strict", evaluate=Noisy())
    assert found.also[0].total.reasons[-1].startswith("check top1 >= 59: plain has ")


def test_further_pairs_stand_in_every_form_as_what_they_are(tmp_path: Path) -> None:
    asked = claim(arms=FLAT, conditions=TWO, also=[["plain", "flat"]])
    found = run_claim(asked, tmp_path, evaluate=Noisy())
    assert "further comparisons, no part of the verdict, and not corrected" in text(found)
    assert "plain less flat: differ in depth, operator" in text(found)
    page = markdown(found)
    assert "## Further comparisons" in page
    assert "(3 intervals of 95 % each)" in page
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [row["role"] for row in rows] == ["claim"] * 3 + ["further"] * 3
    assert rows[3]["differ"] == "depth; operator"
    assert [rows[0][k] for k in ("samples", "condition")] == ["90", "small"]
    drawn = latex(found)
    assert drawn.count(r"\begin{tabular}") == 2
    assert drawn.count(r"\\") == 2 * 4
    assert "% further comparisons: no part of the verdict" in drawn
    told = found.to_json()["also"][0]
    assert (told["first"], told["total"]["verdict"]) == ("plain", "supported")
    assert found.total.found.mean != told["total"]["mean"]


class Said(SilentDisplay):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_pair_that_will_say_nothing_is_told_before_the_first_trial(tmp_path: Path) -> None:
    said = Said()
    run_claim(claim(arms=FLAT, also=[["deep", "again"]]), tmp_path, evaluate=Noisy(), display=said)
    assert said.notes == [
        "deep less again will say nothing under small: "
        "deep and again are the same network with the same recipe"
    ]


def test_a_claim_shows_no_hypervolume_and_counts_its_own_samples(tmp_path: Path) -> None:
    stream = io.StringIO()
    run_claim(claim(conditions=BUDGETS), tmp_path, evaluate=Noisy(), display=PlainDisplay(stream))
    last = stream.getvalue().splitlines()[-2]
    assert last == "trials 30/30 · 30 full | ETA 0:00"
