"""SLB: levels, soft and hard values, exact gradients, the schedule, and what training carries."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.errors import NasxError
from nasx.relax import Schedule, relax, weights
from search_spaces._choice_adam import ChoiceAdam
from search_spaces._layers.levels import levels
from search_spaces._layers.slb import SlbConv2d, expectation, set_temperature

GOLDEN = json.loads((Path(__file__).parent / "golden" / "slb_exact.json").read_text())


def one_weight(case: dict) -> SlbConv2d:
    """A 1x1 convolution of one weight with the logits of a golden case."""
    layer = SlbConv2d(1, 1, 1, bits=case["bits"])
    a = torch.tensor(case["A"])
    with torch.no_grad():
        layer.latent.copy_(
            (a[1:] - a[:1]).view(1, 1, 1, 1) / 2 if len(a) == 2 else a.view(1, 1, -1)
        )
    return layer


@pytest.mark.parametrize("bits", GOLDEN["levels"])
def test_levels_are_those_of_the_official_code(bits):
    assert levels(int(bits)).tolist() == pytest.approx(GOLDEN["levels"][bits], abs=1e-7)
    assert 0 not in levels(int(bits))


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda c: f"{c['bits']}b-t{c['inv_temperature']}"
)
def test_soft_and_hard_weights_and_gradients_are_the_golden_ones(case):
    t, a, values = case["inv_temperature"], torch.tensor(case["A"]), levels(case["bits"])
    assert weights(a, temperature=1 / t).tolist() == pytest.approx(case["P"], abs=1e-6)
    logits = a.clone().requires_grad_()
    soft = expectation(logits[None], values, float(t))
    soft.sum().backward()
    assert soft.item() == pytest.approx(case["soft_weight"], abs=1e-6)
    assert logits.grad.tolist() == pytest.approx(case["dw_dA"], abs=2e-6)
    layer = one_weight(case)
    set_temperature(layer, float(t), hard=False)
    x = torch.ones(1, 1, 1, 1)
    assert layer.train()(x).item() == pytest.approx(case["soft_weight"], abs=1e-6)
    assert layer.eval()(x).item() == pytest.approx(case["hard_weight"], abs=1e-7)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 30))
def test_one_bit_is_the_tanh_of_half_the_difference(first, second, t):
    case = {"bits": 1, "A": [first, second]}
    layer = one_weight(case)
    set_temperature(layer, t, hard=False)
    a = torch.tensor(case["A"], dtype=torch.float64, requires_grad=True)
    soft = relax(a, levels(1).double(), temperature=1 / t)
    soft.backward()
    assert layer.soft_weight().item() == pytest.approx(soft.item(), abs=1e-5)
    assert soft.item() == pytest.approx(math.tanh(t * (second - first) / 2), abs=1e-9)
    layer.soft_weight().sum().backward()
    # The latent moves both logits, each half the way: its gradient is the sum of the two changes.
    assert layer.latent.grad.item() == pytest.approx((a.grad[1] - a.grad[0]).item(), abs=1e-4 * t)
    assert layer.logits.diff(dim=-1).item() == pytest.approx(second - first, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([2, 4]), st.integers(1, 40), st.floats(0.2, 50), st.integers(1, 200))
def test_chunks_change_nothing(bits, count, t, chunk):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, 2**bits, generator=generator, dtype=torch.float64)
    values, seen = levels(bits).double(), torch.randn(count, generator=generator).double()
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    reference = relax(whole, values, temperature=1 / t)
    found = expectation(parts, values, t, chunk)
    (reference @ seen).backward()
    (found @ seen).backward()
    assert torch.allclose(found, reference, atol=1e-12)
    assert torch.allclose(parts.grad, whole.grad, atol=1e-10)


def test_the_gradient_is_the_derivative():
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    values = levels(2).double()
    assert torch.autograd.gradcheck(lambda a: expectation(a, values, 3.0, 8), (logits,))


@pytest.mark.parametrize("row", GOLDEN["temperature_schedule"], ids=lambda r: r["name"])
def test_the_schedule_is_the_official_table(row):
    epochs, first, last = row["epochs"], row["start"], row["end"]
    annealing = round(epochs * (last - first))
    assert row["factor"] ** annealing == pytest.approx(row["final_t"])
    t = Schedule(1.0, row["final_t"], first, last, "exponential")
    for epoch in (0, round(epochs * first), epochs):
        done = min(max(epoch - round(epochs * first), 0), annealing)
        assert t(epoch / epochs) == pytest.approx(row["factor"] ** done)
    for epoch in range(round(epochs * first), round(epochs * last), 7):
        assert t(epoch / epochs) == pytest.approx(row["factor"] ** (epoch - round(epochs * first)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_hard_choices_pass_no_gradient_to_logits_and_equal_eval(bits):
    torch.manual_seed(0)
    layer = SlbConv2d(3, 4, 3, 2, 1, bits=bits, scaled=True, bias=True).train()
    x = torch.randn(2, 3, 7, 7, requires_grad=True)
    set_temperature(layer, 5.0, hard=False)
    layer(x).sum().backward()
    assert layer.latent.grad.abs().sum() > 0
    layer.zero_grad()
    set_temperature(layer, 5.0, hard=True)
    y = layer(x)
    y.sum().backward()
    assert layer.latent.grad is None
    assert layer.scale.grad is not None
    assert layer.bias.grad is not None
    assert torch.equal(y, layer.eval()(x))
    assert set(layer.hard_weight().unique().tolist()) <= set(levels(bits).tolist())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_weights_start_undecided_and_differ(bits):
    torch.manual_seed(0)
    layer = SlbConv2d(8, 16, 3, bits=bits, std=0.1)
    assert layer.soft_weight().abs().max() < 0.5
    codes, counts = layer.codes().unique(return_counts=True)
    assert len(codes) == 2**bits  # equal logits would all take the first level
    assert counts.min() > 0.5 * counts.float().mean()
    assert layer.logits.std().item() == pytest.approx(0.1 if bits > 1 else 0.1 / 2**0.5, rel=0.1)


def test_bits_outside_the_set_are_refused_in_one_sentence():
    with pytest.raises(NasxError, match="weights of 3 bits: low-bit layers take 1, 2, 4 or 8 bits"):
        SlbConv2d(1, 1, 1, bits=3)


def test_one_choice_moves_as_a_whole():
    """The first step is the gradient over its root mean square in each choice, times the rate."""
    first = torch.randn(3, 4)
    gradient = torch.randn(3, 4)
    choices, plain = torch.nn.Parameter(first.clone()), torch.nn.Parameter(torch.zeros(2))
    optimizer = ChoiceAdam([{"params": [choices], "choices": True}, {"params": [plain]}], 0.1)
    choices.grad, plain.grad = gradient.clone(), torch.tensor([3.0, -0.2])
    optimizer.step()
    size = gradient.square().mean(-1, keepdim=True).sqrt()
    assert torch.allclose(choices, first - 0.1 * gradient / size, atol=1e-5)
    assert torch.allclose(plain, torch.tensor([-0.1, 0.1]), atol=1e-5)
    assert torch.equal(choices.grad, gradient)
    assert optimizer.state[choices]["exp_avg_sq"].shape == (3, 1)


def test_its_state_survives_saving():
    def made(first: torch.Tensor) -> tuple[torch.nn.Parameter, ChoiceAdam]:
        p = torch.nn.Parameter(first.clone())
        return p, ChoiceAdam([{"params": [p], "choices": True}], 0.1)

    def moved(p: torch.nn.Parameter, optimizer: ChoiceAdam, steps: range) -> None:
        for step in steps:
            p.grad = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
            optimizer.step()

    one, first = made(torch.ones(3, 4))
    moved(one, first, range(4))
    two, second = made(torch.ones(3, 4))
    moved(two, second, range(2))
    three, third = made(two.detach())
    third.load_state_dict(second.state_dict())
    moved(three, third, range(2, 4))
    assert torch.equal(one, three)
