"""Low-bit super-resolution: what is built, refused and deployed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.cost.card import card_of
from nasx.errors import SpaceError
from nasx.networkfiles import exported
from nasx.operators import deciding_layers
from nasx.plainform import PlainTorch
from nasx.shape import TaskShape
from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.int_conv import IntConv2d
from search_spaces._layers.levels import decoded
from search_spaces._layers.packed import PackedConv2d
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.slb import SlbConv2d
from search_spaces.low_bit_sr import MOST_BLOCKS, LowBitSr

SHAPE = TaskShape("restore", (3, 16, 16), ("x2",))


def alike(w: int, a: int, **fields: object) -> LowBitSr:
    bits = {"w_bits": [w] * MOST_BLOCKS, "a_bits": [a] * MOST_BLOCKS}
    return LowBitSr.from_json({"blocks": 2, "features": 8, **bits, **fields})


def moved(candidate: LowBitSr, shape: TaskShape = SHAPE) -> nn.Module:
    """A network in eval mode whose tail has left 0, as it has after a step."""
    torch.manual_seed(1)
    model = candidate.build(shape)
    nn.init.normal_(model.tail.weight, std=0.05)
    for layer in model.modules():
        if isinstance(layer, QuantisedConv2d):
            nn.init.normal_(layer.bias, std=0.05)
    return model.eval()


def reference(layer: PackedConv2d, x: torch.Tensor) -> torch.Tensor:
    """The float convolution of quantised inputs with the levels of the weights."""
    if isinstance(layer, IntConv2d):
        n = 2**layer.a_bits - 1
        x = torch.round(torch.minimum(x.clamp(min=0), layer.alpha) * (n / layer.alpha))
        x = x * (layer.alpha / n)
    y = F.conv2d(x, decoded(layer.weight_codes(), layer.bits), None, layer.stride, layer.padding)
    return y * layer.scale.view(-1, 1, 1)


@pytest.mark.parametrize("method", ["slb", "dorefa", "ste"])
@pytest.mark.parametrize(
    ("w", "a", "kind"), [(1, 2, IntConv2d), (4, 8, IntConv2d), (4, 32, DecodedConv2d)]
)
def test_the_deployed_network_runs_codes_and_equals_the_trained_one(method, w, a, kind):
    model = moved(alike(w, a, method=method))
    net = alike(w, a, method=method).decide(copy.deepcopy(model)).eval()
    trained = [m for m in model.modules() if isinstance(m, QuantisedConv2d)]
    packed = [m for m in net.modules() if isinstance(m, PackedConv2d)]
    assert [type(m) for m in packed] == [kind] * 4
    assert all(
        torch.equal(t.codes(), p.weight_codes()) for t, p in zip(trained, packed, strict=True)
    )
    met: list[tuple[PackedConv2d, torch.Tensor, torch.Tensor]] = []
    for layer in packed:
        layer.register_forward_hook(lambda m, x, y: met.append((m, x[0], y)))
    x = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        wanted, found = model(x), net(x)
        assert len(met) == 4
        for layer, seen, y in met:
            assert torch.allclose(y, reference(layer, seen), atol=1e-5)
        # A feature on the edge of a step may fall aside; no picture moves by more.
        assert (wanted - model.skip(x)).abs().mean() > 1e-2
        assert (wanted - found).abs().mean() < 1e-4


@pytest.mark.parametrize("a", [8, 32])
def test_blocks_read_their_input_behind_a_clip_at_zero(a):
    model = moved(alike(4, a))
    low: dict[str, float] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            low[name] = float(output.min())

        return hook

    model.head.register_forward_hook(note("head"))
    for name, layer in model.named_modules():
        if isinstance(layer, QuantisedConv2d):
            layer.reading.register_forward_hook(note(name))
    with torch.no_grad():
        model(torch.rand(2, 3, 16, 16))
    assert low.pop("head") < 0
    assert list(low.values()) == [0.0] * 4


def test_operations_are_counted_in_bits_where_codes_run():
    card = card_of(alike(4, 8).decide(alike(4, 8).build(SHAPE)), SHAPE.input)
    pixels, taps = 16 * 16, 9
    assert card.bit_ops == 4 * taps * 8 * 8 * pixels * 4 * 8
    head, end, tail, bicubic = 3 * 8, 8 * 8, 8 * 12, 12
    assert card.macs == pixels * (taps * (head + end + tail) + 25 * bicubic)
    control = alike(4, 8).control(SHAPE)
    floats = card_of(control.build(SHAPE), SHAPE.input)
    assert (floats.bit_ops, floats.macs) == (0, card.macs + card.bit_ops // 32)
    assert control.control(SHAPE) is None


def test_the_exported_program_computes_what_the_network_does():
    """In plain torch, where our operators are unknown; the files themselves: test_own_operators."""
    candidate = alike(4, 8, blocks=1)
    net = candidate.decide(moved(candidate)).eval().to(memory_format=torch.channels_last)
    assert len(deciding_layers(net)) == 2
    x = torch.rand(3, 3, 16, 16)
    with PlainTorch(net):
        program = exported(net, x)
    assert "nasx" not in "".join(str(node.target) for node in program.graph.nodes)
    found = program.module()(x)
    assert (found - net(x)).abs().mean() < 1e-4
    assert (found - net.skip(x)).abs().mean() > 1e-2


def test_what_makes_no_difference_makes_no_other_key():
    def key(w: int, a: int, **fields: object) -> str:
        return alike(w, a, **fields).key(SHAPE)

    assert key(8, 8) == key(8, 8, method="dorefa") == key(8, 8, t_final=50.0)
    assert key(8, 8) != key(8, 8, method="ste")
    assert key(32, 32) == key(32, 32, method="ste") == key(32, 32, latent_rate=9.0)
    assert key(4, 8) != key(4, 8, t_final=50.0)
    idle = alike(4, 8, w_bits=[4, 4, *[1] * 6], a_bits=[8, 8, *[2] * 6])
    assert idle.key(SHAPE) == key(4, 8)


def test_activations_below_their_weights_are_refused_and_repaired():
    low = alike(4, 8, a_bits=[8, 2, *[8] * 6])
    said = "block 1 has weights of 4 bits and activations of 2: give activations at least"
    with pytest.raises(SpaceError, match=said):
        low.build(SHAPE)
    assert low.repair(SHAPE, {}).a_bits == (8, 4, *[8] * 6)
    idle = alike(4, 8, a_bits=[8, 8, *[2] * 6])
    assert (idle.refusal(SHAPE), idle.repair(SHAPE, {})) == (None, None)


def test_a_scale_that_the_task_asks_for_is_built():
    for head, scale in (("x3", 3), ("x4", 4), ("denoise", 1)):
        model = alike(4, 8).build(TaskShape("restore", (3, 8, 8), (head,)))
        assert model(torch.rand(1, 3, 8, 8)).shape == (1, 3, 8 * scale, 8 * scale)
    with pytest.raises(SpaceError, match="one degradation"):
        alike(4, 8).build(TaskShape("restore", (3, 8, 8), ("x2", "x3")))


def test_choices_are_soft_then_hard_and_rates_follow_the_numbers_behind_weights():
    candidate = alike(4, 8, t_start=0.2, t_end=0.8, latent_rate=5.0)
    recipe = candidate.recipe(SHAPE)
    assert (recipe.batch, recipe.augment, recipe.comparable_from) == (16, True, 0.8)
    assert alike(8, 8).recipe(SHAPE).comparable_from == 0.0
    model = candidate.build(SHAPE)
    (step,) = recipe.phases[0].steps
    state = type("Now", (), {"model": model})()
    rates = {id(p): g["lr"] for g in step.parameters(state) for p in g["params"] if "lr" in g}
    behind = [m.latent for m in model.modules() if isinstance(m, SlbConv2d)]
    assert rates == {id(p): pytest.approx(5 * 2e-3) for p in behind}


def test_the_report_learns_the_mean_bits():
    net = alike(4, 8).decide(alike(4, 8).build(SHAPE))
    found, card = alike(4, 8).diagnose(net, None), card_of(net, SHAPE.input)
    assert found["low_bit_mean"] == 4
    assert found["mean_bits"] == pytest.approx(8 * card.bytes / card.params)
