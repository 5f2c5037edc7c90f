"""The learnt power: its values, its gradients at and near 0, and its bounds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nasx.cost.ops import count
from nasx.errors import NasxError
from search_spaces._layers.power import FLOOR, LEAST, MOST, Power, exponents

ALPHAS = (0.31, 0.5, 1.0, 1.7, 2.99)


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_the_power_with_its_sign_kept(alpha):
    y = torch.linspace(-3, 3, 40, dtype=torch.float64)
    wanted = y.sign() * y.abs() ** alpha
    torch.testing.assert_close(Power(start=alpha).double()(y), wanted, rtol=1e-5, atol=1e-7)
    if alpha == 1:
        torch.testing.assert_close(Power()(y.float()), y.float(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_are_the_true_ones_away_from_the_bend(alpha):
    layer = Power(channels=3, start=alpha).double()
    y = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = (y + 0.05 * y.sign()).requires_grad_()

    def run(y: torch.Tensor, logit: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"logit": logit}, (y,))

    assert torch.autograd.gradcheck(run, (y, layer.logit))
    line = (torch.linspace(-0.9, 0.9, 4, dtype=torch.float64) * FLOOR).requires_grad_()
    slope = Power(start=alpha).double()
    assert torch.autograd.gradcheck(slope, (line,), eps=1e-7 * FLOOR)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradients_at_and_near_zero_are_finite(alpha):
    """Of sign(y) |y|^alpha itself they are infinite (alpha < 1) and 0 * log 0."""
    layer = Power(start=alpha).double()
    y = values(0.0, -0.0, 1e-300, -1e-30, FLOOR, -FLOOR, 0.5 * FLOOR)
    out = layer(y)
    out.sum().backward()
    assert torch.isfinite(y.grad).all()
    assert torch.isfinite(layer.logit.grad).all()
    slope = FLOOR ** (layer.alpha.item() - 1)
    assert y.grad[0].item() == pytest.approx(slope)
    assert (y.grad.abs() <= max(1, alpha) * slope * (1 + 1e-5)).all()
    layer.zero_grad()
    layer(values(0.0, 0.0)).sum().backward()
    assert layer.logit.grad.item() == 0  # 0 has no logarithm, and no say
    assert out[:2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_has_no_jump(alpha):
    layer = Power(start=alpha).double()
    just = FLOOR * torch.tensor([1 - 1e-9, 1 + 1e-9], dtype=torch.float64)
    below, above = layer(just).tolist()
    assert below == pytest.approx(above, rel=1e-7)
    y = torch.linspace(-3 * FLOOR, 3 * FLOOR, 61, dtype=torch.float64)
    assert (layer(y).diff() > 0).all()


@given(st.floats(-1e4, 1e4))
def test_the_exponent_stays_within_its_bounds(logit):
    layer = Power()
    with torch.no_grad():
        layer.logit.fill_(logit)
    assert LEAST * (1 - 1e-6) <= layer.alpha.item() <= MOST * (1 + 1e-6)


def test_an_exponent_at_its_bound_finds_back():
    """A bound that only clips has no gradient beyond it, and would hold what passed it."""
    layer = Power(start=2.9)
    y = torch.full((8,), 0.5)
    optimizer = torch.optim.Adam(layer.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        (layer(y) - 0.5**0.8).square().sum().backward()
        optimizer.step()
    assert layer.alpha.item() == pytest.approx(0.8, abs=0.02)


def test_one_exponent_or_one_for_each_channel():
    one, many = Power(start=0.5), Power(channels=4, start=0.5)
    y = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(one(y), many(y))
    assert [tuple(p.shape) for p in exponents(nn.Sequential(one, many))] == [(1,), (4,)]
    with torch.no_grad():
        many.logit[1] = 100.0
    torch.testing.assert_close(many(y)[:, 1], y[:, 1] ** MOST)
    torch.testing.assert_close(many(y)[:, 2], y[:, 2] ** 0.5)
    assert repr(one) == "Power()"
    assert repr(many) == "Power(channels=4)"


@pytest.mark.parametrize("start", [0.0, LEAST, MOST, 5.0, math.nan])
def test_a_start_out_of_bounds_is_refused(start):
    with pytest.raises(NasxError, match=r"Power: alpha = .* must lie between 0\.3 and 3\.0"):
        Power(start=start)


def test_its_price_is_elementwise():
    found = count(nn.Sequential(nn.Conv2d(1, 2, 1), Power()), torch.zeros(1, 1, 4, 4))
    assert found.macs == 2 * 16
    assert not found.unpriced
