"""Distillation: kernels, transforms that cannot vanish, hooks that go, and a teacher left alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nasx.errors import NasxError
from search_spaces._distill import Transform, imitation, listening, standardised
from search_spaces._layers.adder import AdderConv2d
from search_spaces._similarity import Heard, similarity

KERNELS = ("laplace", "gaussian", "cosine", "linear", "none")


def heard(layer: nn.Module, x: torch.Tensor) -> Heard:
    model = nn.Sequential(layer)
    with listening(model, ["0"]) as found:
        model(x)
    return found["0"]


def pair(seed: int = 0, channels: int = 3, filters: int = 5) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(seed)
    return (
        AdderConv2d(channels, filters, 3, padding=1),
        nn.Conv2d(channels, filters, 3, padding=1, bias=False),
    )


def patches(x: torch.Tensor) -> torch.Tensor:
    """Every 3x3 patch as a row: (N, C * 9, places)."""
    return functional.unfold(x, 3, padding=1)


# -- the kernels --------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["adder", "convolution"])
def test_kernels_are_what_their_formulas_say(which):
    layer, x = pair()[which], torch.randn(2, 3, 4, 4)
    found = heard(layer, x)
    rows, filters = patches(x).double(), layer.weight.detach().flatten(1).double()
    gap = rows[:, None] - filters[None, :, :, None]  # (N, O, taps, places)
    products = (rows[:, None] * filters[None, :, :, None]).sum(2)
    taps = filters.shape[1]
    norms = rows.norm(dim=1)[:, None] * filters.norm(dim=1)[None, :, None]
    wanted = {
        "laplace": torch.exp((-gap.abs().sum(2) if which == 0 else products) / taps),
        "gaussian": torch.exp(-gap.square().sum(2) / taps),
        "cosine": products / norms,
        "linear": products,
        "none": -gap.abs().sum(2) if which == 0 else products,
    }
    for kernel in KERNELS:
        value = similarity(found, kernel, "fan_in").flatten(2).double()
        torch.testing.assert_close(value, wanted[kernel], rtol=1e-4, atol=1e-4)


def test_the_sign_of_a_product_is_an_option_of_one_kernel():
    found = heard(pair()[1], torch.randn(1, 3, 4, 4))
    product = similarity(found, "laplace") * similarity(found, "laplace", sign=-1)
    assert torch.allclose(product, torch.ones_like(product), atol=1e-5)


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(1, 6),
    st.sampled_from(["l1", "exponential", "gaussian", "cosine", "linear"]),
)  # fmt: skip
def test_kernels_give_positive_semidefinite_gram_matrices(seed, points, taps, kernel):
    """What is called a kernel is an inner product: no negative eigenvalue on any set of points."""
    x = np.random.default_rng(seed).normal(size=(points, taps))
    gap, products = x[:, None] - x[None], x @ x.T
    norms = np.linalg.norm(x, axis=1)
    gram = {
        "l1": np.exp(-np.abs(gap).sum(2) / 2),
        "exponential": np.exp(products / 4),
        "gaussian": np.exp(-(gap**2).sum(2) / 2),
        "cosine": products / np.outer(norms, norms),
        "linear": products,
    }[kernel]
    values = np.linalg.eigvalsh(gram)
    assert values[0] >= -1e-9 * max(1.0, values[-1])


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 4.0))
def test_the_exponential_of_a_product_is_a_gaussian_up_to_norms(seed, s):
    """exp(x.f / s) = exp(-|x - f|^2 / 2s) exp(|x|^2 / 2s) exp(|f|^2 / 2s), and its power series."""
    x, f = np.random.default_rng(seed).normal(size=(2, 4))
    left = math.exp(x @ f / s)
    gaussian = math.exp(-((x - f) ** 2).sum() / (2 * s))
    assert left == pytest.approx(gaussian * math.exp(x @ x / (2 * s)) * math.exp(f @ f / (2 * s)))
    series = sum((x @ f) ** n / (s**n * math.factorial(n)) for n in range(120))
    assert left == pytest.approx(series, rel=1e-6)
    each = np.exp(-np.abs(x - f) / s)  # a product of kernels of one dimension
    assert np.prod(each) == pytest.approx(math.exp(-np.abs(x - f).sum() / s))


@pytest.mark.parametrize("sigma", ["channel", "layer", "fan_in"])
def test_the_scale_keeps_exponentials_from_vanishing(sigma):
    """Under a fixed 2s^2 of 1 a sum over 2,304 taps is 0 in floating point; under the rule not."""
    layer, x = AdderConv2d(256, 8, 3, padding=1), torch.randn(2, 256, 6, 6).relu()
    found = heard(layer, x)
    assert not found.output.exp().any()
    value = similarity(found, "laplace", sigma)
    assert value.min() > 0.05
    assert value.max() < 1
    assert similarity(found, "gaussian", sigma).min() > 0.01


def test_a_patch_of_zeros_has_finite_kernels_and_gradients():
    layer = pair()[1]
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    for kernel in KERNELS:
        total = similarity(heard(layer, x), kernel).sum()
        (slope,) = torch.autograd.grad(total, x)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_adder_takes_one_normalised_gradient_under_every_kernel(kernel):
    layer, x = pair()[0], torch.randn(4, 3, 5, 5)
    found = heard(layer, x)
    loss = standardised(similarity(found, kernel))[:, :, 0].square().sum() + found.output.sum()
    loss.backward()  # the layer itself raises if two gradients were added up
    assert layer.weight.grad.norm() == pytest.approx(
        0.2 * math.sqrt(layer.weight.numel()), rel=1e-4
    )


# -- transforms ---------------------------------------------------------------------------------


def test_whatever_is_learnt_a_transform_has_variance_one():
    torch.manual_seed(0)
    transform, x = Transform(6), torch.rand(64, 6, 3, 3)
    for scale in (1.0, 1e-6, 1e4):
        with torch.no_grad():
            transform.weight.mul_(scale)
        y = transform(x)
        assert torch.allclose(y.var((0, 2, 3), unbiased=False), torch.ones(6), atol=1e-2)


def test_the_trivial_solution_is_out_of_reach():
    """Two free transforms under a squared distance go to zero; ours stay at unrelated features."""
    torch.manual_seed(0)

    def learnt(ours: nn.Module, theirs: nn.Module) -> float:
        both = [*ours.parameters(), *theirs.parameters()]
        optimizer = torch.optim.SGD(both, 0.5, 0.9)
        for _ in range(60):
            a, c = torch.randn(2, 64, 3, 4, 4)
            loss = functional.mse_loss(ours(a), theirs(c))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    free = learnt(nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False))
    assert free < 1e-3
    assert learnt(Transform(3), Transform(3)) > 1.5  # 2 (1 - correlation) of what is unrelated


def test_a_transform_finds_what_two_sides_share():
    torch.manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(4, 4))[0][:, :, None, None]
    ours, theirs = Transform(4), Transform(4)
    optimizer = torch.optim.SGD([*ours.parameters(), *theirs.parameters()], 0.5, 0.9)
    for _ in range(100):
        a = torch.randn(32, 4, 4, 4)
        loss = functional.mse_loss(ours(a), theirs(functional.conv2d(a, mixing)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# -- listening and logits -----------------------------------------------------------------------


def test_listening_leaves_no_hook_behind():
    model = nn.Sequential(*pair())

    def hooks() -> int:
        return sum(len(m._forward_hooks) for m in model.modules())

    with listening(model[:1], ["0"]) as found:
        assert hooks() == 1
        y = model[0](torch.randn(2, 3, 4, 4))
    assert found["0"].output is y
    assert hooks() == 0
    with pytest.raises(NasxError, match="7 channels"), listening(model, ["0", "1"]):
        model(torch.randn(2, 7, 4, 4))
    assert hooks() == 0


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 8.0]))
def test_imitation_is_a_divergence_and_moves_no_teacher(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    teacher.requires_grad_()
    told = imitation(student.requires_grad_(), teacher, temperature)
    q, p = (functional.softmax(t / temperature, 1) for t in (teacher, student))
    wanted = temperature**2 * (q * (q.log() - p.log())).sum(1).mean()
    assert told.item() == pytest.approx(wanted.item(), abs=1e-12)
    assert told.item() >= 0
    assert imitation(teacher.detach(), teacher, temperature).item() == pytest.approx(0, abs=1e-12)
    told.backward()
    assert teacher.grad is None
    slope = temperature * (p - q).detach() / len(p)
    assert torch.allclose(student.grad, slope)
