"""A budget of MACs for gates: what each image spent, held to a target from both sides.

    budget = Budget(costs=((0.0, 820.7), (0.0, 410.5)), alpha=0.5)
    loss = budget.loss(taken)       # taken: one (N, ways) of weights for every level

Source: DyFPN (arXiv:2012.00779); the form and its constants are those of the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from nasx.relax import expected_cost

PUBLISHED_BATCH = 2  # images over which the released loss is summed


@dataclass(frozen=True)
class Budget:
    """Costs of the ways by level, in any one unit, and the share `alpha` of their range to spend.

    `per` "image" holds every image to the target, as published; "batch" holds the mean over the
    batch, so that one image may spend what another saved.
    """

    costs: tuple[tuple[float, ...], ...]
    alpha: float
    strength: float = 1.0
    per: Literal["image", "batch"] = "image"

    @property
    def least(self) -> float:
        """Return what an image spends that takes the cheapest way everywhere."""
        return sum(min(level) for level in self.costs)

    @property
    def most(self) -> float:
        """Return what an image spends that takes the dearest way everywhere."""
        return sum(max(level) for level in self.costs)

    @property
    def target(self) -> float:
        """Return what an image should spend."""
        return self.least + self.alpha * (self.most - self.least)

    def spent(self, taken: Sequence[Tensor]) -> Tensor:
        """Return what each image spent (N,), from the weights of the ways (N, ways) by level."""
        each = [expected_cost(p, c) for p, c in zip(taken, self.costs, strict=True)]
        total: Tensor = sum(each[1:], each[0])
        return total

    def loss(self, taken: Sequence[Tensor]) -> Tensor:
        """Return strength x sum over images of ((spent - target) / (most - least))^2."""
        off = (self.spent(taken) - self.target) / (self.most - self.least)
        if self.per == "image":
            return self.strength * off.square().sum()
        return self.strength * len(off) * off.mean().square()

    def per_published_batch(self, taken: Sequence[Tensor]) -> Tensor:
        """Return the loss as a batch of two images would have it: the same at any batch size."""
        return self.loss(taken) * (PUBLISHED_BATCH / len(taken[0]))
