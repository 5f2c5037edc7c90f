"""Binary convolution, the mapping over its filters, and the loss under noisy labels."""

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from search_spaces._layers import binary
from search_spaces._layers.binary import BinaryConv2d
from search_spaces._layers.mapping import FilterMapping, symmetric_loss, unbiased_loss
from search_spaces._layers.signs import approximated, clipped, sign, whole

GOLDEN = json.loads((Path(__file__).parent / "golden" / "lns_unbiased_loss.json").read_text())
RHO = st.floats(0, 0.45)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conv(*args, **kwargs) -> BinaryConv2d:
    torch.manual_seed(0)
    return BinaryConv2d(*args, **kwargs)


def gradient(function, at: list[float]) -> list[float]:
    x = torch.tensor(at, requires_grad=True)
    function(x).sum().backward()
    return x.grad.tolist()


def test_signs_and_their_gradients_in_closed_form():
    at = [-2.0, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0]
    assert sign(torch.tensor([*at, -0.0])).tolist() == [-1, -1, -1, 1, 1, 1, 1, 1]
    assert gradient(clipped, at) == [0, 1, 1, 1, 1, 1, 0]
    assert gradient(approximated, at) == [0, 0, 1.5, 2, 1, 0, 0]
    assert gradient(whole, at) == [1] * 7


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_convolution_is_whole_numbers_and_padding_adds_zero(kernel, stride):
    layer, x = conv(3, 4, kernel, stride), drawn(2, 3, 7, 6)
    y = layer(x)
    wide = functional.pad(sign(x).double(), [kernel // 2] * 4)
    taps = functional.unfold(wide, kernel, stride=stride)
    slow = (sign(layer.weight).double().flatten(1) @ taps).reshape(y.shape)
    assert torch.equal(y.double(), slow)
    corner = (2 * kernel - kernel // 2 * 2) // 2  # taps of a border that lie in the image
    assert y[:, :, 0, 0].abs().max() <= 3 * corner**2


@pytest.mark.parametrize("weights", binary.WEIGHTS)
def test_scales(weights):
    layer, x = conv(2, 5, 3, weights=weights), drawn(1, 2, 4, 4)
    size = layer.weight.detach().abs()
    scale = {
        "sign": torch.ones(5), "scaled": size.mean((1, 2, 3)), "dorefa": size.mean().expand(5)
    }[weights]  # fmt: skip
    plain = functional.conv2d(sign(x), sign(layer.weight), padding=1)
    assert torch.equal(layer(x), plain * scale[:, None, None])


def test_dorefas_gradient_is_that_of_the_scaled_signs():
    layer, x = conv(2, 3, 3, weights="dorefa"), drawn(1, 2, 4, 4)
    layer(x).square().sum().backward()
    mean = layer.weight.detach().abs().mean()
    scaled = (sign(layer.weight.detach()) * mean).requires_grad_()
    functional.conv2d(sign(x), scaled, padding=1).square().sum().backward()
    assert torch.allclose(layer.weight.grad, scaled.grad, rtol=1e-5, atol=1e-5)


def test_unknown_gradients_are_refused():
    with pytest.raises(ValueError, match="act = 'soft'"):
        BinaryConv2d(1, 1, 3, act="soft")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_attaching_a_mapping_changes_no_bit(depth, times, kernel):
    layer, x = conv(3, 6, kernel), drawn(2, 3, 5, 5)
    before = layer(x)
    layer.attach(FilterMapping(6, 3, kernel, depth=depth, times=times))
    assert torch.equal(layer.latent(), layer.weight)
    assert torch.equal(layer(x), before)
    assert torch.equal(layer.mapping.labels, layer.signs())
    widths = [m.out_channels for m in layer.mapping.convs]
    assert widths == [3 * times] * (depth - 1) + [3]


def test_a_trained_mapping_gives_the_same_signs_in_any_mode_and_format():
    layer = conv(16, 32, 3)
    layer.attach(FilterMapping(32, 16, 3, depth=3, times=2))
    torch.nn.init.normal_(layer.mapping.convs[-1].weight, std=0.05)
    signs = layer.train().signs()
    assert (signs != sign(layer.weight)).float().mean() > 0.05  # it does turn signs
    with torch.no_grad():
        assert torch.equal(layer.eval().latent(), layer.train().latent())
        other = copy.deepcopy(layer).to(memory_format=torch.channels_last)
        assert torch.equal(other.signs(), signs)


def test_every_part_of_a_mapping_learns():
    layer, x = conv(3, 6, 3), drawn(2, 3, 5, 5)
    layer.attach(FilterMapping(6, 3, 3, depth=2, times=2))
    torch.nn.init.normal_(layer.mapping.convs[-1].weight, std=0.05)
    layer(x).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parameters())


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_the_unbiased_loss_of_the_golden_cases(case):
    rho = case["rho_plus"], case["rho_minus"]
    q = torch.full((2,), case["qhat"], dtype=torch.float64, requires_grad=True)
    loss = unbiased_loss(q, torch.tensor([1.0, -1.0], dtype=torch.float64), *rho)
    loss.sum().backward()
    wanted = [case["lt_plus"], case["lt_minus"], case["grad_plus"], case["grad_minus"]]
    assert [*loss.tolist(), *q.grad.tolist()] == pytest.approx(wanted, abs=1e-12)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=5), RHO, RHO)
