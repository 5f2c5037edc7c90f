"""The final pass: what is timed together, and that the test split is scored once."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nasx.cost import latency
from nasx.cost.latency import Latency
from nasx.files import read_json, write_json
from nasx.results import final
from nasx.results.front import front
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
    def __init__(self) -> None:
        self.task = Task()


@pytest.fixture
def pass_of(monkeypatch):
    """Run the final pass with these milliseconds; return the names it timed."""

    def go(run, trained, times, calibrator=1.0):
        asked: list[str] = []

        def timing(networks, measure, *, seed, raw):
            asked.extend(networks)
            return {
                name: Latency(times[name], times[name], 0, 0, 1, False, 50, "onnxruntime", "cpu",
                              1, 1, calibrator, "a machine")
                for name in networks
            }  # fmt: skip

        monkeypatch.setattr(latency, "time_networks", timing)
        monkeypatch.setattr(final, "_network", lambda run, trained, s, number: (number, (3, 8, 8)))
        monkeypatch.setattr(final, "write_results", lambda run, note: None)
        final.finish(run, trained, lambda text: None)
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


def _neighbours(run, count):
    return run.whole.study.final.model_copy(update={"neighbours": count})
