"""Feature pyramids: laterals of one or several convolutions, some of them behind a gate.

    neck = Neck(NeckPlan(channels=(256, 512), out=256, laterals=(BRANCHES,) * 2, way="skip"), gate)
    maps = neck(features)           # fine to coarse, as many and as large, each of 256 channels

Laterals are followed by the pyramid (coarser maps enlarged by the nearest pixel and added) and a
3 x 3 convolution for each level. Convolutions have a bias, and neither norm nor activation.
Sources: FPN (arXiv:1612.03144), inception laterals and gates DyFPN (arXiv:2012.00779).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.relax import decide, weights
from search_spaces._gates import Gate
from search_spaces._layers.gated import gated, one_of

Kernel = tuple[int, int]  # side, dilation
Way = Literal["all", "choose", "skip"]
BRANCHES: tuple[Kernel, ...] = ((1, 1), (3, 1), (3, 2), (3, 3), (5, 1), (5, 2), (5, 3))


@dataclass(frozen=True)
class NeckPlan:
    """Channels of the maps that come in, fine to coarse, and the convolutions of each lateral.

    `way` "all" sums a level's convolutions; "choose" (structure A) runs one of them, "skip"
    (structure B) none or all beside a 1 x 1 that always runs.
    """

    channels: tuple[int, ...]
    out: int
    laterals: tuple[tuple[Kernel, ...], ...]
    way: Way = "all"

    @property
    def gated(self) -> tuple[int, ...]:
        """Return the levels that have a choice."""
        if self.way == "skip":
            return tuple(range(len(self.laterals)))
        several = [i for i, kernels in enumerate(self.laterals) if len(kernels) > 1]
        return tuple(several) if self.way == "choose" else ()

    @property
    def ways(self) -> tuple[int, ...]:
        """Return how many ways each of these levels has."""
        return tuple(2 if self.way == "skip" else len(self.laterals[i]) for i in self.gated)

    def costs(self, areas: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Return MACs of the ways of each gated level; `areas` are places (H W) of all levels."""
        found = []
        for level in self.gated:
            unit = self.channels[level] * self.out * areas[level]
            each = tuple(float(unit * side**2) for side, _ in self.laterals[level])
            found.append((0.0, sum(each)) if self.way == "skip" else each)
        return tuple(found)


class Sum(nn.Module):
    """Parallel convolutions of one map, added."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[Kernel]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_conv(c_in, c_out, kernel) for kernel in kernels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        first, *rest = self.branches
        total: Tensor = first(x)
        for branch in rest:
            total = total + branch(x)
        return total


class SkipOrAll(nn.Module):
    """A 1 x 1 that always runs, and a sum of convolutions that runs where its gate is open."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[Kernel]) -> None:
        super().__init__()
        self.skip = _conv(c_in, c_out, (1, 1))
        self.run = Sum(c_in, c_out, kernels)

    def forward(self, x: Tensor, taken: Tensor | None) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W); `taken` (N, 2), None: all run."""
        return gated(x, None if taken is None else taken[:, 1], self.run, self.skip(x))


class OneOf(nn.Module):
    """Convolutions of which every image runs one."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[Kernel]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_conv(c_in, c_out, kernel) for kernel in kernels)
        self.dearest = max(range(len(kernels)), key=lambda i: kernels[i][0])
        self.c_out = c_out

    def forward(self, x: Tensor, taken: Tensor | None) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W); `taken` (N, ways), None: the dearest runs."""
        way = self.dearest if taken is None else taken
        return one_of(x, way, self.branches, self.c_out)


def _conv(c_in: int, c_out: int, kernel: Kernel) -> nn.Conv2d:
    side, dilation = kernel
    layer = nn.Conv2d(c_in, c_out, side, padding=side // 2 * dilation, dilation=dilation)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class Neck(nn.Module):
    """A feature pyramid from a plan; `gate` chooses where the plan has a choice.

    In training every branch runs, multiplied by its weight: one-hot, with the gradient of the soft
    weights, so that what a closed branch would have done reaches the gate (the released code leaves
    the product out, and its gates see the budget alone). Noise is drawn only while `watched`. In
    evaluation the winner is taken, and what an image does not need is not run.
    """

    def __init__(self, plan: NeckPlan, gate: Gate | None = None) -> None:
        super().__init__()
        self.plan, self.gate = plan, gate
        lateral = {"all": Sum, "choose": OneOf, "skip": SkipOrAll}
        self.laterals = nn.ModuleList(
            (lateral[plan.way] if level in plan.gated else Sum)(c_in, plan.out, kernels)
            for level, (c_in, kernels) in enumerate(zip(plan.channels, plan.laterals, strict=True))
        )
        self.outputs = nn.ModuleList(_conv(plan.out, plan.out, (3, 1)) for _ in plan.channels)
        self.all_run = False
        self._generator: torch.Generator | None = None
        self._noise = 0.0
        self._kept: list[Tensor] = []

    @contextmanager
    def watched(self, generator: torch.Generator, noise: float = 1.0) -> Iterator[list[Tensor]]:
        """Draw `noise` times Gumbel noise from `generator`, and give what is taken, in the body.

        That is a list of weights (N, ways) by level, empty until a forward pass in training.
        """
        self._generator, self._noise, self._kept = generator, noise, []
        try:
            yield self._kept
        finally:
            self._generator, self._noise, self._kept = None, 0.0, []

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map per level: (N, C_i, H_i, W_i) to (N, out, H_i, W_i)."""
        taken = dict(zip(self.plan.gated, self._taken(features), strict=True))
        maps: list[Tensor] = [
            layer(x, taken[level]) if level in taken else layer(x)
            for level, (layer, x) in enumerate(zip(self.laterals, features, strict=True))
        ]
        for level in reversed(range(len(maps) - 1)):
            above, here = maps[level + 1], maps[level]
            maps[level] = here + F.interpolate(above, size=here.shape[-2:], mode="nearest")
        return [layer(x) for layer, x in zip(self.outputs, maps, strict=True)]

    def _taken(self, features: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Return the weight of every way (N, ways) at each level with a choice."""
        if self.gate is None:
            return [None] * len(self.plan.gated)
        logits = self._logits(features)
        if self.all_run:
            return [None] * len(logits)
        if not self.training:
            return [F.one_hot(decide(x), x.shape[-1]).to(x.dtype) for x in logits]
        found = [
            weights(x, "straight_through", noise=self._noise, generator=self._generator)
            for x in logits
        ]
        if self._generator is not None:
            self._kept[:] = found
        # Drawn ways have no gradient; they ask for one, so that every branch runs for them, too.
        return [p if p.requires_grad else p.requires_grad_() for p in found]

    def _logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        assert self.gate is not None
        # Detached, so that the budget cannot bend the backbone to what gates can tell apart.
        seen = [features[level].detach() for level in self.plan.gated]
        found: list[Tensor] = self.gate(seen)
        return found

    def paths(self, features: Sequence[Tensor]) -> Tensor:
        """Return the way that each image takes at each level with a choice: (N, levels) int64."""
        return torch.stack([decide(x) for x in self._logits(features)], 1)

    def widest(self) -> Neck:
        """Return a copy in which everything that may run does: of several ways, the dearest."""
        found = copy.deepcopy(self)
        found.all_run = True
        return found
