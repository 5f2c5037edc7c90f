"""The report tells what techniques did: the numbers that spaces diagnose, member by member."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dashboards._technique import COLUMNS, technique
from made_record import HOSTILE, many, one
from nasx.report import page
from nasx.trial import Snapshot


def told(path: Path, *diagnoses: dict[str, float]) -> str:
    """The section of a record whose first trials diagnosed these; t0001, t0002 are on its front."""
    record = many(path)
    trials = list(record.trials)
    for i, found in enumerate(diagnoses):
        trials[i] = replace(trials[i], diagnosis=found)
    made = replace(record, trials=tuple(trials))
    return technique(made, made.study)


def test_rates_of_levels_stand_side_by_side_with_bars_on_one_scale(tmp_path: Path) -> None:
    text = told(tmp_path, {}, {"open_4": 25.0, "open_8": 100.0, "small_r": -0.125},
                {"open_4": 50.0, "open_8": 0.0, "small_r": 0.5})  # fmt: skip
    assert "What the technique did" in text
    for heading in ("open 4", "open 8", "small r"):
        assert f">{heading}</th>" in text
    assert [w.split("%")[0] for w in text.split('style="width:')[1:]] == [
        "25.0", "100.0", "50.0", "0.0"
    ]  # fmt: skip
    assert "Bars run from 0 to 100." in text
    assert ">-0.125</td>" in text  # a number by itself has no bar
    rows = text.split("<th scope=row>")[1:]
    assert [row[:5] for row in rows] == ["t0001", "t0002"]  # by cost


def test_shares_end_at_1_and_numbers_with_a_sign_have_no_bar(tmp_path: Path) -> None:
    assert "Bars run from 0 to 1." in told(tmp_path / "a", {}, {"share1": 0.5, "share2": 0.25})
    assert "width:" not in told(tmp_path / "b", {}, {"r1": -0.5, "r2": 0.25})
    assert "Bars run from 0 to 250." in told(tmp_path / "c", {}, {"a1": 250.0, "a2": 125.0})


def test_a_member_that_lacks_a_number_has_a_dash_and_many_numbers_are_cut(tmp_path: Path) -> None:
    text = told(tmp_path, {}, {f"n{i}": 1.0 for i in range(COLUMNS + 3)}, {"n0": 1.0})
    assert text.count("<th scope=col class=num>n") == COLUMNS
    assert text.count("–") == COLUMNS - 1
    assert "The rest stands beside the plot" in text


def test_names_from_outside_stay_text_and_the_page_holds_the_section(tmp_path: Path) -> None:
    assert technique(one(tmp_path), one(tmp_path).study) == ""
    record: Snapshot = one(tmp_path)
    trial = replace(record.trials[0], diagnosis={HOSTILE: 1.0, "open_1": 0.5, "open_2": 1.0})
    text = page(replace(record, trials=(trial,)))
    (section,) = [s for s in text.split("<section") if "What the technique did</h2>" in s]
    assert "&lt;img src=x onerror=alert(1)&gt;" in section
    assert "<img" not in section
