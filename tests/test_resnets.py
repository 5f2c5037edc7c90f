"""Published networks through operator slots: their sizes, their slots, their shapes."""

import pytest
import torch
from torch import nn

from nasx.cost.card import card_of
from nasx.errors import SpaceError
from search_spaces._backbones import conv, stage_of
from search_spaces._resnets import Pad, ResNetPlan, cifar_repeats, relu, resnet, resnet18
from search_spaces._vgg import VggPlan, vgg


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def block_convolutions(model: nn.Module) -> int:
    """Weights of the 3x3 convolutions but the first: what low-bit papers quantise."""
    return sum(
        m.weight.numel()
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and not name.startswith("stem")
    )


@pytest.mark.parametrize(
    ("model", "blocks", "rest"),
    [
        (resnet(ResNetPlan(3, 10, shortcut="pad")), 267_264, 2_458),
        (resnet(resnet18(3, 1000)), 10_985_472, 704_040),
        (vgg(VggPlan(3, 10, 32)), 4_571_136, 88_970),
    ],
    ids=["resnet20", "resnet18", "vgg_small"],
)
def test_sizes_of_published_networks(model, blocks, rest):
    assert block_convolutions(model) == blocks
    assert params(model) == blocks + rest


@pytest.mark.parametrize(
    ("depth", "size", "macs"), [(20, 272_484, 40_813_184), (32, 466_916, 69_124_736)]
)
def test_the_form_of_adder_networks(depth, size, macs):
    model = resnet(ResNetPlan(3, 10, cifar_repeats(depth), head="conv_bn"))
    assert params(model) == size
    assert card_of(model, (3, 32, 32)).macs == macs


def test_macs_of_resnet18_and_vgg_small():
    assert card_of(resnet(resnet18(3, 1000)), (3, 224, 224)).macs == 1_814_073_344
    assert card_of(vgg(VggPlan(3, 10, 32)), (3, 32, 32)).macs == 607_600_640


def test_every_slot_is_asked_for_once_by_its_own_name():
    def asked(build):
        operators, activations = [], []

        def operator(c_in, c_out, kernel, stride, where):
            operators.append(where)
            return conv(c_in, c_out, kernel, stride, where)

        def activation(where, channels):
            activations.append(where)
            return nn.ReLU()

        build(operator, activation)
        assert len(set(operators)) == len(operators)
        assert len(set(activations)) == len(activations)
        return operators, activations

    plan = ResNetPlan(3, 10, (1, 1), head="conv_bn")
    operators, activations = asked(lambda o, a: resnet(plan, o, a))
    assert sorted(operators) == [
        "head", "stages.0.0.conv1", "stages.0.0.conv2", "stages.1.0.conv1", "stages.1.0.conv2",
        "stages.1.0.shortcut", "stem",
    ]  # fmt: skip
    assert "stages.1.0.act2" in activations
    operators, activations = asked(lambda o, a: vgg(VggPlan(3, 10, 8, width=8), o, a))
    assert operators[:3] == ["stem", "stages.0.1.conv", "stages.1.0.conv"]
    assert activations[-1] == "stages.2.1.act"
    assert [stage_of(w) for w in ("stem", "stages.2.0.conv1", "head")] == [None, 2, None]


@pytest.mark.parametrize("shortcut", ["conv", "pool", "pad"])
@pytest.mark.parametrize("skip", ["block", "conv"])
@pytest.mark.parametrize("head", ["linear", "conv_bn"])
def test_every_form_runs_on_odd_sides_and_trains(shortcut, skip, head):
    plan = ResNetPlan(1, 5, (1, 2), 4, shortcut, head, skip=skip)
    model = resnet(plan)
    model(torch.randn(3, 1, 9, 9)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.eval()(torch.randn(2, 1, 9, 9)).shape == (2, 5)


def test_padding_keeps_pixels_and_puts_zero_channels_on_both_sides():
    x = torch.randn(2, 3, 5, 5)
    y = Pad(3, 8, 2)(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert not y[:, :2].any()
    assert not y[:, 5:].any()


def test_a_sum_after_every_convolution_passes_what_convolutions_do_not():
    plan = ResNetPlan(2, 3, (1,), 2, skip="conv")
    model = resnet(plan, activation=lambda where, channels: nn.Identity())
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith("stages"):
            nn.init.zeros_(module.weight)
    x = torch.randn(4, 2, 6, 6)
    assert torch.allclose(model.eval().stages(x), x)


def test_vgg_on_small_images():
    assert vgg(VggPlan(1, 4, 9, width=4))(torch.randn(3, 1, 9, 9)).shape == (3, 4)
    with pytest.raises(SpaceError, match="halves the side 3 times: a side of 7 is too small"):
        vgg(VggPlan(1, 4, 7))


def test_depths_that_are_no_resnet_are_refused():
    assert cifar_repeats(32) == (5, 5, 5)
    for depth in (2, 18, 21):
        with pytest.raises(SpaceError, match=f"6n \\+ 2 layers, not {depth}"):
            cifar_repeats(depth)


def test_the_plain_activation():
    assert isinstance(relu("stem", 4), nn.ReLU)
