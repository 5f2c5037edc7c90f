"""The scan for steps: what is timed, that it stays small, and a real run from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import nasx
from cut import MOST, Cut
from nasx import cli
from nasx.cost.latency import Latency, Timed
from nasx.errors import SpaceError
from nasx.files import read_json, write_json
from nasx.fronttext import front_text
from nasx.results import quiet, scan, scanned
from nasx.results.scanned import FILE, keep_steps, kept_steps
from nasx.shape import TaskShape
from nasx.space import each, integer
from nasx.study import Measure, Study

SHAPE = TaskShape("classify", (1, 8, 8), 10)
SMALL = {
    "name": "cut",
    "desc": "Which widths of two stages buy accuracy?",
    "space": f"{Path(__file__).parent}/cut.py:Cut",
    "domains": {"width.0": [8, 40], "width.1": [8, 40]},
    "task": "digits",
    "objectives": {"top1": "maximize", "latency_ms": "minimize"},
    "fidelity": {"full": 200, "rungs": 1},
    "search": {"trials": 3, "sampler": "random"},
    "final": {"neighbours": 0},
    "measure": {"runtime": "eager"},
    "resources": {"executor": "inline"},
}


@pytest.fixture
def timed(monkeypatch):
    """Time networks by a law of (channels of each convolution); return what was asked, by call."""
    asked = []

    def by(law):
        def quietly(networks, measure, seed, raw, note, *, passes, tries):
            asked.append(networks)
            ms = {
                name: law(*(m.out_channels for m in model if hasattr(m, "out_channels")))
                for name, (model, shape) in networks.items()
            }
            found = {
                name: Latency(t, t, t, t, 1.0, False, 80, measure.runtime, "cpu", 1, 1, 1.0,
                              "a machine", (t,) * passes)
                for name, t in ms.items() if t is not None
            }  # fmt: skip
            return Timed(found, {})

        monkeypatch.setattr(quiet, "time_quietly", quietly)
        return asked

    return by


def in_blocks(*widths):
    return sum(-(-w // 16) for w in widths)


def looked_at(candidate, path, **more):
    return scan.scan(candidate, SHAPE, Measure(), trial="t0007", raw=path / "raw", note=str, **more)


def test_each_part_alone_then_all_at_their_useful_side(timed, tmp_path):
    asked = timed(in_blocks)
    found = looked_at(Cut(width=(20, 30)), tmp_path)
    assert {n: [r["width"] for r in p["rungs"]] for n, p in found["parts"].items()} == {
        "stage 0": [8, 16, 18, 19, 20, 21, 24, 32, 40],
        "stage 1": [8, 16, 24, 29, 30, 31, 32, 40, 48],
    }
    first = found["parts"]["stage 0"]
    assert (first["free_up_to"]["wide"], first["step_down_to"]["narrow"]) == (32, 16)
    assert found["snapped"]["candidate"] == {"width": [32, 32]}
    assert found["snapped"]["widths"] == {"stage 0": 32, "stage 1": 32}
    assert found["snapped"]["ratio"] == 1
    assert found["whole"]["slower"] is False
    assert found["whole"]["ratio"] == pytest.approx(4 / 6)
    assert found["left_out"] == []
    assert [len(networks) for networks in asked] == [18, 2]  # its own is timed once, and the whole
    cards = {w: nasx.cost(Cut(width=(w, 30)), task=SHAPE).macs for w in (20, 32)}
    assert first["free_up_to"]["macs"] == cards[32] - cards[20]
    said = scanned.sentences(found)
    assert said[0].startswith("All parts at their useful side (stage 0 at 32, stage 1 at 32): ")
    assert "MACs that were cut bought no time (+0.0 to +0.0 %)" in said[0]
    assert said[1].startswith("stage 0: 18 to 32 channels take the same time")


def test_steps_of_parts_that_do_not_add_up_are_told(timed, tmp_path):
    timed(lambda a, b: in_blocks(a, b) + (2 if a == b == 32 else 0))
    said = scanned.sentences(looked_at(Cut(width=(20, 30)), tmp_path))
    assert said[0].startswith(
        "All parts at their useful side (stage 0 at 32, stage 1 at 32) take longer"
    )


def test_a_network_slower_than_its_whole_is_told(timed, tmp_path):
    timed(lambda a, b: 1.0 if a == b == MOST else 2.0)
    said = scanned.sentences(looked_at(Cut(width=(20, 30)), tmp_path))
    slower = "t0007 measures slower than the whole network it was cut from, by 100 to 100 %"
    assert any(slower in line for line in said)


class Many(Cut):
    width: tuple[int, ...] = each(20, integer(4, MOST, default=20))


@pytest.mark.parametrize(("runtime", "most"), [("onnxruntime", 36), ("aot", 12)])
def test_however_many_parts_the_networks_are_bounded(timed, tmp_path, runtime, most):
    asked = timed(in_blocks)
    found = scan.scan(Many(), SHAPE, Measure(runtime=runtime), trial="t0", raw=tmp_path, note=str)
    assert len(asked[0]) <= most + 1  # and the whole network
    assert len(found["parts"]) == most // 3
    assert len(found["left_out"]) == 20 - most // 3
    assert f"Not looked at, for there are many parts: {found['left_out'][0]}" in "\n".join(
        scanned.sentences(found)
    )
    assert all(len(p["rungs"]) >= 3 for p in found["parts"].values())


class Even(Cut):
    def resized(self, widths, shape):
        if any(w % 2 for w in widths.values()):
            raise SpaceError("even widths only")
        return super().resized(widths, shape)

    def refusal(self, shape):
        return "not 8" if 8 in self.width else None


def test_widths_that_the_space_refuses_are_passed_over(timed, tmp_path):
    timed(in_blocks)
    rungs = looked_at(Even(width=(20, 30)), tmp_path)["parts"]["stage 0"]["rungs"]
    assert [r["width"] for r in rungs] == [16, 18, 20, 24, 32, 40]


class Plain(Cut):
    def parts(self, shape):
        return {}


def test_without_parts_there_is_no_scan(timed, tmp_path):
    asked = timed(in_blocks)
    assert looked_at(Plain(), tmp_path) is None
    assert asked == []


def test_passes_fit_the_time_there_is():
    assert scan._passes(18, None) == quiet.PASSES
    assert scan._passes(18, 0.1) == 60
    assert scan._passes(18, 5.0) == 27
    assert scan._passes(18, 1000.0) == 12


def test_a_real_run_keeps_the_steps_of_its_knee(tmp_path, timed, monkeypatch, capsys):
    notes = []
    monkeypatch.setattr(scan, "PASSES", (12, 12))  # enough for bounds, and quick
    run = nasx.search(Study.model_validate(SMALL), tmp_path / "run")
    found = read_json(run.path / FILE)
    entries = nasx.front(run)
    assert found == kept_steps(run.snapshot())
    assert found["trial"] in {e["trial"] for e in entries}
    assert found["measure"]["runtime"] == "eager"
    assert set(found["parts"]) == {"stage 0", "stage 1"}
    for part in found["parts"].values():
        assert part["width"] in [r["width"] for r in part["rungs"]]
        assert all(r["ms"] > 0 for r in part["rungs"])
    whole = nasx.cost(Cut(width=(MOST, MOST)), task="digits").macs
    assert all(e["whole"]["macs"] == whole for e in entries)
    assert {"macs", "ms", "ratio", "low", "high", "slower"} == set(entries[0]["whole"])
    assert cli.run(["steps", str(run.path)]) == 0
    shown = capsys.readouterr().out
    assert all(sentence in shown for sentence in scanned.sentences(found))
    assert "as it is" in shown
    assert cli.run(["steps", str(run.path), found["trial"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    # Done once: nothing is timed again, unless the knee is another network.
    asked = timed(in_blocks)
    keep_steps(run, SHAPE, notes.append)
    assert asked == []
    write_json(run.path / FILE, {**found, "trial": "t9999"})
    keep_steps(run, SHAPE, notes.append)
    assert len(asked) >= 1
    assert read_json(run.path / FILE)["trial"] == found["trial"]
    (run.path / FILE).unlink()
    assert cli.run(["steps", str(run.path)]) == 1
    assert "keeps no latency steps: its study asks for no latency" in capsys.readouterr().err
    assert cli.run(["steps", str(run.path), "best"]) == 0  # timed now, and kept nowhere
    assert "latency steps: timing" in capsys.readouterr().err
    assert not (run.path / FILE).exists()
    assert cli.run(["steps", str(run.path), "t0099"]) == 1
    assert "no 't0099' on the front" in capsys.readouterr().err
    # A fault of the space's own hook costs the scan, not the run.
    monkeypatch.setattr(scanned, "candidate_of", lambda trial: 1 / 0)
    keep_steps(run, SHAPE, notes.append)
    assert notes[-1] == "latency steps: not looked for: ZeroDivisionError: division by zero"
    slower = {**entries[0], "whole": {**entries[0]["whole"], "slower": True, "low": 1.1,
                                      "high": 1.2}}  # fmt: skip
    assert "by 10 to 20 % (99 % interval)" in front_text([slower])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"parts": 3}'])
def test_a_torn_file_is_as_none(text, tmp_path):
    from test_front import snapshot

    (tmp_path / FILE).write_text(text)
    assert kept_steps(replace(snapshot(), path=tmp_path)) is None
