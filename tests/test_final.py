"""The final pass: what is timed together, and that the test split is scored once."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from torch import nn

from nasx.cost import latency
from nasx.cost.latency import Latency, Timed
from nasx.files import read_json, read_json_lines, write_json
from nasx.results import final
from nasx.results.front import front
from nasx.shape import TaskShape
from nasx.trial import Final
from test_front import THREE, snapshot, trial


class Memory:
    """A run whose trials are in memory and whose findings are on disk."""

    def __init__(self, path: Path, whole) -> None:
        self.path, self.whole = path, whole

    def folder(self, number: int) -> Path:
        folder = self.path / f"t{number:04d}"
        folder.mkdir(exist_ok=True)
        return folder

    def snapshot(self):
        kept = {
            t.number: read_json(self.folder(t.number) / "final.json") for t in self.whole.trials
        }
        finals = {n: Final(**k) for n, k in kept.items() if k}
        return replace(self.whole, path=self.path, finals=finals)


class Task:
    """Scores a network, here its trial's number, and notes every score asked of it."""

    def __init__(self) -> None:
        self.scored: list[tuple[int, str]] = []

    def score(self, model, split, shape):
        self.scored.append((model, split))
        return {"top1": 90.0 - model}


class Trained:
    shape = TaskShape("classify", (3, 16, 16), 3)

    def __init__(self) -> None:
        self.task = Task()


@pytest.fixture
def pass_of(monkeypatch):
    """Run the final pass with these milliseconds; return the names it timed.

    A text in place of milliseconds is why a network cannot be timed. `shares` are the shares of
    the CPU that each measurement gets; `notes` collects what the user is told.
    """

    def go(run, trained, times, calibrator=1.0, shares=(1.0,), notes=None):
        asked: list[str] = []
        left = list(shares)

        def timing(networks, measure, *, seed, passes, raw):
            asked.extend(networks)
            share = left.pop(0)
            found = {
                name: Latency(times[name], times[name], 0, 0, share, share < 0.9, 50,
                              "onnxruntime", "cpu", 1, 1, calibrator / share, "a machine",
                              (times[name],) * passes)
                for name in networks if not isinstance(times[name], str)
            }  # fmt: skip
            faults = {n: t for n, t in times.items() if isinstance(t, str)}
            return Timed(found, faults, share)

        monkeypatch.setattr(latency, "time_each", timing)
        monkeypatch.setattr(final, "_network", lambda run, trained, s, number: (number, (3, 8, 8)))
        monkeypatch.setattr(final, "write_results", lambda run, note: None)
        final.finish(run, trained, [].append if notes is None else notes.append)
        return asked

    return go


def test_the_test_split_is_scored_once_for_each_front_member_and_decides_nothing(tmp_path, pass_of):
    whole = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 200, latency=2.0),
        trial(2, 40, 300, latency=3.0),
        objectives=THREE,
    )
    run, trained = Memory(tmp_path, whole), Trained()
    times = {"t0000": 1.0, "t0001": 2.0, "t0002": 3.0}
    assert set(pass_of(run, trained, times)) == {"t0000", "t0001", "t0002"}
    assert trained.task.scored == [(0, "test"), (1, "test")]  # t0002 is a neighbour
    before = front(run.snapshot())
    assert [e["test"] for e in before] == [{"top1": 90.0}, {"top1": 89.0}]
    assert pass_of(run, trained, times) == []  # nothing is left to time
    assert len(trained.task.scored) == 2
    for number in (0, 1):  # however the test scores turn out, the front stays
        kept = read_json(run.folder(number) / "final.json")
        write_json(run.folder(number) / "final.json", {**kept, "test": {"top1": -number}})
    after = front(run.snapshot())
    assert [e["trial"] for e in after] == [e["trial"] for e in before]


def test_latencies_of_two_passes_never_meet(tmp_path, pass_of):
    first = snapshot(
        trial(0, 50, 100, latency=1.0), trial(1, 60, 200, latency=2.0), objectives=THREE
    )
    run, trained = Memory(tmp_path, first), Trained()
    pass_of(run, trained, {"t0000": 1.0, "t0001": 2.0})
    # Better ones are found, so many that the first two are not even neighbours; the machine is
    # slower that day.
    better = [trial(n, 70 + n, 60 + n, latency=0.5) for n in range(2, 7)]
    run.whole = replace(first, trials=(*first.trials, *better))
    run.whole = replace(
        run.whole, study=run.whole.study.model_copy(update={"final": _neighbours(run, 0)})
    )
    asked = pass_of(run, trained, {f"t{n:04d}": 9.0 for n in range(2, 7)}, calibrator=2.0)
    assert set(asked) == {f"t{n:04d}" for n in range(2, 7)}
    finals = run.snapshot().finals
    assert finals[0].latency is None
    assert finals[0].test == {"top1": 90.0}
    assert [e["trial"] for e in front(run.snapshot())] == [f"t{n:04d}" for n in range(2, 7)]


