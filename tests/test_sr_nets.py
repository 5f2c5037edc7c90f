"""Super-resolution networks: published sizes, slots, and how they start."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.cost.card import card_of
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._sr_nets import (
    SrPlan,
    VdsrPlan,
    biased,
    edsr,
    light,
    micro_edsr,
    scale_of,
    vdsr,
)
from search_spaces._sr_recipe import restoring

GOLDEN = json.loads((Path(__file__).parent / "golden" / "edsr.json").read_text())


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def macs_by_hooks(model: nn.Module, shape: tuple[int, ...]) -> int:
    found = 0

    def hook(layer, args, output):
        nonlocal found
        found += output.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(hook)
    model(torch.empty(1, *shape, device="meta"))
    return found


@pytest.mark.parametrize("point", GOLDEN, ids=lambda p: p["name"])
def test_sizes_and_operations_of_published_edsr(point):
    with torch.device("meta"):
        model = edsr(SrPlan(3, point["scale"], point["features"], point["blocks"]))
    assert params(model) == point["params"]
    shape = (3, *point["input"])
    assert card_of(model, shape).macs == point["macs"]
    assert macs_by_hooks(model, shape) == point["macs"]


def test_size_and_operations_of_vdsr():
    with torch.device("meta"):
        model = vdsr(VdsrPlan())
    assert params(model) == 664_704
    assert card_of(model, (1, 720, 1280)).macs == 612_591_206_400
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 20


def asked(build):
    operators, activations = [], []

    def operator(c_in, c_out, kernel, stride, where):
        operators.append(where)
        return biased(c_in, c_out, kernel, stride, where)

    def activation(where, channels):
        activations.append(where)
        return nn.ReLU()

    return build(operator, activation), operators, activations


def test_slots_of_edsr_are_the_names_of_its_layers():
    model, operators, activations = asked(lambda o, a: edsr(SrPlan(3, 4, 8, 2), o, a))
    assert operators == [
        "head", "body.0.conv1", "body.0.conv2", "body.1.conv1", "body.1.conv2", "body.end",
        "up.0", "up.1", "tail",
    ]  # fmt: skip
    assert activations == ["body.0.act", "body.1.act"]
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert layers[:6] == operators[:6]
    assert layers[-1] == "tail"
    _, operators, _ = asked(lambda o, a: edsr(SrPlan(3, 4, 8, 1, up="direct"), o, a))
    assert operators == ["head", "body.0.conv1", "body.0.conv2", "body.end", "tail"]


def test_slots_of_vdsr():
    _, operators, activations = asked(lambda o, a: vdsr(VdsrPlan(layers=4, features=8), o, a))
    assert operators == ["head", "body.0.conv", "body.1.conv", "tail"]
    assert activations == ["head", "body.0.act", "body.1.act"]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("up", ["shuffle", "direct"])
@pytest.mark.parametrize("skip", ["none", "nearest", "bicubic"])
def test_every_form_enlarges_odd_sides_and_trains(scale, up, skip):
    model = edsr(SrPlan(3, scale, 4, 1, 0.1, skip, up))
    y = model(torch.rand(2, 3, 5, 7))
    assert y.shape == (2, 3, 5 * scale, 7 * scale)
    y.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert vdsr(VdsrPlan(3, scale, 4, 3))(torch.rand(2, 3, 5, 7)).shape == y.shape


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_tail_of_zeros_starts_as_bicubic_enlargement(scale):
    x = torch.rand(1, 3, 12, 14)
    # Enlarging, torch's antialiased filter is the plain kernel of a = -1/2.
    truth = F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)
    shape = TaskShape("restore", (3, 12, 14), (f"x{scale}",))
    inside = (slice(None), slice(None), *[slice(2 * scale, -2 * scale)] * 2)
    for model in (edsr(micro_edsr(shape)), vdsr(VdsrPlan(3, scale, 8, 3, zero_tail=True))):
        assert torch.allclose(model(x)[inside], truth[inside], atol=1e-6)


def test_a_flat_picture_stays_flat_up_to_the_edge():
    model = edsr(micro_edsr(TaskShape("restore", (3, 6, 6), ("x3",))))
    x = torch.full((1, 3, 6, 6), 0.7)
    assert torch.allclose(model(x), torch.full((1, 3, 18, 18), 0.7), atol=1e-6)


def test_without_a_skip_the_mean_colour_comes_back():
    model = edsr(SrPlan(3, 2, 4, 1, zero_tail=True))
    y = model(torch.rand(1, 3, 4, 4))
    assert torch.allclose(y[0, :, 0, 0], torch.tensor([0.4488, 0.4371, 0.4040]))
    assert not any("centre" in name for name, _ in model.named_parameters())


def test_the_branch_of_a_block_is_scaled():
    model = edsr(SrPlan(3, 2, 4, 1, residual=0.1))
    block, x = model.body[0], torch.randn(1, 4, 5, 5)
    assert torch.allclose(block(x) - x, 0.1 * block.conv2(block.act(block.conv1(x))), atol=1e-6)


def test_light_bodies_cost_what_they_should():
    plan = SrPlan(3, 2, 16, 2)
    dense = card_of(edsr(plan), (3, 8, 8)).macs
    body = 5 * 9 * 16 * 16 * 64  # convolutions of the body, 64 pixels
    assert card_of(edsr(plan, light(4)), (3, 8, 8)).macs == dense - body + body // 4
    separable = 5 * (9 * 16 + 16 * 16) * 64
    assert card_of(edsr(plan, light(None)), (3, 8, 8)).macs == dense - body + separable
    with pytest.raises(SpaceError, match=r"body\.0\.conv1: 16 to 16 .* into 3 groups"):
        edsr(plan, light(3))


def test_grouped_bodies_mix_their_groups():
    model = edsr(SrPlan(3, 2, 8, 1), light(2))
    x = torch.randn(1, 8, 5, 5, requires_grad=True)
    block = model.body[0]
    block.conv2(block.conv1(x))[0, 0, 2, 2].backward()
    assert bool((x.grad[0].abs().sum((1, 2)) > 0).all())


def test_scales_of_tasks():
    def shape(*heads):
        return TaskShape("restore", (3, 24, 24), heads)

    assert [scale_of(shape(h)) for h in ("x2", "x3", "x4", "denoise", "derain")] == [2, 3, 4, 1, 1]
    with pytest.raises(SpaceError, match="one degradation, the task has 2"):
        scale_of(shape("x2", "denoise"))
    with pytest.raises(SpaceError, match="a classify task has no scale"):
        scale_of(TaskShape("classify", (3, 8, 8), 10))
    for model in (lambda: edsr(SrPlan(scale=9)), lambda: vdsr(VdsrPlan(scale=0))):
        with pytest.raises(SpaceError, match="take a scale from 1 to 8"):
            model()


def test_only_a_convolution_can_start_at_zero():
    with pytest.raises(SpaceError, match="must be a convolution, not Sequential"):
        edsr(SrPlan(zero_tail=True, blocks=1, features=4), lambda *slot: nn.Sequential())


def test_the_recipe_decays_nothing_and_keeps_the_rates_of_groups():
    (phase,) = restoring(1e-3).phases
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = phase.steps[0].optimizer([{"params": [weight], "lr": 0.5}])
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.5, 0.0)]
    plain = phase.steps[0].optimizer([weight])
    assert {(g["lr"], g["weight_decay"]) for g in plain.param_groups} == {(1e-3, 0.0)}
