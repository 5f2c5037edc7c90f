"""Rounding baselines and activation quantisers: their grids, their straight-through gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nasx.errors import NasxError
from search_spaces._layers.levels import levels
from search_spaces._layers.rounding import RoundedConv2d, Signs, Steps, keep_positive, reading

METHODS = ("dorefa", "ste")


def rounded(bits: int, method: str, seed: int = 0) -> RoundedConv2d:
    torch.manual_seed(seed)
    return RoundedConv2d(4, 6, 3, 1, 1, bits=bits, rounding=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_take_the_levels_of_slb(bits, method):
    layer = rounded(bits, method)
    taken = layer.weight_in_training().detach()
    assert set(taken.unique().tolist()) <= set(levels(bits).tolist())
    assert torch.equal(taken, layer.hard_weight())
    assert taken.min() == -1 or taken.max() == 1  # the largest weight reaches an end


def test_dorefa_is_its_own_formula():
    """arXiv:1606.06160, equation 9: 2 quantise(tanh(w) / (2 max |tanh(w)|) + 1/2) - 1."""
    for bits in (2, 4, 8):
        layer, n = rounded(bits, "dorefa"), 2**bits - 1
        bent = torch.tanh(layer.weight.detach().double())
        by_paper = 2 * torch.round((bent / (2 * bent.abs().max()) + 0.5) * n) / n - 1
        differing = (layer.hard_weight() - by_paper).abs() > 1e-6
        assert differing.float().mean() < 0.01  # halves may round the other way in float32


def test_straight_through_means_the_gradient_before_rounding():
    seen = torch.randn(6, 4, 3, 3)
    for bits in (1, 2, 8):
        layer = rounded(bits, "dorefa")
        (layer.weight_in_training() * seen).sum().backward()
        plain = layer.weight.detach().clone().requires_grad_()
        bent = torch.tanh(plain)
        soft = plain if bits == 1 else bent / bent.abs().max()
        (soft * seen).sum().backward()
        assert torch.allclose(layer.weight.grad, plain.grad, atol=1e-5)


def test_one_bit_ste_stops_the_gradient_outside_one_and_dorefa_does_not():
    for method, expected in (("ste", [1.0, 0.0]), ("dorefa", [1.0, 1.0])):
        layer = RoundedConv2d(2, 1, 1, bits=1, rounding=method)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.5, -1.5]).view(1, 2, 1, 1))
        weight = layer.weight_in_training()
        assert weight.flatten().tolist() == [1, -1]
        weight.sum().backward()
        assert layer.weight.grad.flatten().tolist() == expected


def test_signs_have_plus_one_at_zero_and_a_clipped_gradient():
    x = torch.tensor([-2.0, -0.5, 0.0, -0.0, 0.7, 1.5], requires_grad=True)
    y = Signs()(x)
    assert y.tolist() == [-1, -1, 1, 1, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([2, 4, 8]), st.floats(0.1, 8), st.integers(0, 1000))
def test_steps_are_clipped_and_rounded(bits, alpha, seed):
    x = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * alpha
    y, n = Steps(bits, alpha)(x), 2**bits - 1
    exact = x.double().clamp(0, alpha) * n / alpha
    code = y.double() * n / alpha
    assert torch.allclose(code, code.round(), atol=1e-4)
    assert ((code - exact).abs() <= 0.5 + 1e-4).all()
    assert ((y >= 0) & (y <= alpha * (1 + 1e-6))).all()


def test_dorefa_clips_at_one_and_passes_the_gradient_between():
    layer = reading(2, "dorefa")
    x = torch.tensor([-0.3, 0.1, 0.4, 0.9, 1.7], requires_grad=True)
    y = layer(x)
    assert y.tolist() == pytest.approx([0, 0, 1 / 3, 1, 1])
    y.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert not list(layer.parameters())


def test_pact_learns_where_to_clip():
    """arXiv:1805.06085, equation 3: the gradient of alpha is 1 where x >= alpha, else 0."""
    layer = reading(4, "pact")
    x = torch.tensor([-1.0, 0.5, 2.9, 3.0, 3.1, 9.0], requires_grad=True)
    weight = torch.tensor([10.0, 20.0, 30.0, 1.0, 2.0, 4.0])
    (layer(x) * weight).sum().backward()
    assert layer.alpha.item() == 3.0
    assert layer.alpha.grad.item() == 7.0
    assert x.grad.tolist() == [0, 20, 30, 0, 0, 0]
    with torch.no_grad():
        layer.alpha.fill_(-2.0)
    keep_positive(layer)
    assert layer.alpha.item() == pytest.approx(0.05)


def test_a_scale_per_filter_stands_in_for_a_normalisation():
    torch.manual_seed(0)
    layer = RoundedConv2d(16, 8, 3, 1, 1, bits=1, scaled=True)
    assert layer.scale.shape == (8,)
    x = torch.randn(4, 16, 9, 9)
    assert 0.5 < layer(x).std() / x.std() < 2.5  # levels of 1 over 144 taps would give 12
    layer(x).square().sum().backward()
    assert (layer.scale.grad != 0).all()
    bare = RoundedConv2d(16, 8, 3, 1, 1, bits=1)
    bare.load_state_dict({"weight": layer.weight.detach()})
    assert torch.allclose(layer(x), bare(x) * layer.scale.view(-1, 1, 1))


def test_the_factor_of_dorefa_at_one_bit_changes_no_output_and_no_direction():
    """Its E|w| sign(w) (equation 7), with the gradient passed straight: same after BatchNorm."""
    torch.manual_seed(0)
    layer, x = rounded(1, "dorefa"), torch.randn(8, 4, 5, 5)
    seen = torch.randn(8, 6, 5, 5)
    found = []
    for factor in (1.0, layer.weight.detach().abs().mean().item()):
        weight = (layer.hard_weight() * factor).requires_grad_()
        z = F.batch_norm(F.conv2d(x, weight, None, 1, 1), None, None, training=True, eps=1e-9)
        (z * seen).sum().backward()
        found.append((z.detach(), weight.grad * factor))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-4)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-3)


@pytest.mark.parametrize("bits", [0, 3, 16])
def test_bits_outside_the_set_are_refused(bits):
    with pytest.raises(NasxError, match=f"of {bits} bits: low-bit layers take 1, 2, 4 or 8 bits"):
        RoundedConv2d(1, 1, 1, bits=bits)
    with pytest.raises(NasxError, match=f"activations of {bits} bits"):
        Steps(bits)


def test_one_bit_has_no_steps():
    with pytest.raises(NasxError, match="activations of 1 bit are signs"):
        Steps(1)
