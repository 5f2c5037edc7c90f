"""State normalisation: soft outputs by their batch, hard statistics for the deployed network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasx.shape import TaskShape
from search_spaces._layers.slb import SlbConv2d, set_temperature
from search_spaces._layers.state_norm import FixedNorm2d, StateNorm2d, fix, followed, watch
from search_spaces._quantised_nets import STAGES, low_bit_layers
from search_spaces.low_bit import LowBit

SHAPE = TaskShape("classify", (3, 16, 16), 10)


def pair(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(SlbConv2d(3, 5, 3, 1, 1, bits=2, std=1.0), *between, nn.BatchNorm2d(5))


@pytest.mark.parametrize("between", [(), (nn.MaxPool2d(2),)], ids=["next", "after a pool"])
def test_each_kind_of_output_has_its_own_statistics(between):
    model = pair(*between)
    plain = copy.deepcopy(model)
    watch(model)
    assert isinstance(model[-1], StateNorm2d)
    x = torch.randn(6, 3, 8, 8)
    out = model.train()(x)
    soft = F.conv2d(x, model[0].soft_weight(), None, 1, 1)
    hard = F.conv2d(x, model[0].hard_weight(), None, 1, 1)
    for layer in between:
        soft, hard = layer(soft), layer(hard)
    assert torch.allclose(out, F.batch_norm(soft, None, None, training=True), atol=1e-5)
    assert torch.allclose(out, plain.train()(x), atol=1e-5)  # training sees no difference
    mean, variance = hard.mean((0, 2, 3)), hard.var((0, 2, 3))
    assert torch.allclose(model[-1].running_mean, 0.1 * mean, atol=1e-5)
    assert torch.allclose(model[-1].running_var, 0.9 + 0.1 * variance, atol=1e-5)
    assert not torch.allclose(plain[-1].running_var, model[-1].running_var, atol=1e-2)
    assert model[0].hard_output is None  # kept no longer than needed


def test_scale_and_shift_are_shared_and_eval_takes_the_hard_statistics():
    model = pair()
    watch(model)
    with torch.no_grad():
        model[-1].weight.uniform_(0.5, 2)
        model[-1].bias.uniform_(-1, 1)
    x = torch.randn(64, 3, 8, 8)
    for _ in range(120):
        model.train()(x)
    y = model.eval()(x)
    assert torch.allclose(y.mean((0, 2, 3)), model[-1].bias, atol=1e-3)
    assert torch.allclose(y.std((0, 2, 3)), model[-1].weight, atol=1e-3)


def test_hard_choices_make_it_a_plain_normalisation():
    model = pair()
    plain = copy.deepcopy(model)
    watch(model)
    x = torch.randn(4, 3, 8, 8)
    for net in (model, plain):
        set_temperature(net, 1.0, hard=True)
        net.train()(x)
    assert torch.allclose(model[-1].running_mean, plain[-1].running_mean)
    assert torch.allclose(model[-1].running_var, plain[-1].running_var)


def test_a_fixed_normalisation_computes_the_same_and_is_no_batch_norm():
    model = pair()
    for _ in range(3):
        model.train()(torch.randn(4, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    wanted = model.eval()(x)
    fix(model)
    assert isinstance(model[-1], FixedNorm2d)
    model.eval()[-1].train()
    assert torch.equal(model(x), wanted)
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(p.numel() for p in model[-1].parameters()) == 10


@pytest.mark.parametrize("backbone", STAGES)
def test_every_low_bit_layer_of_every_backbone_is_followed(backbone):
    candidate = LowBit(backbone=backbone, width=0.25, norm="state", ends=8)
    model = candidate.build(SHAPE)
    layers = low_bit_layers(model)
    last = [m for m in layers if m.scale is not None]  # the classifier: no normalisation follows
    assert len(last) == 1
    assert len(layers) > sum(STAGES[backbone])
    assert {id(conv) for _, _, conv, _ in followed(model)} == {id(m) for m in layers} - {
        id(last[0])
    }
    assert all(m.watched == (m is not last[0]) for m in layers)
    copied = copy.deepcopy(model).train()
    copied(torch.randn(2, 3, 16, 16))
    norms = [m for m in copied.modules() if isinstance(m, StateNorm2d)]
    assert all(float(m.running_var.sub(1).abs().sum()) > 0 for m in norms)
    original = [m for m in model.modules() if isinstance(m, StateNorm2d)]
    assert all(bool((m.running_var == 1).all()) for m in original)
