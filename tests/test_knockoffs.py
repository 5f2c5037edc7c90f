"""Knockoffs: what their covariances must be, and whether they can be told from the images."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx import registry
from search_spaces import _knockoff_nets
from search_spaces._exchange import LEVEL, exchange
from search_spaces._knockoff_nets import Learnt, mmd
from search_spaces._knockoffs import SHRINK, Gaussian, Permuted
from search_spaces._pruning import knockoffs
from search_spaces._swap_units import Coefficients, Patches, Pixels, units_of


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Training images to fit, and others to test on."""
    task = registry.task("digits")
    batches = task.batches("train", task.shape.input, 256, seeded(1))
    images = torch.cat([batch.inputs for batch in batches])
    return images[128:], images[:128]


def drawn(count: int, correlation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    root = torch.linalg.cholesky(correlation)
    noise = torch.randn(count, len(root), generator=generator, dtype=root.dtype)
    return noise @ root.T


def test_second_order_knockoffs_have_the_covariances_that_they_promise():
    """Cov(Xk) = S and Cov(X, Xk) = S - D, within 5 standard errors of 40,000 draws."""
    generator, count = seeded(), 40_000
    mixed = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    made = Gaussian(Pixels((1, 3, 3)))
    images = drawn(500, mixed @ mixed.T + 3 * torch.eye(9), generator)
    made.fit(images.reshape(-1, 1, 3, 3), generator)
    covariance = torch.cov(images.T)
    deviation = covariance.diagonal().sqrt()
    covariance = (1 - SHRINK) * covariance + SHRINK * torch.diag(deviation**2)
    d = made.away[0].double() * deviation**2
    x = drawn(count, covariance, generator).float() + made.mean[0]
    copies = made(x.reshape(-1, 1, 3, 3), generator).flatten(1)
    assert 0.01 < float(made.away[0]) < 1
    scale = deviation * deviation[:, None] * math.sqrt(2 / count)
    both = torch.cov(torch.cat([x, copies], 1).double().T)
    assert ((both[9:, 9:] - covariance).abs() < 5 * scale).all()
    assert ((both[:9, 9:] - (covariance - torch.diag(d))).abs() < 5 * scale).all()
    assert torch.allclose(copies.mean(0), x.mean(0), atol=5 * float(deviation.max()) / 200)


def test_pixels_that_hardly_vary_are_copied(digits):
    fitted, others = digits
    made = knockoffs("gaussian2", (1, 8, 8), len(fitted), "patches")
    made.fit(fitted, seeded())
    dead = made.scale[0] == 0
    assert 5 < int(dead.sum()) < 20  # the borders of the digits
    copies = made(others, seeded())
    assert torch.equal(copies.flatten(1)[:, dead], others.flatten(1)[:, dead])
    assert not torch.equal(copies, others)


def test_permuted_batches_fail_the_swap_test_and_second_order_knockoffs_pass(digits):
    fitted, others = digits
    permuted = knockoffs("permute", (1, 8, 8), len(fitted), "patches")
    gaussian = knockoffs("gaussian2", (1, 8, 8), len(fitted), "patches")
    for seed in range(3):
        for made, holds in ((permuted, False), (gaussian, True)):
            made.fit(fitted, seeded(seed))
            found = made.tested(others, seeded(seed))
            assert found.holds == holds, (made, found)
            assert found.samples == len(others)
    assert permuted.tested(others, seeded()).statistic > 1.3


def test_permuting_keeps_every_image(digits):
    _, others = digits
    copies = Permuted(Pixels((1, 8, 8)))(others, seeded())
    assert sorted(map(tuple, copies.flatten(1).tolist())) == sorted(
        map(tuple, others.flatten(1).tolist())
    )
    assert not torch.equal(copies, others)


def test_the_swap_test_raises_few_false_alarms_and_sees_what_is_wrong():
    """Pairs that are exchangeable, of heavy tails, are refused as often as the level says."""
    generator = seeded()
    p = []
    for _ in range(60):
        shared = torch.randn(150, 6, generator=generator) ** 3
        x, copy = (shared + torch.randn(150, 6, generator=generator) for _ in range(2))
        p.append(exchange(x, copy, generator).p)
    assert sum(value <= 0.1 for value in p) <= 14  # 6 wanted; more than 14 once in 1,000
    assert exchange(x, x + 1.0, generator).p < LEVEL  # another mean
    assert exchange(x, x.clone(), generator).holds


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(5, 33), st.integers(5, 33), st.booleans())
def test_units_put_images_together_again(channels, height, width, patches):
    shape, generator = (channels, height, width), seeded()
    images = torch.randn(40, *shape, generator=generator)
    units = units_of(shape, len(images), "patches" if patches else "pca")
    units.fit(images)
    vectors = units.split(images)
    assert vectors.shape == (40, units.groups, units.size)
    assert units.size <= 256
    exact = math.prod(shape) <= 256
    assert isinstance(units, Pixels if exact else Patches if patches else Coefficients)
    assert torch.allclose(units.join(vectors, images), images, atol=1e-4)
    moved = units.join(vectors + 1.0, images)
    assert torch.allclose(units.split(moved), vectors + 1.0, atol=1e-3) or patches
    assert not torch.allclose(moved, images)


@pytest.mark.parametrize(
    ("large", "name"), [("patches", "patch_pixels"), ("pca", "pca_coefficients")]
)
def test_large_images_are_copied_in_parts(large, name):
    generator = seeded()
    smooth = torch.nn.functional.avg_pool2d(torch.randn(600, 3, 24, 24, generator=generator), 5, 1)
    made = knockoffs("gaussian2", (3, 20, 20), 450, large)
    made.fit(smooth[150:], generator)
    assert made.units.name == name
    assert made.tested(smooth[:150], generator).holds
    # Other images: on patches they fail too; PCA coefficients are not correlated to begin with.
    permuted = knockoffs("permute", (3, 20, 20), 450, large)
    permuted.fit(smooth[150:], generator)
    assert permuted.units.name == "patch_pixels"
    assert not permuted.tested(smooth[:150], generator).holds


def test_a_trained_generator_starts_from_the_second_order_and_keeps_the_condition(
    digits, monkeypatch
):
    fitted, others = digits
    monkeypatch.setattr(_knockoff_nets, "STEPS", 0)
    torch.manual_seed(0)
    made, second = Learnt(Pixels((1, 8, 8))), Gaussian(Pixels((1, 8, 8)))
    made.fit(fitted, seeded())
    second.fit(fitted, seeded())
    assert torch.equal(made(others, seeded(3)), second(others, seeded(3)))
    monkeypatch.setattr(_knockoff_nets, "STEPS", 40)
    made.fit(fitted, seeded())
    assert not torch.equal(made(others, seeded(3)), second(others, seeded(3)))
    assert made.tested(others, seeded(3)).holds
    assert not [p for p in made.parameters() if p.requires_grad]


def test_mmd_of_two_laws():
    a, b = torch.zeros(2, 1), torch.tensor([[1.0], [1.0]])
    # Distances: 0 within, 1 across; their mean over all 16 pairs is 1 / 2.
    across = sum(math.exp(-1 / (w * 0.5)) for w in _knockoff_nets.BANDWIDTHS)
    assert float(mmd(a, b)) == pytest.approx(2 * len(_knockoff_nets.BANDWIDTHS) - 2 * across)
    x = torch.randn(300, 3, generator=seeded())
    assert abs(float(mmd(x[:150], x[150:]))) < 0.02
