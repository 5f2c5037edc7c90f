"""The space of low-bit networks: what is built, priced, refused, and what the deployed net runs."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nasx.cost.card import card_of
from nasx.cost.memory import stored_bytes
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.int_conv import IntConv2d
from search_spaces._layers.levels import decoded
from search_spaces._layers.packed import PackedConv2d
from search_spaces._layers.xnor import XnorConv2d
from search_spaces._quantised_nets import STAGES, low_bit_layers
from search_spaces.low_bit import BITS, LowBit

MEMORY = json.loads((Path(__file__).parent / "golden" / "weight_memory.json").read_text())
SMALL = TaskShape("classify", (3, 16, 16), 10)
BACKBONES = {
    "resnet20": ("resnet20_cifar10", TaskShape("classify", (3, 32, 32), 10)),
    "vgg_small": ("vgg_small_cifar10", TaskShape("classify", (3, 32, 32), 10)),
    "resnet18": ("resnet18_imagenet", TaskShape("classify", (3, 224, 224), 1000)),
}


def alike(w: int, a: int, **fields: object) -> LowBit:
    return LowBit.from_json({"w_bits": [w] * 4, "a_bits": [a] * 4, **fields})


def deployed(candidate: LowBit, shape: TaskShape, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return candidate.decide(candidate.build(shape)).eval()


@pytest.mark.parametrize(
    ("backbone", "bits"),
    [("resnet20", b) for b in (1, 2, 4, 32)] + [("vgg_small", 1), ("resnet18", 1)],
)
def test_weight_memory_of_the_built_networks(backbone, bits):
    name, shape = BACKBONES[backbone]
    golden = MEMORY[name]
    # How the weights were found does not change what they take; ImageNet's logits are spared.
    method = "slb" if backbone == "resnet20" else "dorefa"
    model = deployed(alike(bits, bits, backbone=backbone, method=method, width=1.0), shape)
    wanted = golden["mem"][str(bits)]
    assert 8 * stored_bytes(model) == wanted["bits_total"]
    held = [m for m in model.modules() if isinstance(m, PackedConv2d)]
    quantised = sum(m.out_channels * m.taps for m in held)
    floats = sum(p.numel() for p in model.parameters())
    assert quantised == (golden["quantised_weights"] if bits < 32 else 0)
    assert quantised + floats == golden["quantised_weights"] + golden["fp_params"]
    ratio = golden["mem"]["32"]["bits_total"] / (8 * stored_bytes(model))
    assert ratio == pytest.approx(wanted["ratio_vs_fp32"], abs=6e-4)


def test_operations_of_a_binary_resnet18():
    golden, (_, shape) = MEMORY["bnn_ops_resnet18"], BACKBONES["resnet18"]
    candidate = alike(1, 1, backbone="resnet18", method="ste", width=1.0)
    card = card_of(deployed(candidate, shape), shape.input)
    assert card.bit_ops == golden["binary_conv_macs"]
    assert card.macs == golden["fp_macs"]
    assert card.bit_ops // 64 + card.macs == golden["total_ops"] == 163_985_408
    assert card.params == MEMORY["resnet18_imagenet"]["total"]


KINDS = [
    (1, 1, XnorConv2d), (1, 4, IntConv2d), (2, 2, IntConv2d), (4, 8, IntConv2d),
    (8, 8, IntConv2d), (1, 32, DecodedConv2d), (8, 32, DecodedConv2d),
]  # fmt: skip


def after_a_step(candidate: LowBit) -> nn.Module:
    """A network in eval mode whose statistics have moved."""
    torch.manual_seed(1)
    model = candidate.build(SMALL)
    with torch.no_grad():
        for _ in range(6):
            model.train()(torch.randn(16, 3, 16, 16))
    return model.eval()


def reference(layer: PackedConv2d, x: torch.Tensor) -> torch.Tensor:
    """The float convolution of quantised inputs with the levels of the weights."""
    if isinstance(layer, XnorConv2d):
        x = torch.where(x >= 0, 1.0, -1.0)
    elif isinstance(layer, IntConv2d):
        n = 2**layer.a_bits - 1
        step = layer.alpha / n
        x = torch.round(torch.minimum(x.clamp(min=0), layer.alpha) * (n / layer.alpha)) * step
    y = F.conv2d(x, decoded(layer.weight_codes(), layer.bits), None, layer.stride, layer.padding)
    return y if layer.scale is None else y * layer.scale.view(-1, 1, 1)


@pytest.mark.parametrize(("w", "a", "kind"), KINDS)
def test_what_is_deployed_runs_codes_and_equals_the_float_reference(w, a, kind):
    """Each layer on the input that it really gets."""
    candidate = alike(w, a, ends=8, width=0.25)
    model = after_a_step(candidate)
    net = candidate.decide(copy.deepcopy(model)).eval()
    codes = [layer.codes() for layer in low_bit_layers(model)]
    packed = [layer for layer in net.modules() if isinstance(layer, PackedConv2d)]
    assert len(packed) == 2 + 5 + 1  # stem and head, the blocks, the classifier
    assert all(torch.equal(c, p.weight_codes()) for c, p in zip(codes, packed, strict=True))
    seen: list[tuple[PackedConv2d, torch.Tensor, torch.Tensor]] = []
    for layer in packed:
        layer.register_forward_hook(lambda m, x, y: seen.append((m, x[0], y)))
    with torch.no_grad():
        net(torch.randn(5, 3, 16, 16))
        assert [type(layer) for layer, _, _ in seen] == [IntConv2d] + [kind] * 5 + [IntConv2d] * 2
        for layer, x, y in seen:
            wanted = reference(layer, x)
            if isinstance(layer, XnorConv2d):
                assert torch.equal(y, wanted)
            assert torch.allclose(y, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("norm", ["recalibrate", "state", "none"])
@pytest.mark.parametrize(("w", "a"), [(1, 1), (2, 4), (4, 32), (32, 32)])
def test_the_deployed_network_equals_the_trained_one_in_eval_mode(w, a, norm):
    candidate = alike(w, a, norm=norm, width=0.5, backbone="resnet20")
    model = after_a_step(candidate)
    net = candidate.decide(copy.deepcopy(model)).eval()
    x = torch.randn(32, 3, 16, 16)
    with torch.no_grad():
        trained, decided = model(x), net(x)
    if a in (1, 32) and w in (1, 32) and w == a:  # whole sums of signs, or nothing changed
        assert torch.equal(trained, decided)
    # Elsewhere sums are rounded in another order, and an activation on an edge may fall aside.
    off = (trained - decided).abs().amax(1) / trained.abs().amax()
    assert (off < 1e-4).float().mean() >= 0.9


def test_activations_are_clipped_at_zero_or_signed_never_both():
    """Between layers that read signs nothing is clipped: half of the signs would be lost."""
    negative: list[float] = []

    def note(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        negative.append(float((inputs[0] < 0).float().mean()))

    for backbone, stages in STAGES.items():
        for bits in (1, 4):
            model = alike(bits, bits, backbone=backbone, width=0.25).build(SMALL)
            for layer in low_bit_layers(model):
                layer.reading.register_forward_hook(note)
            model.train()(torch.randn(16, 3, 16, 16))
            shares, negative[:] = negative[:], []
            assert len(shares) == sum(stages)
            if bits == 1:  # few where ResNet-18 takes the largest of nine first, as published
                assert all(0.005 < share < 0.95 for share in shares), (backbone, shares)
            else:
                assert max(shares) == 0


def test_a_stage_in_floats_after_signs_is_still_not_linear():
    model = alike(1, 1, w_bits=[1, 32, 32, 32], a_bits=[1, 32, 32, 32]).build(SMALL)
    kinds = [type(m) for m in model.stages[2].modules()]
    assert nn.ReLU in kinds or nn.Identity not in kinds
    mixed = LowBit.from_json(
        {"grain": "layer", "layer_w_bits": [1, 32] * 9, "layer_a_bits": [1, 32] * 9}
    ).build(SMALL)
    plain = [m for m in mixed.stages.modules() if isinstance(m, nn.Conv2d)]
    assert len(plain) == 2
    for layer in plain:
        before = next(p for p in mixed.modules() if isinstance(p, nn.Sequential) and p[-1] is layer)
        assert isinstance(before[0], nn.ReLU)


def test_a_clip_before_floats_beside_signs_is_deployed():
    mixed = LowBit.from_json(
        {"grain": "layer", "layer_w_bits": [1] + [4] * 17, "layer_a_bits": [1] + [32] * 17}
    )
    model = after_a_step(mixed)
    net = mixed.decide(copy.deepcopy(model)).eval()
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(net(x), model(x), rtol=1e-5, atol=1e-4)


def test_bits_by_stage_and_by_layer_are_two_spellings():
    stage = LowBit.from_json({"w_bits": [1, 4, 8, 8], "a_bits": [2, 8, 8, 8]})
    layer = LowBit.from_json(
        {
            "grain": "layer",
            "layer_w_bits": [1, 1, 4, 4, 4] + [32] * 13,
            "layer_a_bits": [2, 2, 8, 8, 8] + [32] * 13,
        }
    )
    assert stage.bits() == layer.bits() == ((1, 1, 4, 4, 4), (2, 2, 8, 8, 8))
    assert stage.key(SMALL) == layer.key(SMALL)


def test_what_makes_no_difference_makes_no_other_key():
    def key(**fields: object) -> str:
        return LowBit.from_json(fields).key(SMALL)

    eight = {"w_bits": [8] * 4, "a_bits": [8] * 4}
    assert key(**eight) == key(**eight, method="dorefa") == key(**eight, t_final=50.0)
    assert key(**eight, norm="state") == key(**eight, norm="none")
    assert key(**eight) != key(**eight, method="ste")
    floats = {"w_bits": [32] * 4, "a_bits": [32] * 4}
    same = [key(**floats), key(**floats, act="dorefa"), key(**floats, norm="none")]
    same += [key(**floats, latent_rate=9.0)]
    assert {*same, key(**floats, method="ste"), key(**floats, init_std=0.5)} == {same[0]}
    ones = {"w_bits": [1] * 4, "a_bits": [1] * 4}
    assert key(**ones, act="dorefa") == key(**ones, act="pact")
    assert key(**ones) != key(**ones, t_final=50.0)
    assert key(**ones, norm="state") != key(**ones, norm="none")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([*STAGES]),
    st.sampled_from(["stage", "layer"]),
    st.lists(st.sampled_from(BITS), min_size=18, max_size=18),
    st.lists(st.sampled_from(BITS), min_size=18, max_size=18),
)
def test_activations_below_their_weights_are_refused_and_repaired(backbone, grain, w, a):
    candidate = LowBit.from_json(
        {
            "backbone": backbone, "grain": grain, "w_bits": w[:4], "a_bits": a[:4],
            "layer_w_bits": w, "layer_a_bits": a,
        }
    )  # fmt: skip
    pairs = list(zip(*candidate.bits(), strict=True))
    low = [i for i, (weights, reads) in enumerate(pairs) if reads < weights]
    said, repaired = candidate.refusal(SMALL), candidate.repair(SMALL, {})
    if not low:
        assert (said, repaired) == (None, None)
        return
    assert said is not None
    assert said.startswith(
        f"low-bit layer {low[0]} of {backbone} has weights of {pairs[low[0]][0]}"
    )
    with pytest.raises(SpaceError, match="give activations at least the bits of the weights"):
        candidate.build(SMALL)
    assert repaired is not None
    assert repaired.refusal(SMALL) is None
    assert repaired.bits() == (candidate.bits()[0], tuple(max(p) for p in pairs))


def test_bits_outside_the_set_are_refused_in_one_sentence():
    with pytest.raises(SpaceError) as error:
        alike(3, 8)
    said = "LowBit.w_bits = (3, 3, 3, 3) [0] is not one of 1, 2, 4, 8, 32"
    assert str(error.value) == said


def test_the_control_is_the_same_network_in_floats():
    candidate = alike(2, 4, backbone="resnet20", ends=8, width=1.0)
    control = candidate.control(SMALL)
    assert control is not None
    model = control.build(SMALL)
    assert not low_bit_layers(model)
    assert sum(p.numel() for p in model.parameters()) == 269_722
    assert control.control(SMALL) is None


def test_the_report_learns_the_mean_bits():
    candidate = LowBit.from_json({"w_bits": [1, 4, 8, 8], "a_bits": [8] * 4, "width": 1.0})
    net = deployed(candidate, SMALL)
    found = candidate.diagnose(net, None)
    few = {1: 16 * 20 * 9 + 20 * 20 * 9, 4: (20 * 40 + 2 * 40 * 40) * 9}
    bits = sum(b * n for b, n in few.items())
    assert found["low_bit_mean"] == pytest.approx(bits / sum(few.values()))
    card = card_of(net, SMALL.input)
    assert found["mean_bits"] == pytest.approx(8 * card.bytes / card.params)
    assert 0 < alike(32, 32).diagnose(deployed(alike(32, 32), SMALL), None)["mean_bits"] == 32
