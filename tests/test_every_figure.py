"""Every figure of dashboards/ keeps one contract, and says what its record says."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from dashboards import (
    cost_by_layer,
    fidelity,
    hypervolume,
    latency_steps,
    parallel,
    pareto,
    rejections,
    rungs,
)
from dashboards import scaling_rule as scaling
from dashboards._points import points, staircase
from made_record import HOSTILE, hostile, many, one, rule, study, trial, zero
from nasx.registry import figures
from nasx.report import page
from nasx.trial import Snapshot, State

HOME = Path(__file__).parent.parent / "dashboards"
SVG = {"scatter", "bar", "box", "violin", "histogram", "heatmap", "contour", "pie"}  # no WebGL
Make = Callable[[Path], Snapshot]


def names(figure: dict) -> list[str]:
    return [trace["type"] for trace in figure["data"]]


@pytest.mark.parametrize("module", figures(), ids=lambda m: m.__name__)
@pytest.mark.parametrize("make", [zero, one, many, hostile], ids=lambda m: m.__name__)
def test_a_figure_draws_any_record(module: ModuleType, make: Make, tmp_path: Path) -> None:
    record = make(tmp_path)
    drawn = json.loads(module.figure(record, record.study).to_json())
    assert set(names(drawn)) <= SVG
    assert make is not zero or drawn["layout"]["meta"]["empty"].endswith(".")
    assert make is not many or drawn["data"]
    text = json.dumps([drawn["data"], drawn["layout"].get("annotations")])
    assert "<img" not in text
    assert "<b>bad" not in text


@pytest.mark.parametrize("module", figures(), ids=lambda m: m.__name__)
def test_a_figure_says_what_it_is(module: ModuleType) -> None:
    assert module.TITLE
    assert isinstance(module.ORDER, int)
    assert module.WHY.endswith(".")
    assert module.__doc__


def test_orders_differ_so_that_the_report_is_always_the_same() -> None:
    orders = [m.ORDER for m in figures()]
    assert len(set(orders)) == len(orders) >= 9


@pytest.mark.parametrize("file", sorted(HOME.glob("*.py")), ids=lambda f: f.name)
def test_dashboards_only_read_the_record(file: Path) -> None:
    tree = ast.parse(file.read_text())
    found = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    heavy = {name.partition(".")[0] for name in found} & {"torch", "ray", "optuna", "search_spaces"}
    assert not heavy
    assert not {name for name in found if name.startswith(("nasx.search", "nasx.training"))}


def test_a_report_is_drawn_without_torch_ray_or_optuna(tmp_path: Path) -> None:
    code = (
        f"import sys, pathlib; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import made_record, dashboards.live; from nasx.report import page; "
        f"page(made_record.one(pathlib.Path({str(tmp_path)!r}))); "
        "print([m for m in ('torch', 'ray', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_front_shows_every_trial_in_its_role(tmp_path: Path) -> None:
    record = many(tmp_path)
    roles = {p.number: p.role for p in points(record, record.study)}
    assert {n for n, role in roles.items() if role == "front"} == {0, 1, 2, 3}
    assert roles[4] == "dominated"
    assert roles[5] == roles[6] == "infeasible"
    assert roles[7] == roles[8] == "stopped"
    assert (roles[9], roles[10], roles[11]) == ("failed", "unfinished", "unfinished")
    assert 12 not in roles  # a replicate is part of its original


def test_replicates_become_a_mean_with_its_spread(tmp_path: Path) -> None:
    record = many(tmp_path)
    point = next(p for p in points(record, record.study) if p.number == 2)
    assert point.values["top1"] == pytest.approx(77)
    assert point.spread["top1"] == (pytest.approx(2**0.5), 2)
    front = next(t for t in pareto.figure(record, record.study).data if t.meta["role"] == "front")
    bar = dict(zip(front.customdata, front.error_y.array, strict=True))
    assert bar == {0: 0, 1: 0, 2: pytest.approx(2**0.5), 3: 0}


def test_the_line_is_the_front_of_the_two_axes_shown(tmp_path: Path) -> None:
    record = many(tmp_path)
    found = [p for p in points(record, record.study) if p.role in ("front", "dominated")]
    assert [p.number for p in staircase(found, "macs", "top1")] == [1, 2, 0, 3]
    # Measured latencies rise with the number, provisional ones are not compared with them.
    assert [p.number for p in staircase(found, "latency_ms", "top1")] == [0, 3]


def test_knee_and_baseline_are_marked_and_a_space_without_a_front_keeps_its_name(
    tmp_path: Path,
) -> None:
    record = many(tmp_path)
    stopped = replace(record.trials[7], space="adder")
    record = replace(
        record,
        study=study(space=["tinynet", "adder"]),
        trials=(*record.trials[:7], stopped),
    )
    drawn = pareto.figure(record, record.study)
    marked = {t.meta["role"]: t.customdata for t in drawn.data if t.meta["role"] in MARKS}
    assert marked["baseline"] == (0,)
    assert marked["knee"][0] in (0, 2)
    assert {"tinynet", "adder"} <= {t.name for t in drawn.data}


MARKS = ("knee", "baseline")


def test_hypervolume_grows_to_its_end_and_names_the_reference(tmp_path: Path) -> None:
    info = hypervolume.collect(many(tmp_path))
    assert info.shares == sorted(info.shares)
    assert info.shares[-1] == pytest.approx(1)
    assert info.restarts == [4]
    assert set(info.reference) == {"top1", "macs", "latency_ms"}


def test_rungs_count_the_survivors_of_each_quarter(tmp_path: Path) -> None:
    record = many(tmp_path)
    info = rungs.collect(record, record.study)
    assert sum(info.started) == 10  # neither running, nor without a score, nor replicates
    assert sum(row[0] for row in info.reached) == 10
    assert sum(row[-1] for row in info.reached) == 7
    assert info.axis == "macs"


def test_the_funnel_loses_nobody(tmp_path: Path) -> None:
    record = many(tmp_path)
    steps = {s.label: s.count for s in rejections.collect(record, record.study)}
    assert steps["proposed"] == 12 + 3 + 4
    assert steps["proposed"] - steps["seen before"] - steps["refused: parameters"] == 12
    assert steps["trained"] == 12
    left = steps["failed"] + steps["stopped at a rung"] + steps["not finished"]
    assert steps["trained"] - left == steps["fully trained"] == 7
    assert steps["on the front"] == 4


def test_cost_by_part_adds_up_to_the_whole(tmp_path: Path) -> None:
    record = many(tmp_path)
    info = cost_by_layer.collect(record, record.study)
    assert info.rows == ["t0001", "t0002", "t0000", "t0003"]
    assert [sum(row) for row in info.table] == [1e6, 2e6, 4e6, 8e6]
    assert info.parts == ["stem", "stages", "head"]


def test_many_parts_are_joined_and_still_add_up(tmp_path: Path) -> None:
    record = one(tmp_path)
    layers = [{"name": f"part{i}.conv", "macs": i + 1} for i in range(20)]
    folder = tmp_path / "trials" / "t0000"
    folder.mkdir(parents=True)
    (folder / "cost.json").write_text(json.dumps({"by_layer": layers}))
    info = cost_by_layer.collect(record, record.study)
    assert len(info.parts) == cost_by_layer.PARTS
    assert info.parts[-1] == "other"
    assert sum(info.table[0]) == sum(range(1, 21))


def test_kendall_by_hand() -> None:
    assert fidelity.kendall([1, 2, 3, 4], [1, 2, 3, 4]) == pytest.approx(1)
    assert fidelity.kendall([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert fidelity.kendall([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    # One tie in a: 2 concordant pairs of sqrt(2 * 3) (tau-b).
    assert fidelity.kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert fidelity.kendall([1, 1, 1], [1, 2, 3]) is None


def test_fidelity_knows_a_rung_scored_after_whole_batches(tmp_path: Path) -> None:
    record = many(tmp_path)
    late = tuple(
        replace(t, rungs=tuple(replace(r, samples=r.samples + 4) for r in t.rungs[:-1])
                + t.rungs[-1:])
        for t in record.trials
    )  # fmt: skip
    found = fidelity.collect(replace(record, trials=late), record.study)
    assert [r.names for r in found] == [r.names for r in fidelity.collect(record, record.study)]


def test_fidelity_pairs_only_fully_trained_trials(tmp_path: Path) -> None:
    record = many(tmp_path)
    early, late = fidelity.collect(record, record.study)
    assert len(early.names) == len(late.names) == 7
    assert early.tau == pytest.approx(1)
    few = replace(record, trials=record.trials[:3])
    assert fidelity.collect(few, few.study)[0].tau is None


def test_parallel_leaves_out_what_never_varied(tmp_path: Path) -> None:
    record = many(tmp_path)
    info = parallel.collect(record, record.study)
    labels = [axis.label for axis in info.axes]
    assert labels == ["r", "d", "act", "top-1 accuracy", "MACs", "latency"]
    assert info.constant == 1  # base
    assert all(h is None or 0 <= h <= 1 for axis in info.axes for h in axis.heights)
    act = info.axes[2]
    assert {word for _, word in act.levels} == {"relu", "silu"}


def test_parallel_spreads_list_fields() -> None:
    assert parallel.flat({"w": [1, 2], "r": 0.5}) == {"w.0": 1, "w.1": 2, "r": 0.5}


def test_the_rule_shows_its_band_the_null_and_what_was_solved(tmp_path: Path) -> None:
    info = scaling.collect(many(tmp_path))
    assert info is not None
    assert [p.name for p in info.panels] == ["r", "w"]  # c tells nothing that the axis does not
    assert [c.name for c in info.panels[0].curves] == [
        "Gaussian process",
        "power law",
        "customary rule",
    ]
    assert info.panels[0].curves[0].low
    assert not info.panels[0].curves[1].low
    assert "0.050" in info.panels[0].says


def test_steps_show_flat_widths_their_own_and_a_sentence_for_each_part(tmp_path: Path) -> None:
    record = many(tmp_path)
    info = latency_steps.collect(record)
    assert info is not None
    assert [p.name for p in info.panels] == ["stage 1", "stage 2"]
    first = info.panels[0]
    assert [widths for widths, _ in first.flats] == [[24, 28, 32], [33, 36, 40, 44, 48]]
    assert first.promised[first.widths.index(36)] == first.ms[first.widths.index(36)]
    drawn = latency_steps.figure(record, record.study)
    said = drawn.layout.meta["note"].splitlines()
    assert said[0].startswith("All parts at their useful side (stage 1 at 48): 240 k of the 6.00 M")
    assert said[1].startswith("t0002 measures slower than the whole network it was cut from")
    assert said[2].startswith("stage 1: 33 to 48 channels take the same time, and the 300 k MACs")
    assert said[-1] == "Other work disturbed this measurement."
    marked = [t.x[0] for t in drawn.data if t.name == "as it is"]
    assert marked == [36, 64]


def test_most_reports_have_no_card_of_steps(tmp_path: Path) -> None:
    assert latency_steps.applies(many(tmp_path))
    assert latency_steps.TITLE in page(many(tmp_path / "with"))
    assert latency_steps.TITLE not in page(one(tmp_path / "without"))


def test_a_refused_rule_shows_its_points_and_the_reason(tmp_path: Path) -> None:
    found = {**rule(), "refused": "4 trials, and a rule needs 6"}
    (tmp_path / "rule.json").write_text(json.dumps(found))
    record = one(tmp_path)
    drawn = scaling.figure(record, record.study)
    assert "4 trials, and a rule needs 6" in drawn.layout.meta["note"]
    assert {t.mode for t in drawn.data} == {"markers"}
    (tmp_path / "rule.json").write_text(json.dumps({**found, "points": []}))
    assert "a rule needs 6" in scaling.figure(record, record.study).layout.meta["empty"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_torn_rule_is_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "rule.json").write_text(text)
    record = one(tmp_path)
    assert "No scaling rule" in scaling.figure(record, record.study).layout.meta["empty"]


def test_torn_files_of_a_trial_are_left_out(tmp_path: Path) -> None:
    record = many(tmp_path)
    (tmp_path / "trials" / "t0003" / "cost.json").write_text("{")
    (tmp_path / "trials" / "t0003" / "curve.csv").write_bytes(b"samples,loss\n1,\xff\n")
    assert "t0003" not in cost_by_layer.collect(record, record.study).rows


def test_a_trial_without_any_value_does_not_break_a_figure(tmp_path: Path) -> None:
    bare = trial(1, state=State.FAILED, rungs=0, card={}, candidate={})
    record = replace(one(tmp_path), trials=(trial(0), bare))
    for module in figures():
        assert module.figure(record, record.study).data is not None


def test_names_from_outside_stay_text_in_labels(tmp_path: Path) -> None:
    record = hostile(tmp_path)
    drawn = pareto.figure(record, record.study)
    texts = [t for trace in drawn.data for t in (trace.text or ()) if "&lt;img" in t]
    assert texts
    assert HOSTILE not in str(drawn.to_json())
