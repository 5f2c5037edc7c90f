"""Files of networks that round are held to the network's decisions; a wrong file still fails."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasx import parity
from nasx.bundle import _told
from nasx.bundleparts import CASE, write_case
from nasx.decisions import decided, narrow, save_case, twin
from nasx.errors import NasxError
from nasx.paritytext import checked
from ownlayers import Rounded


def rounding(levels: int = 15, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), Rounded(levels),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), Rounded(levels),
        nn.Flatten(), nn.Linear(512, classes),
    )  # fmt: skip
    net.train()(images(100))
    return net.eval()


def deep() -> nn.Sequential:
    """Eight layers that round to 8 bits."""
    torch.manual_seed(0)
    blocks = [
        layer
        for _ in range(8)
        for layer in (Rounded(255), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
    ]
    head = [nn.AvgPool2d(8), nn.Flatten(), nn.Linear(8, 10)]
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), *blocks, *head)
    net.train()(images(100))
    return net.eval()


def images(n: int) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def answering(network: Any) -> Callable[[Tensor], list[Tensor]]:
    def call(x: Tensor) -> list[Tensor]:
        y = network(x)
        return y if isinstance(y, list) else [y]

    return call


def judged(true: nn.Module, file: nn.Module, folder: Path, n: int = 500) -> dict[str, Any]:
    """What the check says of a file that computes `file` in place of `true`."""
    x = images(n)
    with torch.no_grad():
        outputs = [true(x)]
        with twin(true) as made:
            assert made is not None
            codes, count = decided(made, x)
            assert count == n
            save_case(folder / "case", x, outputs, made.layers, codes)
        case = parity.Case(folder / "case")
        found = parity.answers(answering(file), case)
        row = parity.compare(answering(file), case, found)
        with twin(file) as other:
            row |= parity.compare_decisions(answering(other), case, found)
    if not row["pass"]:
        row |= {"rule": "decisions", "pass": parity.decided_alike(row)}
    return row


def altered(network: nn.Module, name: str, by: float) -> nn.Module:
    other = copy.deepcopy(network)
    with torch.no_grad():
        weight = other.get_parameter(name)
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
        weight.mul_(1 + by * noise)
    return other


def test_a_layer_that_is_never_reached_decides_nothing(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    network[0].register_module("unused", Rounded(15))
    x = images(3)
    assert torch.equal(write_case(network, tmp_path, x), x)
    assert [f.name for f in tmp_path.iterdir()] == [CASE]
    case = parity.Case(tmp_path / CASE)
    assert case.layers == []
    torch.testing.assert_close(torch.as_tensor(case.outputs[0]), network(x))


def test_the_same_network_passes_by_its_outputs(tmp_path: Path) -> None:
    row = judged(rounding(), rounding(), tmp_path)
    assert row["pass"]
    assert row["rule"] == "outputs"
    assert row["codes_equal"] == row["as_witness"] == 1.0
    assert row["codes"] == 500 * 2 * 8 * 64
    assert row["intact"] == 500


def test_flipped_codes_pass_where_they_are_few(tmp_path: Path) -> None:
    """Last bits of the first layer: outputs differ by whole steps, decisions hardly at all."""
    net = rounding()
    row = judged(net, altered(net, "0.weight", 1e-5), tmp_path)
    assert row["max_relative"] > parity.TOLERANCE
    assert row["rule"] == "decisions"
    assert row["pass"]
    assert parity.SHARE <= row["codes_equal"] < 1.0
    assert 0 < row["intact"] < 500
    assert row["intact_max_relative"] <= parity.TOLERANCE
    assert row["top1_agreement"] >= parity.SHARE


@pytest.mark.parametrize(("name", "by"), [("0.weight", 0.01), ("3.weight", 0.01), ("7.bias", 0.5)])
def test_a_wrong_layer_fails_wherever_it_stands(name: str, by: float, tmp_path: Path) -> None:
    """Also behind the last decision, where every code is equal and top-1 may be as well."""
    net = rounding()
    row = judged(net, altered(net, name, by), tmp_path)
    assert not row["pass"]
    assert (row["codes_equal"] == 1.0) == (name == "7.bias")
    told = _told("model.onnx", row)
    assert "of the codes are equal (least in" in told
    assert "\n" not in told


def test_a_file_that_differs_from_its_own_twin_fails(tmp_path: Path) -> None:
    """What the twin shows is then nothing that the file does."""
    net = rounding()
    row = judged(net, net, tmp_path)
    row |= {"max_relative": 0.01, "as_witness": 0.99}
    assert not parity.decided_alike(row)
    assert parity.decided_alike({**row, "as_witness": 1.0})
    assert not parity.decided_alike({**row, "as_witness": 1.0, "top1_agreement": 0.998})


def test_flips_that_follow_a_flip_are_told_apart(tmp_path: Path) -> None:
    """Codes behind a flip differ in masses; those that follow equal ones do not."""
    net = deep()
    row = judged(net, altered(net, "0.weight", 2e-7), tmp_path)
    assert row["codes_equal"] < row["least_fresh"]
    assert row["least_fresh"] >= parity.SHARE
    led = {**row, "max_relative": 0.01, "codes_equal": 0.99, "as_witness": 1.0}
    assert parity.decided_alike({**led, "top1_agreement": 1.0, "intact_max_relative": 0.0})
    assert not parity.decided_alike({**led, "rms_relative": 0.02})
    assert not parity.decided_alike({**led, "least_fresh": 0.998})


@pytest.mark.parametrize(("name", "by"), [("13.weight", 0.002), ("22.weight", 0.002)])
def test_a_wrong_layer_deep_in_a_network_fails(name: str, by: float, tmp_path: Path) -> None:
    """By the codes that follow equal ones, although the answers stay close."""
    net = deep()
    row = judged(net, altered(net, name, by), tmp_path)
    assert row["rms_relative"] <= parity.BLURRED
    assert row["least_fresh"] < parity.SHARE
    assert not row["pass"]


def test_a_layer_that_equal_codes_never_reach_proves_nothing(tmp_path: Path) -> None:
    """One flip in every input: what follows could be anything."""
    outputs, first, second = torch.ones(4, 10), torch.zeros(4, 4096), torch.zeros(4, 16)
    save_case(tmp_path / "case", images(4), [outputs], ["a", "b"], [first.int(), second.int()])
    flipped = first.clone()
    flipped[:, 7] = 1
    case = parity.Case(tmp_path / "case")

    def judged_with(codes: Tensor) -> dict[str, Any]:
        row = parity.compare_decisions(lambda x: [outputs, flipped, codes], case, [outputs])
        return row | {"top1_agreement": 1.0}

    wrong, right = judged_with(second + 1), judged_with(second)
    assert wrong["intact"] == right["intact"] == 0
    assert wrong["least_fresh"] == right["least_fresh"] == 0.0
    assert not parity.decided_alike(wrong)
    assert parity.decided_alike(right)  # more than 99.9 % of all codes, and the answers close
    assert not parity.decided_alike({**right, "rms_relative": 0.02})


def test_answers_that_are_no_classes_are_held_to_their_error(tmp_path: Path) -> None:
    net = nn.Sequential(*rounding()[:5], Rounded(15))
    row = judged(net, altered(net, "0.weight", 1e-5), tmp_path, 200)
    assert row["top1_agreement"] is None
    assert row["pass"]
    assert row["rms_relative"] <= parity.BLURRED
    assert not parity.decided_alike({**row, "rms_relative": 0.011})


def test_a_layer_that_runs_twice_decides_twice() -> None:
    layer = Rounded(3)
    net = nn.Sequential(layer, nn.Conv2d(1, 1, 1), layer)
    with twin(net) as made, torch.no_grad():
        assert made is not None
        answered = made(images(2))
    assert made.layers == ["0", "0#2"]
    assert [y.dtype for y in answered] == [torch.float32, torch.int32, torch.int32]
    assert not layer._forward_pre_hooks
    with twin(nn.Linear(2, 2)) as none:
        assert none is None


def test_codes_are_kept_small() -> None:
    assert narrow(torch.tensor([-1.0, 1.0])).dtype == torch.int8
    assert narrow(torch.tensor([0, 255])).dtype == torch.uint8
    assert narrow(torch.tensor([-1, 255])).dtype == torch.int16
    assert narrow(torch.tensor([])).dtype == torch.int8
    with twin(rounding()) as made:
        assert made is not None
        _, count = decided(made, images(200), most=2 * 8 * 64 * 100)
    assert count == 128  # whole batches, as many as fit


def test_codes_that_are_none_are_refused() -> None:
    class Odd(Rounded):
        def decides(self, x: Tensor) -> Tensor:
            return x.sum()

    net = Odd(3)
    with twin(net), pytest.raises(NasxError, match=r"Odd\.decides must return"):
        net(images(2))


def test_the_card_says_which_rule_was_used() -> None:
    row = {
        "max_abs": 0.1, "max_relative": 0.01, "top1_agreement": 0.9994, "rule": "decisions",
        "pass": True, "codes": 1234567, "codes_equal": 0.99991, "least_fresh": 0.99995,
        "intact": 950, "intact_max_relative": 2e-7,
    }  # fmt: skip
    found = {
        "tolerance": 1e-4, "inputs": 1000, "batches": [1, 64], "files": {"model.onnx": row},
        "decisions": {"share": 0.999, "layers": ["a", "b"]},
    }  # fmt: skip
    text = checked(found)
    assert "| model.onnx | decisions | 99.9910 % of 1,234,567 | 99.9950 % | 950 | 2.0e-07 |" in text
    assert "2 layers round their input" in text
    assert "99.94 %" in text
    assert "decisions" not in checked({k: v for k, v in found.items() if k != "decisions"})
    assert json.dumps(found)
