"""Whether knockoffs can be told from what they copy: an exact test of the swap condition.

(X, Xk) is exchangeable if swapping any set of coordinates between the two leaves its law as it is
(arXiv:1610.02351, definition 3.1). Then it changes nothing to swap a sample's set or not by the
toss of a coin: tosses give the law of any statistic, whatever the law of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.01  # p below which the condition is said not to hold
TOSSES = 399
SAMPLES = 1000  # compared, at most
FIRST = 0.1  # weight of the means beside the products, which say more of a pair
FLAT = 0.02  # of the mean variance: a coordinate below varies too little to be told of


@dataclass(frozen=True)
class Exchange:
    """What the test found: `statistic` relative to its mean under the condition, and p.

    A statistic of about 1 is what exchangeable pairs give. `holds` says that `samples` pairs did
    not refute the condition: more of them might.
    """

    statistic: float
    p: float
    samples: int

    @property
    def holds(self) -> bool:
        """Return whether the condition was not refuted."""
        return self.p >= LEVEL


def exchange(x: Tensor, copy: Tensor, generator: torch.Generator) -> Exchange:
    """Test whether x and copy, both (N, p), are exchangeable in first and second moments.

    The statistic is the squared distance between the moments of the pairs as they are and those
    of the pairs with a random half of the coordinates swapped, another half for every sample. The
    coordinates are scaled by x's deviation; those that hardly vary are left out.
    """
    x, copy = x[:SAMPLES].double().cpu(), copy[:SAMPLES].double().cpu()
    variance = x.var(0)
    varies = variance > FLAT * variance.mean()
    if len(x) < 2 or not varies.any() or torch.equal(x, copy):  # a copy of itself is exchangeable
        return Exchange(1.0, 1.0, len(x))
    x, copy = ((v[:, varies] - x[:, varies].mean(0)) / variance[varies].sqrt() for v in (x, copy))
    swaps = torch.rand(x.shape, generator=generator) < 0.5
    pair = torch.cat([x, copy], 1)
    swapped = torch.cat([torch.where(swaps, copy, x), torch.where(swaps, x, copy)], 1)
    across = _moments(pair, swapped)
    kernel = _moments(pair, pair) - across - across.T + _moments(swapped, swapped)
    tosses = torch.rand(TOSSES, len(x), generator=generator).round().double() * 2 - 1
    by_chance = ((tosses @ kernel) * tosses).sum(1)
    observed = kernel.sum()
    p = (1 + int((by_chance >= observed).sum())) / (1 + TOSSES)
    return Exchange(float(observed / by_chance.mean()), p, len(x))


def _moments(a: Tensor, b: Tensor) -> Tensor:
    """Return (N, N): inner products of the first and the second moments of pairs (N, 2p)."""
    products = a @ b.T / a.shape[1]
    return FIRST * products + products**2
