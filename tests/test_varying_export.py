"""Exports of networks whose work depends on the input: every way is taken, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gatednets import Bright, Coloured, images
from nasx.bundle import bundle
from nasx.errors import ParityError
from nasx.modelcard import About
from nasx.pathcases import Covering, covering, told
from nasx.varying import paths_of

ABOUT = About(
    study="gates", trial="t0000", space="toy", candidate={}, key="0" * 12,
    costs={"macs": 100, "macs_max": 400},
    latency={"median_ms": 1.0, "q1_ms": 1.0, "q3_ms": 1.0, "batch": 1, "runtime": "eager",
             "device": "cpu", "threads": 1, "inputs": 16},
)  # fmt: skip


def seen(network: nn.Module, inputs: Tensor) -> list[list[int]]:
    return [row["samples"] for row in told(network, Covering(inputs), inputs)["gates"]]


def test_a_rare_way_is_looked_for_in_the_whole_split_and_comes_first():
    net = Bright().eval()
    dark, rare = images(8) * 0.1 - 3, images(3) * 0.1 + 3
    case = covering(net, dark, [dark, torch.cat([dark[:2], rare])])
    assert case.made == case.edge == 0
    assert torch.equal(case.inputs[:1], rare[:1])
    assert seen(net, case.inputs) == [[8, 1], [8, 1]]


def test_where_no_sample_takes_a_way_one_is_made():
    dark = images(8) * 0.1 - 3
    case = covering(Bright(at=(-2.9, -2.0)).eval(), dark, [dark])
    found = told(Bright(at=(-2.9, -2.0)), case, case.inputs)
    assert case.made > 0
    assert all(count for row in found["gates"] for count in row["samples"])
    assert found["never"] == []
    grey = images(6) * 0.01
    grey[:, 0] += 1  # red leads everywhere
    assert 0 not in seen(Coloured(), covering(Coloured().eval(), grey).inputs)[0]


class Reddish(Bright):
    """A gate that only images of a colour open that no sample has, however light or strong."""

    def gates(self, x: Tensor) -> Tensor:
        red, rest = x[:, 0].mean((1, 2)), x[:, 1:].mean((1, 2, 3))
        return torch.stack([(red - rest > at).to(x.dtype) for at in self.at], 1)


def test_a_way_that_takes_another_colour_is_found_by_drawing():
    net, grey = Reddish(at=(1.5,)).eval(), images(8).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    case = covering(net, grey)
    assert case.made == 1
    assert seen(net, case.inputs) == [[8, 1]]
    assert torch.equal(case.inputs, covering(net, grey).inputs)  # the same at each export


def test_a_way_that_nothing_takes_is_named():
    net = Bright(at=(0.0, 1e9)).eval()
    case = covering(net, images(8))
    found = told(net, case, case.inputs)
    assert found["never"] == [{"gate": "high", "way": "open"}]
    net = Coloured().eval()
    net.paths = lambda x: torch.full((len(x), 1), 2)  # type: ignore[method-assign]
    assert [n["way"] for n in told(net, case, images(4))["never"]] == ["way 0", "way 1"]


def test_samples_on_the_edge_of_a_gate_are_left_out():
    x = images(9) - images(9).mean((1, 2, 3), keepdim=True)
    x[1:] += torch.linspace(-2, 2, 8).reshape(-1, 1, 1, 1)
    case = covering(Bright().eval(), x)  # the first one's mean is 0, where the gate opens
    assert case.edge == 1
    assert torch.equal(case.inputs, x[1:])


def test_a_bundle_holds_ways_to_its_files_alone_and_together_and_says_aloud_which_not(
    tmp_path: Path, caplog
):
    torch.manual_seed(0)
    net, dark = Bright(at=(1.0, 1e9)).eval(), images(12) * 0.1 - 3
    out = bundle(net, ABOUT, tmp_path / "bundle", dark, [dark + 4.5])
    found = json.loads((out / "parity.json").read_text())
    assert found["ways"] == {
        "gates": [{"gate": "low", "samples": [12, 1]}, {"gate": "high", "samples": [13, 0]}],
        "never": [{"gate": "high", "way": "open"}], "made": 0, "edge": 0,
    }  # fmt: skip
    assert found["inputs"] == found["alone"] == 13
    assert all(row["pass"] for row in found["files"].values())
    card = (out / "card.md").read_text()
    assert "13 inputs were also run alone" in card
    assert "| low | 12, 1 |" in card
    unseen = "no sample and no made-up image was found that takes high open;"
    assert f"**Not checked:** {unseen}" in card
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert said.startswith(f"{out}: {unseen}")
    assert "the most that an input can take is 400 MACs" in card
    assert "the mean over 16 validation samples" in card


class Frozen(Bright):
    """What a tracer makes of it: while it is exported, branches stay as the example has them."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(x)
        return self.head(self.stem(x).mean((2, 3)))


def test_a_frozen_branch_is_found_on_the_one_sample_that_opens_it(tmp_path: Path):
    torch.manual_seed(0)
    net, dark = Frozen().eval(), images(12) * 0.1 - 3
    with pytest.raises(ParityError, match=r"model\.onnx does not compute what was scored"):
        bundle(net, ABOUT, tmp_path / "bundle", dark, [dark + 4.5])
    assert paths_of(net, dark).sum() == 0
