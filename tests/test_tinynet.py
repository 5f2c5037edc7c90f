"""TinyNet: one plan for network and count, solved widths, one key per network, the null rule."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.api import cost
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._backbones import SqueezeExcite, plan_macs
from search_spaces._bases import BASES, base_macs, scaled
from search_spaces.tinynet import TinyNet, w_identity, w_solved

GOLDEN = json.loads((Path(__file__).parent / "golden" / "tinynet_networks.json").read_text())
NETWORKS = GOLDEN["networks"]

PHOTO = TaskShape("classify", (3, 64, 64), 10)
DIGIT = TaskShape("classify", (1, 8, 8), 10)
IMAGENET = TaskShape("classify", (3, 224, 224), 1000)

candidates = st.builds(
    TinyNet,
    r=st.floats(0.3, 1.3),
    d=st.floats(0.35, 1.6),
    c=st.floats(0.03, 1.05),
)


def hooked(model: nn.Module, x: torch.Tensor) -> int:
    """Count multiply-accumulates by hooks on Conv2d and Linear, apart from nasx."""
    total = 0

    def add(layer: nn.Module, _: object, y: torch.Tensor) -> None:
        nonlocal total
        per = layer.weight[0].numel()  # type: ignore[index, union-attr, operator]
        total += y[0].numel() * per

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(add)  # type: ignore[arg-type]
    with torch.no_grad():
        model.eval()(x)
    return total


@settings(max_examples=25, deadline=None)
@given(candidates, st.sampled_from([PHOTO, DIGIT]))
def test_three_counters_agree_and_the_answer_has_the_classes(
    candidate: TinyNet, shape: TaskShape
) -> None:
    model = candidate.build(shape)
    x = torch.zeros(1, *candidate.input_shape(shape))
    side = x.shape[-1]
    assert side % 2 == 0
    assert side >= candidate.plan(shape).stride
    assert hooked(model, x) == candidate.macs(shape)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        assert model(x).shape == (1, 10)
    assert flops.get_total_flops() == 2 * candidate.macs(shape)
    assert sum(p.numel() for p in model.parameters()) == candidate.params(shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_published_networks_are_the_official_ones_stage_by_stage(name: str) -> None:
    golden = NETWORKS[name]
    point = next(p for p in TinyNet.published if p.name == name)
    assert (point.params, point.macs) == (golden["params"], golden["macs"])
    candidate = TinyNet(base="b0", width="free", r=golden["r"], w=golden["w"], d=golden["d"])
    assert candidate == TinyNet.from_json(point.candidate)
    assert (candidate.macs(IMAGENET), candidate.params(IMAGENET)) == (point.macs, point.params)
    plan = candidate.plan(IMAGENET)
    assert candidate.side(IMAGENET) == golden["side"]
    assert [stage.repeats for stage in plan.stages] == golden["depths"]
    assert [stage.channels for stage in plan.stages] == golden["channels"]
    assert [plan.stem, plan.head] == golden["stem_head"]
    assert plan.head * plan.classes == golden["macs_classifier"]
    assert 2 * point.macs == golden["flop_counter"]
    stated = golden["paper_macs_millions"]
    assert abs(point.macs / 1e6 - stated) < (0.5 if name == "e" else 0.01 * stated)
    with torch.device("meta"):
        model = candidate.build(IMAGENET)
    assert sum(p.numel() for p in model.parameters()) == golden["params"]
    gates = [m for m in model.modules() if isinstance(m, SqueezeExcite)]
    assert sum(p.numel() for g in gates for p in g.parameters() if p.ndim > 1) == golden["macs_se"]


def test_repeats_round_halves_to_even_and_sides_are_cut_off() -> None:
    half = scaled(BASES["b0"](IMAGENET), 1.0, 0.5)  # 1, 2, 2, 3, 3, 4, 1 halved
    assert [stage.repeats for stage in half.stages] == [1, 1, 1, 2, 2, 2, 1]
    assert TinyNet(r=0.68, base="b0").side(IMAGENET) == 152  # of 152.32
    for r in np.linspace(0.3, 1.3, 40):
        side = TinyNet(r=float(r), base="b0").side(IMAGENET)
        assert side == max(32, int(224 * r) // 2 * 2)


def test_networks_start_as_efficientnet_does() -> None:
    torch.manual_seed(0)
    model = TinyNet(base="b0", width="free", r=0.475, w=0.51, d=0.6).build(IMAGENET)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.eps, layer.momentum) == (1e-5, 0.1)
            assert bool((layer.weight == 1).all())
            assert not layer.bias.any()
        elif isinstance(layer, nn.Conv2d):
            out = layer.kernel_size[0] ** 2 * layer.out_channels // layer.groups
            n, spread = layer.weight.numel(), float(layer.weight.detach().std())
            assert spread == pytest.approx(math.sqrt(2 / out), rel=5 / math.sqrt(2 * n))
        elif isinstance(layer, nn.Linear):
            assert float(layer.weight.detach().abs().max()) == pytest.approx(
                1 / math.sqrt(1000), rel=1e-4
            )
            assert not layer.bias.any()


def test_a_published_point_is_found_by_the_papers_letter() -> None:
    assert cost("tinynet", published="E").macs == NETWORKS["e"]["macs"]
    with pytest.raises(SpaceError, match="no published point 'F'"):
        cost("tinynet", published="F")


def test_the_baseline_is_the_base() -> None:
    for base, shape in (("micro", PHOTO), ("micro", DIGIT), ("b0", IMAGENET)):
        solved, free = TinyNet(base=base), TinyNet(base=base, width="free")
        assert solved.canonical(shape) == free.canonical(shape)
        assert solved.refusal(shape) is None
        assert free.macs(shape) == base_macs(base, shape)


@settings(max_examples=60, deadline=None)
@given(candidates, st.sampled_from([("micro", PHOTO), ("micro", DIGIT), ("b0", IMAGENET)]))
def test_a_solved_width_is_the_largest_within_one_percent(
    drawn: TinyNet, where: tuple[str, TaskShape]
) -> None:
    base, shape = where
    candidate = TinyNet.from_flat({**drawn.flat(), "base": base})
    whole, side = BASES[base](shape), candidate.side(shape)
    most = 1.01 * candidate.c * base_macs(base, shape) + 0.5
    w = candidate.solved_width(shape)
    counted = [plan_macs(scaled(whole, v, candidate.d), side) for v in np.linspace(0.35, 1.3, 191)]
    assert counted == sorted(counted)
    wider = [m for v, m in zip(np.linspace(0.35, 1.3, 191), counted, strict=True) if v > w + 1e-6]
    assert all(m > most for m in wider)
    c = candidate.macs(shape) / base_macs(base, shape)
    if candidate.refusal(shape) is None:
        assert candidate.macs(shape) <= most
        assert abs(c - candidate.c) <= 0.05
    else:
        assert w in (pytest.approx(0.35), 1.3) or abs(c - candidate.c) > 0.05
        with pytest.raises(SpaceError, match="out of reach"):
            cost(candidate, task=shape)


def test_a_target_out_of_reach_says_what_the_nearest_width_has() -> None:
    said = str(TinyNet(c=0.05, r=1.2, d=1.5).refusal(PHOTO))
    assert "c = 0.05 is out of reach at r = 1.2, d = 1.5: the nearest width, 0.35, has c = " in said
    assert "the nearest width, 1.3, has" in str(TinyNet(c=1.0, r=0.4).refusal(PHOTO))
    assert TinyNet(width="free", c=0.05, r=1.2, d=1.5).refusal(PHOTO) is None


def drawn_plain(model: nn.Module, candidate: TinyNet) -> tuple[str, object]:
    """Return all that a network is: every layer as torch prints it, and its input."""
    return str(model), candidate.input_shape(PHOTO)


@settings(max_examples=60, deadline=None)
@given(candidates, st.floats(-0.03, 0.03), st.floats(-0.08, 0.08), st.floats(0.9, 1.1))
def test_keys_are_equal_exactly_for_equal_networks(
    one: TinyNet, r: float, d: float, c: float
) -> None:
    near = {"r": one.r + r, "d": one.d + d, "c": one.c * c}
    lows, highs = {"r": 0.3, "d": 0.35, "c": 0.03}, {"r": 1.3, "d": 1.6, "c": 1.05}
    near = {k: min(max(v, lows[k]), highs[k]) for k, v in near.items()}
    two = TinyNet.from_flat({**one.flat(), **near})
    with torch.device("meta"):
        plain = [drawn_plain(each.build(PHOTO), each) for each in (one, two)]
    assert (plain[0] == plain[1]) == (one.key(PHOTO) == two.key(PHOTO))


def test_two_spellings_of_one_network_have_one_key() -> None:
    solved = TinyNet(c=0.3, r=0.8, d=0.7)
    free = TinyNet(width="free", r=0.8, d=0.7, w=solved.solved_width(PHOTO))
    assert solved.key(PHOTO) == free.key(PHOTO)
    assert solved.key(PHOTO) != TinyNet(c=0.3, r=0.6, d=0.7).key(PHOTO)


@pytest.mark.parametrize("share", [0.06, 0.12, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [PHOTO, IMAGENET])
def test_the_null_is_the_compound_rule_within_three_percent(share: float, shape: TaskShape) -> None:
    macs = int(share * base_macs("micro" if shape is PHOTO else "b0", shape))
    null = TinyNet.null_from_macs(macs, shape)
    assert null.macs(shape) == pytest.approx(macs, rel=0.03)
    phi = math.log(null.d) / math.log(1.2)
    assert null.r == pytest.approx(1.15**phi, rel=1e-6)
    assert null.w == pytest.approx(1.1**phi, rel=0.2)  # rounded channels; mostly exact
    solved = TinyNet.from_axes({"r": null.r, "d": null.d}, macs, shape)
    assert solved.w == w_solved(solved.base, null.r, null.d, macs, shape)


def test_the_identity_is_not_the_cost() -> None:
    """E: the identity asks w = .68 where the published width is .51 (methods of the paper)."""
    assert w_identity(0.475, 0.60, 0.0631) == pytest.approx(0.68, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(candidates, st.sampled_from(["solved", "free"]), st.floats(0.02, 1.2), st.floats(0.1, 2))
def test_repair_keeps_the_limits_and_a_reachable_target(
    drawn: TinyNet, width: str, macs: float, params: float
) -> None:
    candidate = TinyNet.from_flat({**drawn.flat(), "width": width})
    limits = {"macs": macs * base_macs("micro", PHOTO), "params": params * 60_000}
    repaired = candidate.repair(PHOTO, limits)
    if repaired is not None:
        assert repaired.width == width
        assert repaired.macs(PHOTO) <= limits["macs"]
        assert repaired.params(PHOTO) <= limits["params"]
        assert repaired.refusal(PHOTO) is None
    same = candidate.repair(PHOTO, {})
    assert same is None or same.key(PHOTO) == candidate.key(PHOTO)
    assert same is not None or candidate.refusal(PHOTO)
    assert candidate.repair(PHOTO, {"macs": 10.0}) is None


def test_what_is_not_in_effect_is_not_shown() -> None:
    assert "w" not in TinyNet(c=0.3, w=0.7).in_effect()
    assert "c" not in TinyNet(width="free", w=0.7).in_effect()
    assert TinyNet(c=0.3, w=0.7).active()["w"] == TinyNet().w


@pytest.mark.parametrize("candidate", [TinyNet(), TinyNet(c=0.5, r=0.8, d=0.9)])
def test_its_stages_are_one_part_whose_macs_rise_with_every_width(candidate):
    shape = TaskShape("classify", (3, 64, 64), 10)
    ((name, part),) = candidate.parts(shape).items()
    resized = [candidate.resized({name: w}, shape) for w in part.widths]
    assert [c.parts(shape)[name].width for c in resized] == list(part.widths)
    macs = [c.macs(shape) for c in resized]
    assert macs == sorted(set(macs))
    assert candidate.resized({name: part.width}, shape) == candidate
    whole = candidate.whole(shape)
    assert (whole is None) == (candidate == TinyNet())
    assert whole is None or whole.key(shape) == TinyNet().key(shape)
