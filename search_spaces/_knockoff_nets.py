"""A knockoff generator that is trained: deep knockoffs (arXiv:1811.06687), second order first.

The adversarial generator of the paper on pruning is left out: it was never released, and what was
released draws its images without looking at the real ones, which is no pair to swap within.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._knockoffs import Gaussian, drawn
from search_spaces._swap_units import Units

STEPS = 200
BATCH = 200
RATE = 1e-3
BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, in mean squared distances
DECORRELATE = 10.0  # how much the distance from the image counts


class Learnt(Gaussian):
    """Second-order knockoffs moved by a small network that is trained on the swap condition.

    The network sees the image's units and noise. Its loss: the MMD between (X, Xk) and (Xk, X)
    and between (X, Xk) and a random swap, the first and second moments, and the correlation of
    each unit with its copy, wanted at 1 - s.
    """

    def __init__(self, units: Units) -> None:
        super().__init__(units)
        size = units.groups * units.size
        wide = min(256, max(64, 2 * size))
        last = nn.Linear(wide, size)
        nn.init.zeros_(last.weight)  # at first the second-order solution
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(2 * size, wide), nn.PReLU(), nn.Linear(wide, wide), nn.PReLU(), last
        )
        self.requires_grad_(False)

    def fit(self, images: Tensor, generator: torch.Generator) -> None:
        """Fit the second order, then train the network on batches of the images' units."""
        super().fit(images, generator)
        vectors = self.units.split(images)
        self.requires_grad_(True)
        optimizer = torch.optim.Adam(self.net.parameters(), RATE)
        with torch.enable_grad():
            for _ in range(STEPS):
                order = torch.randperm(len(vectors), generator=generator, device=generator.device)
                some = vectors[order[: BATCH // 2 * 2].to(vectors.device)]
                loss = self._loss(some, generator)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        self.requires_grad_(False)

    def copies(self, vectors: Tensor, noise: Tensor) -> Tensor:
        """Return copies of vectors (N, G, p) from standard normal noise of that shape."""
        scaled = (vectors - self.mean) / self.scale.clamp_min(1e-6)
        scaled = torch.where(self.scale > 0, scaled, torch.zeros_like(scaled))
        moved: Tensor = self.net(torch.cat([scaled.flatten(1), noise.flatten(1)], 1))
        return super().copies(vectors, noise) + self.scale * moved.reshape(vectors.shape)

    def _loss(self, vectors: Tensor, generator: torch.Generator) -> Tensor:
        alive = self.scale.flatten() > 0
        copies = self.copies(vectors, drawn(vectors, generator))
        x, k = (
            ((v - self.mean) / self.scale.clamp_min(1e-6)).flatten(1)[:, alive]
            for v in (vectors, copies)
        )
        half = len(x) // 2
        first, back = torch.cat([x, k], 1)[:half], torch.cat([k, x], 1)[half:]
        swaps = torch.rand(x[half:].shape, generator=generator, device=generator.device)
        swap = (swaps < 0.5).to(x.device)
        left, right = torch.where(swap, k[half:], x[half:]), torch.where(swap, x[half:], k[half:])
        apart = mmd(first, back) + mmd(first, torch.cat([left, right], 1))
        s = self.away.repeat_interleave(self.units.size)[alive]
        too_close: Tensor = (_tied(x, k) - (1 - s)).square().mean()
        return apart + _moments(x, k) + DECORRELATE * too_close


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of samples (N, p) and (M, p), unbiased.

    A mixture of Gaussian kernels; their widths go with the mean squared distance.
    """
    both = torch.cat([a, b])
    distances = torch.cdist(both, both).square()
    scale = distances.detach().mean()
    kernel = sum(torch.exp(-distances / (w * scale)) for w in BANDWIDTHS)
    assert isinstance(kernel, Tensor)
    n, m = len(a), len(b)
    aa, bb, ab = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:]
    within = (aa.sum() - aa.diagonal().sum()) / (n * (n - 1))
    within = within + (bb.sum() - bb.diagonal().sum()) / (m * (m - 1))
    return within - 2 * ab.mean()


def _moments(x: Tensor, k: Tensor) -> Tensor:
    """Return how far means and covariances are from those of a knockoff."""
    a, b = x - x.mean(0), k - k.mean(0)
    own, copied, across = (u.T @ v / len(x) for u, v in ((a, a), (b, b), (a, b)))
    off = 1 - torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    apart = (own - copied).square().sum() + (off * (own - across)).square().sum()
    return (x.mean(0) - k.mean(0)).square().sum() / x.shape[1] + apart / own.square().sum()


def _tied(x: Tensor, k: Tensor) -> Tensor:
    """Return the correlation of every unit with its copy."""
    a, b = x - x.mean(0), k - k.mean(0)
    return (a * b).mean(0) / (a.square().mean(0) * b.square().mean(0)).sqrt().clamp_min(1e-6)
