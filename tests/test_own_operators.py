"""Networks with operators of our own leave in plain torch, and are counted by what they run on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from nasx.bundle import bundle
from nasx.errors import NasxError
from nasx.modelcard import About
from nasx.networkfiles import exported
from nasx.operators import deciding_layers, kernels_of, operators_of, references_of
from nasx.plainform import PlainTorch
from nasx.referencesource import reference_source
from ownlayers import Distance, Rounded, SignedConv2d, signed_conv2d, two_of_ours
from search_spaces._layers.adder import AdderConv2d

HALF = 0.5


def with_adders() -> nn.Sequential:
    """Layers of ours and of the adder technique between ordinary ones, statistics forgotten."""
    torch.manual_seed(0)
    front, back = two_of_ours()[:5], two_of_ours()[5:]
    network = nn.Sequential(*front, AdderConv2d(5, 5, 3, 1, 1), nn.BatchNorm2d(5), *back)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
    return network


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = with_adders()
    inputs = torch.randn(70, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network.train()(inputs)
    network.eval().to(memory_format=torch.channels_last)  # as training leaves networks
    assert len(set(network(inputs).argmax(1).tolist())) > 2  # else equal answers say nothing
    about = About("s", "t0000", "a space", {}, "k", kernels=kernels_of(network))
    return bundle(network, about, tmp_path_factory.mktemp("own") / "bundle", inputs)


def test_all_three_files_run_where_the_operators_are_unknown(made: Path) -> None:
    parity = json.loads((made / "parity.json").read_text())
    assert parity["nasx_importable"] is False
    assert parity["batches"] == [1, 64]
    assert parity["inputs"] == 70  # a batch of 64 and one of 6
    assert set(parity["files"]) == {"model.onnx", "model.pt2", "model.py"}
    for row in parity["files"].values():
        assert row["pass"]
        assert row["top1_agreement"] == 1.0
    assert parity["decisions"]["layers"] == ["2"]


def test_no_file_holds_more_than_the_weights_as_stored(made: Path) -> None:
    packed = load_file(made / "weights.safetensors")["2.packed"]
    assert packed.dtype == torch.uint8
    assert packed.numel() == math.ceil(6 * 5 * 9 / 8)
    program = torch.export.load(made / "model.pt2")
    kept = {n: t.numel() for n, t in program.state_dict.items()}
    assert kept["2.packed"] == packed.numel()
    assert "owntest" not in "".join(str(n.target) for n in program.graph.nodes)
    file = onnx.load(made / "model.onnx")
    stored = {tuple(i.dims): len(i.raw_data) for i in file.graph.initializer}
    assert stored[(packed.numel(),)] == packed.numel()
    assert (5, 6, 3, 3) not in stored  # as it would be unpacked
    source = (made / "model.py").read_text()
    assert "def adder_conv2d(x, weight, stride, padding" in source
    assert "signed_conv2d(x, self.layer_2_packed, filters=5, stride=2)" in source
    assert "torch.ops" not in source


def test_the_card_says_that_the_files_run_on_other_operators(made: Path) -> None:
    card = (made / "card.md").read_text()
    assert "- `2`: signed (table)\n" in card
    assert "\n- `9`: distance (cdist)\n" in card
    assert "not the speed" in card
    about = json.loads((made / "architecture.json").read_text())
    assert about["kernels"].items() >= {"2": "signed (table)", "9": "distance (cdist)"}.items()


def test_what_is_not_ours_is_exported_as_it_was_written() -> None:
    network, example = two_of_ours(), torch.zeros(2, 1, 8, 8)
    with PlainTorch(network):
        plain = exported(network, example)
    called = {str(n.target) for n in plain.graph.nodes if n.op == "call_function"}
    assert {"aten.batch_norm.default", "aten.relu_.default", "aten.linear.default"} <= called
    assert not any("owntest" in name for name in called)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(plain.module()(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_shifts_of_bits_stay_exact(kind: torch.dtype) -> None:
    x = torch.arange(200).to(kind)
    with PlainTorch(nn.Identity()):
        right, left = x >> torch.arange(8).to(kind)[:, None], torch.bitwise_left_shift(x, 2)
    assert right.dtype == left.dtype == kind
    assert torch.equal(right.long(), x.long() // 2 ** torch.arange(8)[:, None])
    assert torch.equal(left.long(), x.long() * 4 % (256 if kind == torch.uint8 else 2**31))


def test_layers_are_asked_by_name() -> None:
    network = two_of_ours()
    assert operators_of(network) == {"2": ("owntest::signed_conv2d",), "7": ("owntest::distance",)}
    assert list(references_of(network)) == ["owntest::signed_conv2d", "owntest::distance"]
    assert list(deciding_layers(nn.ModuleDict({"a": Rounded(3), "b": nn.ReLU()}))) == ["a"]
    assert operators_of(nn.Linear(2, 2)) == kernels_of(nn.Conv2d(1, 1, 1)) == {}
    assert operators_of(Distance(2, 2)) == {"Distance": ("owntest::distance",)}


def test_two_functions_for_one_operator_are_refused() -> None:
    class Other(Distance):
        references = {"owntest::distance": lambda x, w, power=1.0: x}  # noqa: RUF012

    with pytest.raises(NasxError, match=r"Other\.references: another layer gives owntest::dist"):
        references_of(nn.Sequential(Distance(2, 2), Other(2, 2)))

    class Old(Distance):
        references = {"owntest::distance": "def distance(x, w): ..."}  # type: ignore[dict-item]  # noqa: RUF012

    with pytest.raises(NasxError, match=r"Old\.references must map names of operators"):
        references_of(Old(2, 2))


def needs_a_name(x: Tensor) -> Tensor:
    return HALF * x


def needs_another(x: Tensor) -> Tensor:
    return signed_conv2d(x, x, 1)


def needs_tensor(x: Tensor) -> Tensor:
    def inner(y: Tensor) -> Tensor:
        return y

    return inner(x)


def plain(x: Tensor, side: int = 2, sides: Any = (1, 2)) -> Tensor:
    """Pad, and sum what a comprehension gives."""
    return sum(F.pad(x, (i, 0, 0, 0))[..., :side] for i in range(len(sides)))  # type: ignore[return-value]


def test_a_reference_stands_alone() -> None:
    source = reference_source("any::thing", plain)
    assert source.startswith('def thing(x, side=2, sides=(1, 2)):\n    """Pad, and')
    names: dict[str, Any] = {"torch": torch, "F": F}
    exec(source, names)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(names["thing"](x), plain(x))
    for function, name in ((needs_a_name, "HALF"), (needs_another, "signed_"), (needs_tensor, "T")):
        with pytest.raises(NasxError, match=f"reference of any::thing uses '{name}.*alone"):
            reference_source("any::thing", function)
    with pytest.raises(NasxError, match="has no source"):
        reference_source("any::thing", torch.relu)
    with pytest.raises(NasxError, match=r"plain function|has no source"):
        reference_source("any::thing", lambda x: x)


def test_a_reference_takes_what_its_operator_takes() -> None:
    schema = torch.ops.owntest.signed_conv2d.default._schema
    assert reference_source("owntest::signed_conv2d", signed_conv2d, schema)
    with pytest.raises(NasxError, match=r"takes \(x, side, sides\), its operator \(x, packed"):
        reference_source("owntest::signed_conv2d", plain, schema)

    def strided(x: Tensor, packed: Tensor, filters: int, stride: int = 2) -> Tensor:
        return x

    with pytest.raises(NasxError, match="'stride' must have the operator's default, 1"):
        reference_source("owntest::signed_conv2d", strided, schema)


def test_the_kernel_and_its_reference_agree() -> None:
    """Else the tests above would prove nothing: the two are written by different means."""
    layer, x = SignedConv2d(3, 4), torch.randn(2, 3, 7, 7)
    assert torch.equal(layer(x), signed_conv2d(x, layer.packed, 4))
