"""The space of super-resolution by additions: published energy, equal keys, what is built."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.energy import TABLE
from nasx.cost.ops import count
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._layers.adder import AdderConv2d
from search_spaces._layers.power import Power
from search_spaces._layers.self_shortcut import ShortcutAdder2d
from search_spaces.adder_sr import AdderSr

X2 = TaskShape("restore", (3, 16, 16), ("x2",))
ADDER = {"operators": ("adder",) * 3}
SMALL = {"width": 8, "depth": 2, **ADDER}
POINTS = {point.name: point for point in AdderSr.published}
# 1278 x 720 pixels: a third of 1280 is no whole number.
EDSR_X3 = replace(
    POINTS["edsr_x2"], name="edsr_x3", shape=TaskShape("restore", (3, 240, 426), ("x3",)),
    macs=549_799_280_640, adds=7_839_468_748_800,
)  # fmt: skip


def build(shape=X2, **fields):
    torch.manual_seed(0)
    return AdderSr(**fields).build(shape)


def images(*size):
    return torch.rand(*size, generator=torch.Generator().manual_seed(0))


# -- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "fp32", "int8", "joules"),
    [
        (POINTS["edsr_x2"], 2.342, 3.286, (43.1698, 18.4369)),
        (EDSR_X3, 2.145, 2.843, None),
        (POINTS["edsr_x4"], 1.867, 2.293, (13.3149, 7.1317)),
        (POINTS["vdsr"], 2.549, 3.815, (2.81792, 1.10564)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_energy_ratios_of_published_networks(point, fp32, int8, joules):
    """A convolution's tap is a multiplication and an addition, an adder's two additions."""
    cards = []
    for kind in ("conv", "adder"):
        with torch.device("meta"):
            candidate = AdderSr.from_json({**point.candidate, "operators": [kind] * 3})
            cards.append(card_of(candidate.build(point.shape), point.shape.input))
    multiplying, adding = cards
    assert multiplying.energy_uj / adding.energy_uj == pytest.approx(fp32, abs=1e-3)
    if joules:
        assert [c.energy_uj * 1e-6 for c in cards] == pytest.approx(joules, rel=1e-5)
    price = TABLE["int8"]
    picojoules = [c.macs * (price.add + price.multiply) + c.adds * price.add for c in cards]
    assert picojoules[0] / picojoules[1] == pytest.approx(int8, abs=1e-3)
    assert multiplying.macs == adding.macs + adding.adds // 2
    assert adding.unpriced == ()
    assert (adding.macs, adding.adds) == (point.macs, point.adds)


@pytest.mark.parametrize("backbone", ["micro_edsr", "micro_vdsr"])
@pytest.mark.parametrize("head", ["x2", "x3", "x4", "denoise"])
def test_operators_change_no_tap(backbone, head):
    shape = TaskShape("restore", (3, 10, 12), (head,))
    scale = 1 if head == "denoise" else int(head[1:])
    taps = []
    for kind in ("conv", "adder"):
        fields = {"operators": (kind,) * 3, "head": kind, "up": kind, "tail": kind}
        model = build(shape, backbone=backbone, width=8, depth=2, **fields)
        assert model(images(2, 3, 10, 12)).shape == (2, 3, 10 * scale, 12 * scale)
        found = count(model.eval(), images(1, 3, 10, 12))
        taps.append(found.macs + found.adds // 2)
        assert not found.unpriced
        adders = [m for m in model.modules() if isinstance(m, AdderConv2d)]
        assert bool(adders) == (kind == "adder")
    assert taps[0] == taps[1]


# -- what is built ------------------------------------------------------------------------------


def test_which_layers_add():
    model = build(width=8, depth=6, operators=("conv", "adder", "conv"))
    adders = [n for n, m in model.named_modules() if isinstance(m, ShortcutAdder2d)]
    assert adders == [f"body.{i}.conv{j}" for i in (2, 3) for j in (1, 2)]
    last = build(width=8, depth=6, operators=("conv", "conv", "adder"))
    assert isinstance(last.body.end, ShortcutAdder2d)
    ends = build(width=8, depth=1, head="adder", tail="adder")
    assert [n for n, m in ends.named_modules() if isinstance(m, ShortcutAdder2d)] == [
        "head", "tail",
    ]  # fmt: skip
    with torch.device("meta"):
        large = AdderSr(backbone="edsr", up="adder").build(TaskShape("restore", (3, 8, 8), ("x4",)))
    adders = [n for n, m in large.named_modules() if isinstance(m, ShortcutAdder2d)]
    assert adders == ["up.0", "up.2"]
    deep = build(backbone="micro_vdsr", width=8, depth=5, **ADDER)
    layers = [m for m in deep.modules() if isinstance(m, ShortcutAdder2d)]
    assert len(layers) == 5
    assert all(layer.shortcut for layer in layers)


@pytest.mark.parametrize("backbone", ["micro_edsr", "micro_vdsr"])
@pytest.mark.parametrize("tail", ["conv", "adder"])
@pytest.mark.parametrize("norm", ["branch", "sum", "scale"])
def test_with_a_skip_the_untrained_network_is_the_skip(backbone, tail, norm):
    model = build(backbone=backbone, **SMALL, tail=tail, norm=norm)
    skip = build(backbone=backbone, width=8, depth=1)
    x = images(2, 3, 16, 16)
    torch.testing.assert_close(model(x), skip.eval()(x))
    bare = build(backbone=backbone, **SMALL, tail=tail, norm=norm, skip="none")
    assert not torch.allclose(bare(x), skip(x), atol=0.02)


def test_activations():
    def made(**fields):
        return [type(m) for m in build(**SMALL, **fields).modules()]

    assert made().count(nn.ReLU) == 2
    assert made(activation="prelu").count(nn.PReLU) == 2
    assert made(activation="power").count(nn.ReLU) == 0
    both = made(activation="relu_power")
    assert (both.count(nn.ReLU), both.count(Power)) == (2, 2)
    model = build(**SMALL, activation="power", alpha_grain="channel", alpha_start=1.4)
    powers = [m for m in model.modules() if isinstance(m, Power)]
    assert [m.alpha.shape for m in powers] == [(8,), (8,)]
    assert powers[0].alpha.detach().numpy() == pytest.approx(1.4, rel=1e-5)


def test_the_deployed_network_is_the_trained_one():
    for norm, activation in itertools.product(("branch", "sum", "scale"), ("prelu", "power")):
        candidate = AdderSr(**SMALL, norm=norm, activation=activation)
        model = candidate.build(X2)
        model(images(4, 3, 16, 16))  # statistics
        deployed = candidate.decide(copy.deepcopy(model))
        x = images(2, 3, 20, 12)
        assert torch.equal(deployed.eval()(x), model.eval()(x))


def test_a_task_of_another_kind_is_refused():
    with pytest.raises(SpaceError, match="classify task has no scale"):
        AdderSr().build(TaskShape("classify", (3, 32, 32), 10))
    with pytest.raises(SpaceError, match="norm = 'batch'"):
        AdderSr(norm="batch")


# -- keys ---------------------------------------------------------------------------------------


def test_fields_that_change_nothing_split_no_key():
    def key(**fields):
        return AdderSr(**fields).key(X2)

    edsr = {"backbone": "edsr"}
    vdsr = {"backbone": "micro_vdsr", "width": 8, "depth": 2, **ADDER}
    same = [
        ({}, {"shortcut": False, "norm": "sum", "adder_rate": 1.0, "up": "adder"}),
        ({"head": "adder"}, {"head": "adder", "shortcut": False}),  # it changes channels
        ({"activation": "relu"}, {"alpha_start": 1.4, "alpha_grain": "channel"}),
        # One block: the middle third is empty.
        (
            {"depth": 1, "operators": ("conv", "adder", "conv")},
            {"depth": 1, "operators": ("conv", "conv", "conv")},
        ),
        (vdsr, {**vdsr, "residual": 0.1, "up": "adder"}),
        (vdsr, {**vdsr, "skip": "nearest"}),
        (edsr, {**edsr, "width": 8, "depth": 1}),
    ]
    for one, other in same:
        assert key(**one) == key(**other), (one, other)
    different = [
        {}, SMALL, {**SMALL, "shortcut": False}, {**SMALL, "norm": "sum"},
        {**SMALL, "norm": "scale"}, {**SMALL, "activation": "power"}, {**SMALL, "adder_rate": 1.0},
        {**SMALL, "activation": "relu_power"}, {**SMALL, "skip": "none"},
        {**SMALL, "skip": "nearest"}, {**SMALL, "residual": 0.1}, {**SMALL, "rate": 1e-3},
        {**SMALL, "activation": "power", "alpha_grain": "channel"},
        {**SMALL, "activation": "power", "alpha_start": 0.7},
        {**SMALL, "head": "adder"}, {**SMALL, "tail": "adder"}, edsr, {**edsr, "up": "adder"},
        vdsr, {**vdsr, "skip": "none"}, {**vdsr, "shortcut": False},
    ]  # fmt: skip
    assert len({key(**fields) for fields in different}) == len(different)


def test_the_control_is_the_convolutional_network_of_the_same_form():
    candidate = AdderSr(**SMALL, head="adder", activation="power", skip="nearest", norm="sum")
    control = candidate.control(X2)
    assert control == AdderSr(width=8, depth=2, skip="nearest")
    made, wanted = (count(c.build(X2).eval(), images(1, 3, 16, 16)) for c in (control, candidate))
    assert made.adds == 0
    assert made.macs == wanted.macs + wanted.adds // 2


def test_whoever_reads_results_is_told_what_is_left_out():
    (sentence,) = AdderSr.cautions
    for words in ("save modelled energy", "lose latency", "no price for normalisation"):
        assert words in sentence
