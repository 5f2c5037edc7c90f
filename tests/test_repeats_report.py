"""What a reader sees of replicates and controls: in the report, the figure and the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dashboards import _repeats as repeats
from dashboards import pareto
from dashboards._data import page_data
from dashboards._points import Point, points
from dashboards._verdict import findings
from made_record import many, trial
from nasx.fronttext import front_text, near_text
from nasx.report import page
from nasx.results.front import contenders, front
from nasx.trial import Snapshot


def known(record: Snapshot) -> dict[int, Point]:
    return {p.number: p for p in points(record, record.study)}


def close(path: Path) -> Snapshot:
    """`many` with t0004 only just behind t0000, and told apart by nothing but a seed."""
    record = many(path)
    near = trial(4, 79.7, 4.1e6)
    return replace(
        record,
        study=record.study.model_copy(
            update={"objectives": {"top1": "maximize", "macs": "minimize"}}
        ),
        trials=tuple(near if t.number == 4 else t for t in record.trials),
    )


def test_a_difference_has_its_interval_by_hand(tmp_path: Path) -> None:
    """78 - 74 and 76 - 73: mean 3.5, sd .707, and t(1, .975) = 12.706 over the root of 2."""
    entry = next(e for e in front(many(tmp_path)) if e["trial"] == "t0002")
    score = entry["control"]["scores"]["top1"]
    assert (score["member"], score["control"], score["difference"]) == (77, 73.5, 3.5)
    assert score["high"] - 3.5 == pytest.approx(12.7062 * 0.5**0.5 / 2**0.5, rel=1e-4)
    assert score["low"] == pytest.approx(7 - score["high"])
    assert (entry["control"]["n"], entry["control"]["trials"]) == (2, ["t0013", "t0014"])


def test_a_pair_alone_has_no_interval(tmp_path: Path) -> None:
    record = many(tmp_path)
    record = replace(record, trials=tuple(t for t in record.trials if t.number not in (12, 14)))
    control = next(e for e in front(record) if e["trial"] == "t0002")["control"]
    assert control["n"] == 1
    assert control["scores"]["top1"] == {
        "member": 78, "control": 74, "difference": 4, "low": None, "high": None
    }  # fmt: skip
    assert "one pair, no interval" in repeats.controls(points(record, record.study), record.study)


def test_a_technique_that_leaves_the_macs_is_not_said_to_be_matched_in_them(tmp_path: Path) -> None:
    record = many(tmp_path)

    def said(record: Snapshot) -> str:
        return repeats.controls(points(record, record.study), record.study)

    assert "within 2%: what the technique" in said(record)
    trials = tuple(
        replace(t, card={**t.card, "adds": 10**6}) if t.number == 2 else t for t in record.trials
    )
    assert "within 2% (of any MACs, where" in said(replace(record, trials=trials))


def test_a_control_trained_though_its_cost_differs_is_not_compared(tmp_path: Path) -> None:
    record = many(tmp_path)
    dear = tuple(
        replace(t, card={**t.card, "macs": 3e6}) if t.control_of == 2 else t for t in record.trials
    )
    control = next(e for e in front(replace(record, trials=dear)) if e["trial"] == "t0002")[
        "control"
    ]
    assert control["scores"] == {}
    assert "3,000,000 MACs against the 2,000,000 of t0002 (50.0% off" in control["reason"]


def test_the_page_shows_differences_refusals_and_what_failed(tmp_path: Path) -> None:
    record = many(tmp_path)
    text = page(record)
    assert "Against its control" in text
    assert "+3.5\u00a0points (−2.9 to +9.9)" in text.replace("&nbsp;", "\u00a0")
    assert "control: its cost is not matched" in text
    assert "2 of 3 seeds, 1 failed" in text
    assert "replicate of t0002, seed 2" in text
    assert "MemoryError: &lt;b&gt;" in text
    cards = {c.number: " ".join(c.sentences) for c in findings(record, record.study)}
    assert any("with a probability of" in said for said in cards.values())
    row = next(t for t in page_data(record, record.study)["trials"] if t["number"] == 2)
    assert "Its replicate t0015 (seed 2) failed: MemoryError: <b>." in row["again"]
    assert "Its values are the mean of 2, not of 3." in row["again"]
    assert any(said.startswith("Against its control: +3.5 points") for said in row["again"])


def test_a_record_without_replicates_or_controls_shows_none_of_it(tmp_path: Path) -> None:
    record = many(tmp_path)
    plain = replace(record, trials=tuple(t for t in record.trials if t.searched))
    found = points(plain, plain.study)
    assert repeats.controls(found, plain.study) == repeats.contenders(found, plain.study) == ""
    assert "probability" not in front_text(front(plain))
    assert all(t["again"] == [] for t in page_data(plain, plain.study)["trials"])
    drawn = pareto.figure(plain, plain.study)
    assert "note" not in (drawn.layout.meta or {})


def test_who_is_close_behind_is_listed_and_darker_than_who_is_not(tmp_path: Path) -> None:
    record = close(tmp_path)
    likely = known(record)[4].membership
    assert likely is not None
    assert 0.2 < likely < 0.5
    assert [e["trial"] for e in contenders(record)] == ["t0004"]
    listed = repeats.contenders(points(record, record.study), record.study)
    assert f"{100 * likely:.0f} %" in listed
    assert "t0004" in near_text(contenders(record))
    traces = [t for t in pareto.figure(record, record.study).data if t.meta["role"] == "dominated"]
    fills = {n: c for t in traces for n, c in zip(t.customdata, t.marker.color, strict=True)}
    members = [t for t in pareto.figure(record, record.study).data if t.meta["role"] == "front"]
    sure = {n: c for t in members for n, c in zip(t.customdata, t.marker.color, strict=True)}
    assert sure[1] == "#0072b2"  # the cheapest stands whatever it scores: full colour
    lightness = [int(colour[1:3], 16) for colour in (sure[1], sure[3], fills[4])]
    assert lightness == sorted(lightness)


def test_the_terminal_says_each_reason_once(tmp_path: Path) -> None:
    text = front_text(front(many(tmp_path)))
    assert "+3.5 [-2.85, +9.85]" in text
    assert "t0002: seed 2 failed: MemoryError: <b>" in text
    assert text.count("control: its cost is not matched") == 1
    asked = many(tmp_path / "b")
    final = asked.study.final.model_copy(update={"controls": "front"})
    study = asked.study.model_copy(update={"final": final})
    bare = replace(asked, study=study, trials=tuple(t for t in asked.trials if t.searched))
    said = "t0003, t0000, t0002, t0001: no comparison with a control: no control has been trained"
    assert said in front_text(front(bare))
    assert "only with replicates" in near_text([])


@pytest.mark.parametrize(
    ("probability", "words"),
    [(None, "–"), (1.0, "> 99 %"), (0.0, "< 1 %"), (0.42, "42 %"), (0.994, "99 %")],
)
def test_a_probability_is_never_said_to_be_certain(probability: float | None, words: str) -> None:
    assert repeats.chance(probability) == words