@settings(deadline=None)
def test_the_mean_over_noise_is_the_clean_loss(outputs, plus, minus):
    """Enumerate every pattern of flips of a vector of labels, with its probability."""
    q = torch.tensor(outputs, dtype=torch.float64)
    true = torch.where(torch.arange(len(q)) % 2 == 0, 1.0, -1.0).double()
    flip = plus * (true > 0).double() + minus * (true < 0).double()
    mean = torch.zeros_like(q)
    for pattern in itertools.product([0.0, 1.0], repeat=len(q)):
        turned = torch.tensor(pattern, dtype=torch.float64)
        chance = (turned * flip + (1 - turned) * (1 - flip)).prod()
        mean += chance * unbiased_loss(q, true * (1 - 2 * turned), plus, minus)
    assert mean.tolist() == pytest.approx((q - true).square().tolist(), abs=1e-9)


@given(st.floats(-2, 2), RHO)
@settings(deadline=None)
def test_equal_rates_have_a_closed_form_and_its_gradient(output, rho):
    labels = torch.tensor([1.0, -1.0], dtype=torch.float64)
    q = torch.full((2,), output, dtype=torch.float64, requires_grad=True)
    loss = unbiased_loss(q, labels, rho, rho)
    assert loss.tolist() == pytest.approx(symmetric_loss(q, labels, rho).tolist(), abs=1e-6)
    loss.sum().backward()
    closed = 2 * (q.detach() - labels) - 4 * rho * labels / (1 - 2 * rho)
    assert q.grad.tolist() == pytest.approx(closed.tolist(), abs=1e-9)


def test_on_signs_noise_is_only_another_weight():
    """At outputs of +-1 the loss is 2 - 2 q y / (1 - 2 rho): rho acts on real outputs alone."""
    q, y = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert unbiased_loss(q, y, 0.2, 0.2).tolist() == pytest.approx((2 - 2 * q * y / 0.6).tolist())


@pytest.mark.parametrize("rho", [(0.5, 0.5), (-0.1, 0.2)])
def test_labels_that_say_nothing_are_refused(rho):
    with pytest.raises(ValueError, match="together below 1"):
        unbiased_loss(torch.zeros(1), torch.ones(1), *rho)
    with pytest.raises(ValueError, match=r"below \.5"):
        symmetric_loss(torch.zeros(1), torch.ones(1), max(rho) if rho[0] > 0 else 0.5)
