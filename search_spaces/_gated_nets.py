"""Networks around a neck with gates, and what their gates did on a task.

model = by_image(plan, neck)        # a detector: (N, 3, H, W) to (N, P, 4 + classes)
model.paths(inputs)                 # (N, levels): which way each image goes
model.widest()                      # a copy in which everything that may run does
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost.ops import count
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from nasx.tasks.base import Task
from search_spaces._budget import Budget
from search_spaces._detectors import Detector
from search_spaces._necks import Neck

SMALL = 4  # strides of the finest level: the side of what counts as small where no task says


class GatedDetector(Detector):
    """A detector whose neck chooses for every image."""

    neck: Neck

    @property
    def ways(self) -> tuple[int, ...]:
        """Return how many ways each gate has."""
        return self.neck.plan.ways

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Return the gates by the stride of their level."""
        return tuple(f"stride {self.head.strides[level]}" for level in self.neck.plan.gated)

    def paths(self, inputs: Tensor) -> Tensor:
        """Return the way of each image (N, C, H, W) at each gate: (N, gates) int64."""
        return self.neck.paths(self.backbone(inputs))

    def widest(self) -> nn.Module:
        """Return a copy in which everything that may run does."""
        return _widest(self)


class OnFeatures(nn.Module):
    """A neck alone: one map (N, C, H, W) for each level to one tuple of maps."""

    def __init__(self, neck: Neck) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return the neck's maps, fine to coarse."""
        return tuple(self.neck(features))


class GatedOnFeatures(OnFeatures):
    """A neck alone that chooses for every image."""

    @property
    def ways(self) -> tuple[int, ...]:
        """Return how many ways each gate has."""
        return self.neck.plan.ways

    def paths(self, *features: Tensor) -> Tensor:
        """Return the way of each image at each gate: (N, gates) int64."""
        return self.neck.paths(features)

    def widest(self) -> nn.Module:
        """Return a copy in which everything that may run does."""
        return _widest(self)


def _widest(model: Any) -> nn.Module:
    found: Any = copy.deepcopy(model)
    found.neck = found.neck.widest()
    return found  # type: ignore[no-any-return]


def features_of(shape: TaskShape) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Return the maps (C, H, W) of a shape of kind "features", and how many channels are wanted."""
    maps = shape.input
    if shape.kind != "features" or not isinstance(shape.outputs, int):
        raise SpaceError(f"a {shape.kind} task gives no features: a neck alone needs them")
    return tuple((c, height, width) for c, height, width in maps), shape.outputs


@torch.no_grad()
def gates_on(model: GatedDetector, task: Task, budget: Budget) -> dict[str, float]:
    """Return what the gates did on valid: rates and shares in percent, and one correlation.

    `open_stride_S` is the share of images that went another way than the cheapest; `spent` what
    was spent of the most that gates may spend; `neck_macs` the mean MACs of the whole neck beside
    those of the sum of all its convolutions everywhere (inception); `small_r` Pearson's correlation
    between the gate of the finest level (0 or 1) and the number of small objects, 0 where one of
    them never changes. Small are objects of the task's first size bin, else of at most 4 strides.
    """
    paths, small = [], []
    low = _small_area(task, model.head.strides)
    device = next(model.parameters()).device
    for batch in task.batches("valid", task.shape.input, 64):
        paths.append(model.paths(batch.inputs.to(device)).cpu())
        small.append(_small(batch.targets["boxes"], batch.targets["offsets"], low))
    way, few = torch.cat(paths), torch.cat(small)
    cheapest = torch.tensor([costs.index(min(costs)) for costs in budget.costs])
    opened = (way != cheapest).double()
    found = {
        f"open_{name.replace(' ', '_')}": 100 * float(rate)
        for name, rate in zip(model.gate_names, opened.mean(0), strict=True)
    }
    costs = zip(budget.costs, way.unbind(1), strict=True)
    spent = sum(float(torch.tensor(c, dtype=torch.float64)[w].mean()) for c, w in costs)
    found["spent"] = 100 * spent / budget.most
    maps = model.backbone(torch.zeros(1, *task.shape.input, device=device))
    mean = count(model.neck.widest(), maps).macs - budget.most + spent
    found["neck_macs"] = 100 * mean / _inception(model.neck, maps)
    found["small_r"] = _correlation(opened[:, 0], few)
    return found


def _inception(neck: Neck, maps: Sequence[Tensor]) -> int:
    """Return the MACs of the same neck with all its convolutions running, and no gate."""
    plan, total = neck.plan, 0
    for c_in, kernels, x in zip(plan.channels, plan.laterals, maps, strict=True):
        taps = sum(side**2 for side, _ in kernels)
        total += (c_in * taps + 9 * plan.out) * plan.out * x.shape[-2] * x.shape[-1]
    return total


def _small_area(task: Task, strides: Sequence[int]) -> float:
    bins = getattr(task, "bins", ())
    side = bins[0].high if bins else SMALL * strides[0]
    return float(side) ** 2


def _small(boxes: Tensor, offsets: Tensor, area: float) -> Tensor:
    """Return how many boxes (class, x0, y0, x1, y1) of each image are at most so large."""
    tiny = ((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2]) <= area).double()
    sums = torch.cat([tiny.new_zeros(1), tiny.cumsum(0)])
    return sums[offsets[1:]] - sums[offsets[:-1]]


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else 0.0
