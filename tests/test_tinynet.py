"""TinyNet: one plan for network and count, solved widths, one key per network, the null rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nasx.shape import TaskShape
from search_spaces.tinynet import TinyNet, base_macs, w_identity

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


@pytest.mark.parametrize("point", TinyNet.published, ids=lambda p: p.name)
def test_published_points_are_exact_in_closed_form(point) -> None:
    candidate = TinyNet.from_json(point.candidate)
    assert candidate.macs(IMAGENET) == point.macs
    assert candidate.params(IMAGENET) == point.params


def test_published_sides() -> None:
    sides = [TinyNet.from_json(p.candidate).side(IMAGENET) for p in TinyNet.published]
    assert sides == [224, 192, 188, 184, 152, 106]


def test_the_baseline_is_the_base() -> None:
    assert TinyNet().solved_width(PHOTO) == pytest.approx(1.0, abs=0.05)
    assert TinyNet().canonical(PHOTO) == TinyNet(width="free").canonical(PHOTO)


@settings(max_examples=60, deadline=None)
@given(candidates)
def test_a_solved_width_stays_at_or_below_its_target_where_it_can(candidate: TinyNet) -> None:
    target = candidate.c * base_macs("micro", PHOTO)
    w = candidate.solved_width(PHOTO)
    assert candidate.macs(PHOTO) <= target * 1.011 or w == pytest.approx(0.35)


def test_two_spellings_of_one_network_have_one_key() -> None:
    solved = TinyNet(c=0.3, r=0.8, d=0.7)
    free = TinyNet(width="free", r=0.8, d=0.7, w=solved.solved_width(PHOTO))
    assert solved.key(PHOTO) == free.key(PHOTO)
    assert solved.key(PHOTO) != TinyNet(c=0.3, r=0.6, d=0.7).key(PHOTO)


@pytest.mark.parametrize("share", [0.06, 0.12, 0.25, 0.5, 0.9])
def test_the_null_rule_meets_its_budget_within_three_percent(share: float) -> None:
    macs = int(share * base_macs("b0", IMAGENET))
    assert TinyNet.null_from_macs(macs, IMAGENET).macs(IMAGENET) == pytest.approx(macs, rel=0.03)


def test_the_identity_is_not_the_cost() -> None:
    """E: the identity asks w = .68 where the published width is .51 (methods of the paper)."""
    assert w_identity(0.475, 0.60, 0.0631) == pytest.approx(0.68, abs=0.01)


def test_repair_keeps_the_limit() -> None:
    repaired = TinyNet().repair(PHOTO, {"macs": 1e6})
    assert repaired is not None
    assert repaired.macs(PHOTO) <= 1e6
    assert TinyNet().repair(PHOTO, {"macs": 10.0}) is None


def test_what_is_not_in_effect_is_not_shown() -> None:
    assert "w" not in TinyNet(c=0.3, w=0.7).in_effect()
    assert "c" not in TinyNet(width="free", w=0.7).in_effect()
    assert TinyNet(c=0.3, w=0.7).active()["w"] == TinyNet().w
