"""What cannot be counted, exported or timed: one clear message, recorded with what is known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import nasx
from nasx.cost import latency
from nasx.cost.ops import Ops
from nasx.errors import NasxError, NoTrialCompleted
from nasx.files import read_json
from nasx.run import Run
from nasx.search.search import proposers
from nasx.search.trained import Trained
from nasx.shape import TaskShape
from nasx.space import choice
from nasx.study import Study
from nasx.trial import State, Trial
from tiny import Net, Tiny, TinyDigits

HERE = Path(__file__).parent
EAGER = {"runtime": "eager"}
TWO = {"top1": "maximize", "macs": "minimize"}


class Wrong(Net):
    """Wants an input that is not the task's."""

    def forward(self, inputs):
        return super().forward(inputs.reshape(len(inputs), 3, 99))


@torch.library.custom_op("nasx_test::mirror", mutates_args=())
def mirror(x: torch.Tensor) -> torch.Tensor:
    return x.flip(-1)


mirror.register_fake(torch.empty_like)
mirror.register_autograd(lambda context, grad: grad.flip(-1))


class Mirror(nn.Module):
    """A layer with a kernel of its own: it says itself what it costs, and no runtime knows it."""

    def count_ops(self, x, output) -> Ops:
        return Ops(adds=1)

    def forward(self, x):
        return mirror(x)


class Faulty(Tiny):
    """A small space of which some candidates are not what they should be."""

    name = "faulty"
    kind: str = choice("sound", "no build", "no count", "no recipe", default="sound")

    def build(self, shape: TaskShape) -> nn.Module:
        if self.kind == "no build":
            raise ValueError("a width of 8 needs\ngroups of 3")
        if self.kind == "no count":
            return Wrong(self.width)
        return Net(self.width)

    def recipe(self, shape: TaskShape):
        if self.kind == "no recipe":
            raise KeyError("teacher")
        return super().recipe(shape)


class Exported(Tiny):
    """A small space of which one half cannot be written as ONNX."""

    name = "exported"
    written: bool = choice(True, False, default=True)

    def build(self, shape: TaskShape) -> nn.Module:
        net = Net(self.width)
        return net if self.written else nn.Sequential(net, Mirror())


def asked(space: type[Tiny], trials: int, **more: object) -> Study:
    whole = {
        "name": "bad", "desc": "What is told?", "space": f"{__file__}:{space.__name__}",
        "task": f"{HERE}/tiny.py:TinyDigits", "objectives": TWO, "fix": {"rate": 0.01},
        "fidelity": {"full": 128, "rungs": 1}, "search": {"trials": trials, "sampler": "random"},
        "resources": {"executor": "inline"}, **more,
    }  # fmt: skip
    return Study.model_validate(whole)


def trials_of(run: Run, **values: object) -> list[Trial]:
    return [
        t
        for t in run.snapshot().trials
        if all(t.candidate[name] == value for name, value in values.items())
    ]


def test_what_cannot_be_built_counted_or_trained_is_one_failed_trial_each(tmp_path):
    run = nasx.search(asked(Faulty, 9, fix={"rate": 0.01, "width": 8}), tmp_path / "run")
    assert len(trials_of(run)) == 4
    for t in trials_of(run, kind="sound"):
        assert (t.state, t.reason) == (State.COMPLETE, None)
    for kind, reason, counted in (
        ("no build", "ValueError: a width of 8 needs groups of 3", False),
        (
            "no count",
            r"Wrong: cannot count it on an input of (1, 8, 8): RuntimeError: sh",
            False,
        ),
        ("no recipe", "recipe: KeyError: 'teacher'", True),
    ):
        for t in trials_of(run, kind=kind):
            assert t.state is State.FAILED
            assert t.reason.startswith(reason), t.reason
            assert bool(t.card) is counted  # the cost that could be had
            assert t.samples == 0
        assert trials_of(run, kind=kind)
    assert all(t["top1"] > 0 for t in (e["objectives"] for e in nasx.front(run)))