def test_a_pass_cut_off_between_two_findings_is_done_again(tmp_path, pass_of):
    whole = snapshot(
        trial(0, 50, 100, latency=1.0), trial(1, 60, 200, latency=2.0), objectives=THREE
    )
    run, trained = Memory(tmp_path, whole), Trained()
    times = {"t0000": 1.0, "t0001": 2.0}
    pass_of(run, trained, times)
    kept = run.snapshot().finals[0]
    other = replace(kept, latency={**kept.latency, "calibrator_ms": 7.0})
    write_json(run.folder(0) / "final.json", asdict(other))
    assert set(pass_of(run, trained, times)) == {"t0000", "t0001"}


def test_what_cannot_be_told_apart_is_noted_stored_and_on_the_front(tmp_path, pass_of):
    whole = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 200, latency=2.0),
        trial(2, 40, 300, latency=3.0),
        objectives=THREE,
    )
    run, notes = Memory(tmp_path, whole), []
    pass_of(run, Trained(), {"t0000": 1.0, "t0001": 2.0, "t0002": 2.01}, notes=notes)
    assert "latency: t0001 and t0002 cannot be told apart" in notes
    assert sum("told apart" in note for note in notes) == 1
    finals = run.snapshot().finals
    assert [finals[n].latency["same_as"] for n in range(3)] == [[], ["t0002"], ["t0001"]]
    assert "by_pass" not in finals[0].latency
    assert [e["same_as"] for e in front(run.snapshot())] == [[], ["t0002"]]
    assert "same_as" not in front(run.snapshot(), latency="provisional")[0]


def test_a_network_that_cannot_be_timed_keeps_its_reason_and_costs_the_others_nothing(
    tmp_path, pass_of
):
    whole = snapshot(
        trial(0, 50, 100, latency=1.0),
        trial(1, 60, 200, latency=2.0),
        trial(2, 40, 300, latency=3.0),
        objectives=THREE,
    )
    run, trained, notes = Memory(tmp_path, whole), Trained(), []
    times = {"t0000": "Net: cannot be written as ONNX", "t0001": 2.0, "t0002": 3.0}
    pass_of(run, trained, times, notes=notes)
    assert "latency: t0000 cannot be timed: Net: cannot be written as ONNX" in notes
    finals = run.snapshot().finals
    assert (finals[0].latency, finals[0].fault) == (None, "Net: cannot be written as ONNX")
    assert (finals[1].latency["median_ms"], finals[1].fault) == (2.0, None)
    entries = front(run.snapshot())
    assert [(e["trial"], e["latency"]) for e in entries] == [("t0001", "measured")]
    assert pass_of(run, trained, times) == []  # the fault is known: nothing is timed again


@pytest.mark.parametrize(
    ("shares", "measured", "kept", "said"),
    [
        ([1.0], 1, 1.0, []),
        ([0.6, 0.95], 2, 0.95, ["60%", "measuring again"]),
        ([0.6, 0.8, 0.5], 3, 0.8, ["60%", "80%", "50%", "marked contended"]),
    ],
)
def test_a_disturbed_pass_is_measured_again_and_never_silently_stored(
    shares, measured, kept, said, tmp_path, pass_of
):
    whole = snapshot(trial(0, 50, 100, latency=1.0), objectives=THREE)
    run, notes = Memory(tmp_path, whole), []
    asked = pass_of(run, Trained(), {"t0000": 1.0}, shares=shares, notes=notes)
    assert asked == ["t0000"] * measured
    found = run.snapshot().finals[0].latency
    assert found["cpu_share"] == kept
    assert found["contended"] == (kept < 0.9)
    disturbed = " ".join(note for note in notes if "disturbed" in note)
    assert all(text in disturbed for text in said)
    assert bool(disturbed) == bool(said)


def test_a_real_pass_beside_a_network_that_does_not_fit(tmp_path, monkeypatch):
    networks = {0: nn.Conv2d(3, 4, 3), 1: nn.Linear(7, 3), 2: nn.Conv2d(3, 64, 3)}
    monkeypatch.setattr(final, "_network", lambda run, trained, s, n: (networks[n], (3, 16, 16)))
    monkeypatch.setattr(final, "write_results", lambda run, note: None)
    monkeypatch.setattr(Task, "score", lambda self, model, split, shape: {"top1": 1.0})
    trials = [trial(n, 50 + n, 100 + n, latency=1.0 + n) for n in range(3)]
    run, notes = Memory(tmp_path, snapshot(*trials, objectives=THREE)), []
    final.finish(run, Trained(), notes.append)
    finals = run.snapshot().finals
    assert finals[0].latency["median_ms"] < finals[2].latency["median_ms"]
    assert finals[0].latency["samples"] == 80  # 20 passes
    assert "Linear: cannot run on an input of 1 x 3 x 16 x 16" in finals[1].fault
    heads = [line for line in read_json_lines(tmp_path / "latency.jsonl") if "machine" in line]
    assert heads[-1]["faults"].keys() == {"t0001"}
    assert heads[-1]["measurement"]["passes"] == 20


def _neighbours(run, count):
    return run.whole.study.final.model_copy(update={"neighbours": count})
