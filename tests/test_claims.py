"""Claims on simulated trials: protocol first, kills lose nothing, every reason is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nasx.claims.model import Claim
from nasx.claims.pages import csv_text, latex, markdown, text
from nasx.claims.protocol import kept, protocol_of
from nasx.claims.run import run_claim
from nasx.errors import NasxError
from nasx.run import Run
from nasx.search.evaluate import Report, Ticket
from nasx.terminal import SilentDisplay
from nasx.trial import State
from simulated import Hill, Simulated

HILL = f"{Path(__file__).parent / 'simulated.py'}:Hill"
TWO = {"small": {"candidate": {"side": 32}}, "large": {"candidate": {"side": 48}}}
ARMS: dict[str, Any] = {
    "deep": {"candidate": {"depth": 8}},
    "plain": {"candidate": {"depth": 8, "operator": "dw"}},
}


class Noisy(Simulated):
    """Adds what a seed does to every arm, and a little that it does to this one."""

    def run(self, ticket: Ticket) -> Iterator[Report]:
        for report in super().run(ticket):
            if report.values:
                own = len(str(ticket.candidate)) + ticket.seed * 7
                moved = {"top1": report.values["top1"] + ticket.seed + 0.02 * (own % 5)}
                yield Report(report.samples, {**report.values, **moved})
            else:
                yield report


def claim(**changes: object) -> Claim:
    whole = {
        "name": "hill",
        "desc": "Is a plain convolution better?",
        "hypothesis": "A plain convolution is better than a depthwise one.",
        "space": HILL,
        "task": "simulated",
        "arms": ARMS,
        "conditions": {"small": {"candidate": {"side": 32}}},
        "compare": ["deep", "plain"],
        "differ": ["operator"],
        "seeds": [1, 2, 3, 4, 5],
        "fidelity": {"full": 90},
        "primary": "top1",
        "hours": 0.1,
        "resources": {"executor": "inline"},
        **changes,
    }
    return Claim.model_validate(whole)


def reasons(folder: Path, asked: Claim, evaluator: Simulated | None = None) -> list[str]:
    found = run_claim(asked, folder, evaluate=evaluator or Noisy())
    assert found.total.verdict == "invalid"
    return list(found.total.reasons)


def test_a_claim_is_supported_or_turned_round(tmp_path: Path) -> None:
    found = run_claim(claim(conditions=TWO), tmp_path / "a", evaluate=Noisy())
    assert found.total.verdict == "supported"
    assert [r.found.n for r in found.rows] == [5, 5]
    assert found.total.found.more == 5
    # Seeds move the score by up to 4, and the difference by hardly anything.
    low, high = found.total.found.low, found.total.found.high
    assert low is not None
    assert high is not None
    assert high - low < 0.5
    turned = run_claim(claim(compare=["plain", "deep"]), tmp_path / "b", evaluate=Noisy())
    assert turned.total.verdict == "opposite"
    assert turned.total.found.mean == pytest.approx(-(found.rows[0].found.mean or 0))


def test_the_trials_are_ordinary_ones(tmp_path: Path) -> None:
    found = run_claim(claim(conditions=TWO), tmp_path, evaluate=Noisy())
    trials = Run(tmp_path / found.protocol).snapshot().trials
    assert len(trials) == 2 * 2 * 5
    assert {t.state for t in trials} == {State.COMPLETE}
    assert [t.seed for t in trials] == sorted(t.seed for t in trials)  # seed by seed
    assert trials[0].origin == "arm:deep/small"
    assert all(t.samples == 90 and t.card["macs"] > 0 for t in trials)


def test_the_protocol_is_kept_before_the_first_trial(tmp_path: Path) -> None:
    class Looks(Noisy):
        seen: list[list[str]] = []  # noqa: RUF012

        def run(self, ticket: Ticket) -> Iterator[Report]:
            self.seen.append([row["protocol"] for row in kept(tmp_path)])
            return super().run(ticket)

    looks = Looks()
    found = run_claim(claim(), tmp_path, evaluate=looks)
    assert len(looks.seen) == 10
    assert all(seen == [found.protocol] for seen in looks.seen)
    (row,) = kept(tmp_path)
    assert row["content"]["claim"]["hypothesis"] == claim().hypothesis
    assert {a["key"] for a in row["content"]["arms"]} == {a["key"] for a in found.arms}
    assert row["content"]["data"] == "simulated"


def test_every_protocol_tried_is_listed_with_its_trials(tmp_path: Path) -> None:
    first = run_claim(claim(), tmp_path, evaluate=Noisy())
    again = run_claim(claim(resources={"executor": "inline", "cpu": 2}), tmp_path, evaluate=Noisy())
    assert again.protocol == first.protocol  # who runs it is no part of the protocol
    second = run_claim(claim(seeds=[1, 2, 3, 4, 5, 6]), tmp_path, evaluate=Noisy())
    listed = {row["protocol"]: row for row in second.to_json()["protocols"]}
    assert list(listed) == [first.protocol, second.protocol]
    assert [row["trials"] for row in listed.values()] == [10, 12]
    assert [row["current"] for row in listed.values()] == [False, True]
    assert f"protocol {first.protocol}, kept" in text(second)


def test_an_edited_file_of_ones_own_is_another_protocol(tmp_path: Path) -> None:
    """Its networks keep their fields and keys, and may be trained in another way."""
    own = tmp_path / "own.py"
    own.write_text(Path(HILL.rpartition(":")[0]).read_text())
    asked = claim(space=f"{own}:{HILL.rpartition(':')[2]}")
    first = protocol_of(asked, [], "data").hash
    assert protocol_of(asked, [], "data").hash == first
    own.write_text(own.read_text() + "\nRATE = 2\n")
    assert protocol_of(asked, [], "data").hash != first
    assert "code" not in protocol_of(claim(space="tinynet", task="digits"), [], "data").content


def test_the_same_call_trains_nothing_again(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    first = run_claim(claim(), tmp_path / "c", evaluate=Noisy(journal=journal))
    lines = journal.read_text()
    second = run_claim(claim(), tmp_path / "c", evaluate=Noisy(journal=journal))
    assert journal.read_text() == lines
    assert second.to_json()["rows"] == first.to_json()["rows"]


DRIVER = """
import sys
from pathlib import Path
from test_claims import Noisy, claim
from nasx.claims.run import run_claim
folder = Path(sys.argv[1])
run_claim(claim(), folder / "c", evaluate=Noisy(seconds=0.06, journal=folder / "journal"))
"""


def test_killed_and_continued_it_gives_the_same_table(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent)])}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    journal = tmp_path / "journal"
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while driver.poll() is None and (
        not journal.exists() or journal.read_text().count("finish") < 3
    ):
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    before = journal.read_text().count("finish")
    assert before < 10
    found = run_claim(claim(), tmp_path / "c", evaluate=Noisy(journal=journal))
    assert journal.read_text().count("finish") in (10, 11)  # the one in hand is scored again
    whole = run_claim(claim(), tmp_path / "whole", evaluate=Noisy())
    for part in ("rows", "total", "verdict", "protocol"):
        assert found.to_json()[part] == whole.to_json()[part]


def test_a_failed_replicate_forbids_a_verdict(tmp_path: Path) -> None:
    said = reasons(tmp_path / "five", claim(), Noisy(faults={2: "raise"}))
    assert said[0] == "deep, seed 2: RuntimeError: the layer does not fit"
    assert said[1].startswith("4 complete pairs of seeds")
    six = claim(seeds=[1, 2, 3, 4, 5, 6], conditions=TWO)  # enough pairs are left, and yet
    assert reasons(tmp_path / "six", six, Noisy(faults={6: "nan"})) == [
        "large: deep, seed 2: top1 is nan at 90 samples"
    ]


def test_when_every_trial_fails_it_is_still_a_verdict(tmp_path: Path) -> None:
    said = reasons(tmp_path, claim(), Noisy(faults=dict.fromkeys(range(10), "raise")))
    assert sum("the layer does not fit" in why for why in said) == 10
    assert "0 complete pairs" in said[-1]


def test_too_few_seeds(tmp_path: Path) -> None:
    said = reasons(tmp_path, claim(seeds=[1, 2], conditions=TWO))
    assert said == [
        f"{c}: 2 complete pairs of seeds: 5 are the least for a verdict" for c in ("small", "large")
    ]


def test_unmatched_costs(tmp_path: Path) -> None:
    said = reasons(tmp_path, claim(matched={"macs": 0.03}))
    assert said[0] == ("macs are 233 % apart (deep 320,001, plain 96,001), more than 3 %")


def test_an_undeclared_difference_in_fields_or_recipe(tmp_path: Path) -> None:
    said = reasons(tmp_path / "a", claim(differ=[]))
    assert said == ["deep and plain differ in more than declared: operator ('conv' against 'dw')"]
    larger = {**ARMS, "plain": {**ARMS["plain"], "recipe": {"batch": 128}}}
    said = reasons(tmp_path / "b", claim(arms=larger))
    assert "differ in more than declared: batch (64 against 128)" in said[0]
    declared = claim(arms=larger, differ=["operator", "batch"])
    assert run_claim(declared, tmp_path / "c", evaluate=Noisy()).total.verdict == "supported"


def test_what_no_training_can_mend_is_said_before_it(tmp_path: Path) -> None:
    class Notes(SilentDisplay):
        said: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.said.append(text)

    asked = claim(seeds=[1, 2], differ=[], matched={"macs": 0.03})
    run_claim(asked, tmp_path, evaluate=Noisy(), display=Notes())
    assert [note.partition(": ")[2].partition(" (")[0] for note in Notes.said] == [
        "2 seeds: 5 are the least for a verdict",
        "small: deep and plain differ in more than declared: operator",
        "small: macs are 233 % apart",
    ]


def test_a_broken_check_and_one_network_twice(tmp_path: Path) -> None:
    said = reasons(tmp_path / "a", claim(checks={"top1": ">= 90"}))
    assert said[0].startswith("check top1 >= 90: deep has ")
    same = {"deep": ARMS["deep"], "plain": ARMS["deep"]}
    said = reasons(tmp_path / "b", claim(arms=same))
    assert said[0] == "deep and plain are the same network with the same recipe"


def test_an_arm_may_have_checks_of_its_own_on_what_its_space_diagnoses(tmp_path: Path) -> None:
    """Two of five replicates moved nothing: the mean is below what the claim is about."""

    class Diagnosed(Noisy):
        def run(self, ticket: Ticket) -> Iterator[Report]:
            for report in super().run(ticket):
                said = {"moved_percent": 0.0 if ticket.seed < 3 else 25.0}
                yield replace(report, diagnosis=said) if report.values else report

    def asked(bound: str, **more: str) -> Claim:
        own = {"moved_percent": bound, **more}
        return claim(arms={**ARMS, "deep": {**ARMS["deep"], "checks": own}})

    said = reasons(tmp_path / "a", asked(">= 20", top1=">= 90"), Diagnosed())
    assert said[0] == "check moved_percent >= 20: deep has 15.00"
    assert said[1].startswith("check top1 >= 90: deep has ")
    assert len(said) == 2  # the other arm has no such check
    met = run_claim(asked(">= 10"), tmp_path / "b", evaluate=Diagnosed())
    assert met.total.verdict == "supported"
    said = reasons(tmp_path / "c", asked(">= 10"))
    assert said == ["check moved_percent >= 10: deep has no moved_percent"]


def test_further_values_are_told_with_their_range_and_decide_nothing(tmp_path: Path) -> None:
    class Turning(Noisy):
        def run(self, ticket: Ticket) -> Iterator[Report]:
            plain = ticket.candidate["operator"] == "dw"
            turned = {} if plain else {"turned": 2.0 * ticket.seed}
            for report in super().run(ticket):
                yield replace(report, diagnosis=turned) if report.values else report

    asked = claim(tell=["params", "turned"])
    found = run_claim(asked, tmp_path, evaluate=Turning())
    arms = {a["arm"]: a["told"] for a in found.arms}
    assert arms["deep"]["turned"]["n"] + arms["plain"]["turned"]["n"] == 5
    one = max((told["turned"] for told in arms.values()), key=lambda value: value["n"])
    assert one["mean"] == 6  # seeds 1 to 5
    assert (one["least"], one["most"]) == (2, 10)
    assert all(told["params"]["least"] == told["params"]["mean"] for told in arms.values())
    for page in (text(found), markdown(found)):
        assert page.count("turned") == 1
        assert page.count("6.00") == 1
    assert "tell" not in claim().resolved()
    silent = run_claim(claim(), tmp_path / "silent", evaluate=Turning())
    assert silent.total.verdict == found.total.verdict
    assert "told" not in silent.arms[0]


def test_a_further_arm_is_listed_and_decides_nothing(tmp_path: Path) -> None:
    third = {**ARMS, "flat": {"candidate": {"depth": 1}}}
    found = run_claim(claim(arms=third), tmp_path, evaluate=Noisy(faults={2: "raise"}))
    assert found.total.verdict == "supported"
    flat = [a for a in found.arms if a["arm"] == "flat"]
    assert [a["n"] for a in flat] == [4]
    assert flat[0]["failed"] == {"1": "RuntimeError: the layer does not fit"}
    assert "4 (1 failed)" in text(found)


def test_the_result_is_written_in_every_form(tmp_path: Path) -> None:
    found = run_claim(
        claim(matched={"params": 9.0}), tmp_path, evaluate=Noisy(), command="nasx claim hill"
    )
    saved = json.loads((tmp_path / "claim.json").read_text())
    assert saved["verdict"] == "supported"
    assert saved["hours"]["stated"] == 0.1
    rows = csv_text(found).splitlines()
    assert len(rows) == 2
    assert rows[0].startswith("claim,protocol,condition,primary,split,first,second,n,mean_first")
    page = markdown(found)
    assert page.startswith("# hill: supported\n")
    assert "```\nnasx claim hill\n```" in page
    assert saved["machine"]["cpu"] in page
    drawn = latex(found)
    assert drawn.count(r"\\") == 2
    assert r"95 \% interval" in drawn


def test_arms_that_cannot_be_are_refused_by_name(tmp_path: Path) -> None:
    by_rule = {**ARMS, "deep": {"rule": "customary", "meet": "plain"}}
    with pytest.raises(NasxError, match="hill: arm deep under small: Hill has no customary"):
        run_claim(claim(arms=by_rule), tmp_path, evaluate=Noisy())
    assert not kept(tmp_path)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from nasx.files import locked

    with locked(tmp_path / "lock", ""), pytest.raises(NasxError, match="use by another nasx claim"):
        run_claim(claim(), tmp_path, evaluate=Noisy())


def test_the_costs_shown_are_those_counted(tmp_path: Path) -> None:
    found = run_claim(claim(matched={"macs": 3.0}), tmp_path, evaluate=Noisy())
    counted = Hill(depth=8, side=32).macs()
    assert found.rows[0].to_json()["costs"]["macs"]["first"] == counted