@pytest.mark.parametrize("role", ["objective", "constraint"])
def test_what_cannot_be_exported_fails_untrained_with_its_cost(tmp_path, role):
    more = {"objectives": {**TWO, "latency_ms": "minimize"}}
    if role == "constraint":
        more = {"constraints": {"latency_ms": "<= 1000"}}
    run = nasx.search(asked(Exported, 4, fix={"rate": 0.01, "width": 8}, **more), tmp_path / "run")
    (sound,) = trials_of(run, written=True)
    (odd,) = trials_of(run, written=False)
    assert sound.state is State.COMPLETE
    assert odd.state is State.FAILED
    assert odd.reason.startswith("latency: ")
    assert "Sequential: cannot be written as ONNX" in odd.reason
    assert odd.card["params"] == sound.card["params"]
    assert read_json(run.folder(odd.number) / "cost.json")["by_layer"]
    assert not (run.folder(odd.number) / "checkpoint").exists()
    assert run.snapshot().provenance["timed_on"]


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        (
            {"via": "exit 3"},
            r"latency cannot be measured: measure.via 'exit 3': no samples .*exit 3",
        ),
        ({"via": "no-such-command -"}, "measure.via 'no-such-command -': no samples came back"),
        ({"via": "sleep 100"}, "measure.via 'sleep 100': no answer within [01] s"),
        ({"device": "EPYC 0000"}, r"measure.device 'EPYC 0000': this machine has CPU .*; name one"),
        ({"device": "cuda"}, r"measure.device 'cuda': "),
    ],
    ids=["fails", "unknown", "hangs", "device", "gpu"],
)
@pytest.mark.parametrize("role", ["objective", "constraint"])
def test_what_every_candidate_would_fail_by_is_told_before_the_first(
    tmp_path, monkeypatch, measure, said, role
):
    monkeypatch.setattr(sys.modules[latency.sample_models.__module__], "SECONDS", 0.2)
    more = {"objectives": {**TWO, "latency_ms": "minimize"}}
    if role == "constraint":
        more = {"constraints": {"latency_ms": "<= 1000"}}
    with pytest.raises(NasxError, match=said) as refused:
        nasx.search(asked(Tiny, 3, measure=measure, **more), tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not isinstance(refused.value, NoTrialCompleted)
    assert Run(tmp_path / "run").snapshot().trials == ()


def test_a_missing_onnxruntime_is_told_before_the_first_trial(tmp_path):
    (tmp_path / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    interpreter = f"env PYTHONPATH={tmp_path} {sys.executable} -"
    this = asked(Tiny, 3, constraints={"latency_ms": "<= 1000"}, measure={"via": interpreter})
    with pytest.raises(NasxError, match=r"latency cannot be measured: .*onnxruntime"):
        nasx.search(this, tmp_path / "run")


@pytest.mark.parametrize("role", ["objective", "constraint"])
def test_a_device_lost_on_the_way_stops_the_search_and_fails_nobody(tmp_path, role):
    probe, gone = tmp_path / "probe.sh", tmp_path / "gone"
    probe.write_text(
        f"echo >> {tmp_path}/calls\n"
        f"[ $(wc -l < {tmp_path}/calls) -gt 3 ] && touch {gone}\n"
        f"[ -e {gone} ] && {{ echo no route to host >&2; exit 255; }}\n"
        f"exec {sys.executable} -\n"
    )
    more = {"objectives": {**TWO, "latency_ms": "minimize"}}
    if role == "constraint":
        more = {"constraints": {"latency_ms": "<= 1000"}}
    this = asked(Tiny, 3, measure={"via": f"sh {probe}"}, **more)
    with pytest.raises(NasxError, match=r"exit 255: no route to host\)") as said:
        nasx.search(this, tmp_path / "run")
    assert str(said.value).startswith("latency cannot be measured: ")
    states = [t.state for t in Run(tmp_path / "run").snapshot().trials]
    assert states.count(State.COMPLETE) == 2
    assert State.FAILED not in states
    probe.write_text(f"exec {sys.executable} -\n")
    found = nasx.search(this, tmp_path / "run").snapshot()
    assert [t.state for t in found.trials] == [State.COMPLETE] * 3


def test_an_unknown_runtime_is_told_with_its_place(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(
        "desc: x\nspace: tinynet\ntask: digits\nobjectives: {top1: maximize}\n"
        "measure: {runtime: onnxruntine}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "nasx", "validate", file], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "5:20: measure.runtime: 'onnxruntine' is not one of onnxruntime, " in done.stderr
    assert "did you mean 'onnxruntime'?" in done.stderr


def test_a_run_is_continued_by_the_model_that_timed_it_alone(tmp_path):
    from nasx.files import write_json

    timed = {"objectives": {**TWO, "latency_ms": "minimize"}, "measure": EAGER}
    run = nasx.search(asked(Tiny, 2, **timed), tmp_path / "run")
    file = run.path / "provenance.json"
    kept = read_json(file)
    write_json(file, {**kept, "timed_on": "Another CPU"})
    nasx.search(asked(Tiny, 2, **timed), run.path)  # nothing is left to time
    with pytest.raises(
        NasxError, match="latencies were timed on Another CPU, and this machine has"
    ):
        nasx.search(asked(Tiny, 3, **timed), run.path)
    for number in (0, 1):
        (run.folder(number) / "final.json").unlink()
    with pytest.raises(NasxError, match="continue where Another CPU is, or give --out"):
        nasx.search(asked(Tiny, 2, **timed), run.path)
    write_json(file, kept)
    assert len(nasx.search(asked(Tiny, 3, **timed), run.path).snapshot().trials) == 3


class Counted(Tiny):
    """Notes every network it builds."""

    name = "counted"
    built: ClassVar[list[int]] = []

    def build(self, shape: TaskShape) -> nn.Module:
        self.built.append(self.width)
        return super().build(shape)


def test_a_candidate_seen_before_costs_a_look_up(tmp_path):
    evaluator = Trained(asked(Tiny, 3), tmp_path, tmp_path)
    evaluator._task = TinyDigits()
    gate = proposers(asked(Tiny, 3), evaluator)[0].gate
    first = gate.price(Counted(width=8))
    assert gate.price(Counted(width=8)) is first
    assert Counted.built == [8]
    assert gate.price(Counted(width=16)).card.params > first.card.params
    assert Counted.built == [8, 16]


def test_one_process_trains_the_same_from_the_same_seeds(tmp_path):
    """Drawing a candidate and training one both use torch's global generator."""
    this = asked(Tiny, 6, fidelity={"full": 256, "rungs": 1})
    runs = [nasx.search(this, tmp_path / name) for name in ("a", "b")]
    a, b = ([(t.candidate, t.values["top1"]) for t in trials_of(run)] for run in runs)
    assert len(a) == 6
    assert a == b
