"""Knockoffs of images: copies that look like the real ones and were made without the labels.

    knockoffs = Gaussian(units_of(shape, samples, "pca"))
    knockoffs.fit(images)
    copies = knockoffs(batch, generator)

What a copy must satisfy (arXiv:1610.02351): any of its coordinates can be swapped with the image's
own and the law of the pair stays. `search_spaces/_exchange.py` tests it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._exchange import FLAT, Exchange, exchange
from search_spaces._swap_units import Units

SHRINK = 0.03  # of the correlations: what few images say of them is uncertain
SHY = 0.99  # of the largest admissible distance from the image


class Knockoffs(nn.Module):
    """Images (N, C, H, W) to copies of the same shape; the random numbers are the generator's."""

    units: Units

    def fit(self, images: Tensor, generator: torch.Generator) -> None:
        """Learn from training images (N, C, H, W) what copies need."""

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return copies of images."""
        raise NotImplementedError

    @torch.no_grad()
    def tested(self, images: Tensor, generator: torch.Generator) -> Exchange:
        """Return whether images that were not fitted and their copies are exchangeable.

        Tested in the units that are swapped; of patches, on the group that varies most.
        """
        own, copies = self.units.split(images), self.units.split(self(images, generator))
        most = int(own.var(0).sum(-1).argmax())
        coins = torch.Generator().manual_seed(
            int(torch.randint(2**31, (), generator=generator, device=generator.device))
        )
        return exchange(own[:, most], copies[:, most], coins)


class Permuted(Knockoffs):
    """Other images of the same batch (golden-stick's choice): right one by one, not as a pair."""

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units = units

    def fit(self, images: Tensor, generator: torch.Generator) -> None:
        """Fit the units alone, which the test needs."""
        self.units.fit(images)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the batch in a random order."""
        order = torch.randperm(len(images), generator=generator, device=generator.device)
        return images[order.to(images.device)]


class Gaussian(Knockoffs):
    """Second-order knockoffs: exchangeable in mean and covariance, whatever the law of the images.

    With mean m and covariance S of a group, D = s diag(S) and s as large as 2 S - D allows:
    Xk = X - (X - m) S^-1 D + noise of covariance 2 D - D S^-1 D (arXiv:1610.02351, section 3.4.2).
    Then Cov(Xk) = S and Cov(X, Xk) = S - D. Units that hardly vary are copied as they are.
    """

    mean: Tensor  # (G, p)
    pull: Tensor  # (G, p, p), S^-1 D
    root: Tensor  # (G, p, p), root^T root is the covariance of the noise
    away: Tensor  # (G), s: how far copies may be from their image, in 0 to 1
    scale: Tensor  # (G, p), deviations; 0 where a unit is copied as it is

    def __init__(self, units: Units) -> None:
        super().__init__()
        self.units = units
        groups, size = units.groups, units.size
        self.register_buffer("mean", torch.zeros(groups, size))
        self.register_buffer("pull", torch.zeros(groups, size, size))
        self.register_buffer("root", torch.zeros(groups, size, size))
        self.register_buffer("away", torch.zeros(groups))
        self.register_buffer("scale", torch.zeros(groups, size))

    def fit(self, images: Tensor, generator: torch.Generator) -> None:
        """Take mean and covariance of every group from training images."""
        self.units.fit(images)
        vectors = self.units.split(images).double()
        self.mean.copy_(vectors.mean(0))
        for group in range(self.units.groups):
            self._take(group, torch.cov(vectors[:, group].T).reshape([self.units.size] * 2))

    def _take(self, group: int, covariance: Tensor) -> None:
        """Work out one group from its covariance (p, p), double precision."""
        variance = covariance.diagonal()
        varies = variance > FLAT * variance.mean()
        deviation = torch.where(varies, variance, torch.zeros_like(variance)).sqrt()
        over = torch.where(varies, 1 / deviation, torch.zeros_like(deviation))
        correlation = (1 - SHRINK) * covariance * over * over[:, None]
        correlation.diagonal().fill_(1.0)
        least = torch.linalg.eigvalsh(correlation)[0].clamp_min(0)
        s = SHY * torch.minimum(2 * least, torch.ones_like(least))
        inverse = torch.linalg.inv(correlation)
        noise = 2 * s * torch.eye(len(variance), dtype=s.dtype, device=s.device) - s**2 * inverse
        values, vectors = torch.linalg.eigh(noise)
        root = values.clamp_min(0).sqrt()[:, None] * vectors.T
        # Of scaled vectors z the copy is z - s z C^-1 + noise; scaled back, dead units have none.
        self.pull[group].copy_(s * over[:, None] * inverse * deviation)
        self.root[group].copy_(root * deviation)
        self.away[group].copy_(s)
        self.scale[group].copy_(deviation)

    def copies(self, vectors: Tensor, noise: Tensor) -> Tensor:
        """Return copies of vectors (N, G, p) from standard normal noise of that shape."""
        pulled = torch.einsum("ngp,gpq->ngq", vectors - self.mean, self.pull)
        return vectors - pulled + torch.einsum("ngp,gpq->ngq", noise, self.root)

    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return copies of images."""
        vectors = self.units.split(images)
        return self.units.join(self.copies(vectors, drawn(vectors, generator)), images)


def drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal numbers shaped like `like`."""
    numbers = torch.randn(like.shape, generator=generator, device=generator.device)
    return numbers.to(like.device, like.dtype)
