"""Networks on operators of ours: counted with their kernels, never timed as a simulation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nasx.cost.card import CostCard, card_of
from nasx.cost.latency import time_each, time_networks
from nasx.cost.onnxfile import timing_onnx
from nasx.costtext import card_text
from nasx.errors import NasxError, StudyError
from nasx.plan import _survey
from nasx.search.gate import Gate
from nasx.search.trained import Trained
from nasx.study import Measure
from nasx.studyfile import load
from ownlayers import OPERATORS, two_of_ours
from ownspace import Either

SHAPE = (1, 8, 8)
SAID = (
    r"layer '2' \(and 1 more layers\) runs on owntest::signed_conv2d, which onnxruntime does not "
    r"have: it would time a simulation in other operators; set measure\.runtime: aot or eager"
)
STUDY = """desc: What do layers of ours cost?
space: {space}
task: digits
objectives: {{top1: maximize, latency_ms: minimize}}
fidelity: {{full: 300, factor: 3, rungs: 2}}
search: {{trials: 4}}
measure: {{runtime: {runtime}}}
"""


def file(folder: Path, name: str, runtime: str = "onnxruntime", **more: str) -> Path:
    path = folder / "own.yaml"
    space = f"{Path(__file__).with_name('ownspace.py')}:{name}"
    path.write_text(STUDY.format(space=space, runtime=runtime, **more))
    return path


def test_onnxruntime_is_not_asked_for_the_time_of_a_simulation() -> None:
    with pytest.raises(NasxError, match=rf"^Sequential: {SAID}$"):
        timing_onnx(two_of_ours(), SHAPE, 1)
    timed = time_each({"own": (two_of_ours(), SHAPE)}, Measure())
    assert timed.latencies == {}
    assert "set measure.runtime: aot or eager" in timed.faults["own"]
    eager = time_networks({"own": (two_of_ours(), SHAPE)}, Measure(runtime="eager"), passes=1)
    assert eager["own"].median_ms > 0


def test_a_study_is_told_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=rf"own\.yaml:7:.*: the baseline of ours: {SAID}\n"
    ) as said:
        load(file(tmp_path, "Ours"))
    assert str(said.value).count("\n") == 2  # the sentence, the source line, the caret
    assert load(file(tmp_path, "Ours", "eager")).measure.runtime == "eager"
    path = file(tmp_path, "Ours")
    path.write_text(path.read_text().replace("latency_ms: min", "macs: min"))
    assert load(path).objectives["macs"] == "minimize"  # nothing is timed: nothing to say


def test_a_candidate_met_later_fails_before_it_is_trained(tmp_path: Path) -> None:
    study = load(file(tmp_path, "Either"))
    trained = Trained(study, tmp_path / "run", tmp_path)
    priced = Gate(study, trained).price(Either(kind="ours"))
    assert priced.fault is not None
    assert priced.fault.startswith("latency: this network: layer '2'")
    assert priced.card is not None
    assert Gate(study, trained).price(Either(kind="conv")).fault is None
    plan, feasible = _survey(study, trained, study.spaces[0], 20, 60.0)
    assert plan.refused == {"latency": 1}
    assert [c.values() for c, _ in feasible] == [{"kind": "conv"}]


def test_the_card_names_the_kernels() -> None:
    card = card_of(two_of_ours(), SHAPE)
    assert card.kernels == {"2": "signed (table)", "7": "distance (cdist)"}
    assert card.operators["7"] == ("owntest::distance",)
    assert card.bit_ops == 5 * 16 * 6 * 9
    assert card.adds == 2 * 12 * 80
    assert card.unpriced == ()
    text = card_text(card)
    assert "kernel: signed (table): layer 2\nkernel: distance (cdist): layer 7" in text
    data = card.to_json()
    assert data["kernels"] == card.kernels
    assert CostCard.from_json(data) == card
    twice = nn.Sequential(two_of_ours()[:3], nn.Conv2d(5, 6, 1), two_of_ours()[2:3])
    assert "kernel: signed (table): 2 layers" in card_text(card_of(twice, SHAPE))


def test_an_ordinary_card_names_none() -> None:
    card = card_of(nn.Conv2d(1, 1, 1), SHAPE)
    assert card.to_json()["kernels"] == {}
    assert "kernel" not in card_text(card)
    old = {k: v for k, v in card.to_json().items() if k != "kernels"}
    old["by_layer"] = [
        {k: v for k, v in layer.items() if k not in ("kernel", "operators")}
        for layer in old["by_layer"]
    ]
    assert CostCard.from_json(old) == card


def busy(x: Tensor) -> Tensor:
    end = time.thread_time() + 0.002
    while time.thread_time() < end:
        pass
    return x + 1


OPERATORS.define("busy(Tensor x) -> Tensor")
OPERATORS.impl("busy", busy, "CompositeExplicitAutograd")
torch.library.register_fake("owntest::busy", torch.empty_like, lib=OPERATORS)


class Busy(nn.Module):
    """Takes 2 ms of a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.owntest.busy(x)
        return y * 2


@pytest.mark.slow
def test_a_package_runs_the_operator_itself() -> None:
    """Its time holds the kernel's own: neither is it left out, nor run once and kept."""
    timed = time_networks({"busy": (Busy(), SHAPE)}, Measure(runtime="aot"), passes=2, runs=2)
    assert timed["busy"].min_ms >= 2.0
