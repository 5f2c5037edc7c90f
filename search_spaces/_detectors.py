"""Small dense detectors: a backbone, a neck to be filled in, and one head for all levels.

    plan = DetectPlan(classes=10, strides=(4, 8, 16))
    model = detector(plan, neck)        # (N, 3, H, W) to (N, P, 4 + classes)

A neck takes the features of the plan's strides, fine to coarse, with `plan.widths` channels, and
gives as many of the same sizes with `plan.out` channels. After FCOS (arXiv:1904.01355), without
its centre-ness; the head's convolutions are shared between levels, their BatchNorms are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.errors import SpaceError
from nasx.shape import Boxes, TaskShape

CHANCE = 0.01  # of a class at a point, as an untrained network answers (1708.02002, section 4.1)


@dataclass(frozen=True)
class DetectPlan:
    """A detector without its neck.

    The backbone halves the side once for each of `widths`; its last stages, as many as there are
    strides, feed the neck. `depth` counts the convolutions of a stage behind the one that halves,
    `out` the neck's channels, `tower` the head's convolutions before its answers.
    """

    classes: int
    strides: tuple[int, ...]
    inputs: int = 3
    widths: tuple[int, ...] = (16, 24, 32, 48)
    depth: int = 1
    out: int = 32
    tower: int = 1

    @property
    def features(self) -> tuple[int, ...]:
        """Return the channels that the neck is given, fine to coarse."""
        return self.widths[-len(self.strides) :]


def micro_plan(
    shape: TaskShape, widths: tuple[int, ...] = (16, 24, 32, 48), depth: int = 1,
    out: int = 32, tower: int = 1,
) -> DetectPlan:  # fmt: skip
    """Return the plan of a small detector for a task; SpaceError where the task has no boxes."""
    boxes = shape.outputs
    if not isinstance(boxes, Boxes):
        raise SpaceError(f"a {shape.kind} task has no boxes: take a detect task")
    return DetectPlan(boxes.classes, boxes.strides, shape.input[0], widths, depth, out, tower)


def unit(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()
    )


class Backbone(nn.Module):
    """Stages of plain convolutions; gives the features of the last `levels` stages."""

    def __init__(self, inputs: int, widths: tuple[int, ...], depth: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.stages = nn.ModuleList()
        for i, width in enumerate(widths):
            before = widths[i - 1] if i else inputs
            more = [unit(width, width) for _ in range(depth if i else 0)]  # the stem is one layer
            self.stages.append(nn.Sequential(unit(before, width, 2), *more))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return features, fine to coarse."""
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found[-self.levels :]


class Head(nn.Module):
    """The same convolutions on every level: distances in pixels, class logits."""

    def __init__(self, plan: DetectPlan) -> None:
        super().__init__()
        out, levels = plan.out, len(plan.strides)
        self.strides = plan.strides
        self.tower = nn.ModuleList(
            nn.Conv2d(out, out, 3, padding=1, bias=False) for _ in range(plan.tower)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(out) for _ in range(plan.tower * levels))
        self.sides = nn.Conv2d(out, 4, 3, padding=1)
        self.classes = nn.Conv2d(out, plan.classes, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(levels))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return (N, P, 4 + classes), level after level, by rows."""
        found = []
        for level, (x, stride) in enumerate(zip(features, self.strides, strict=True)):
            for i, conv in enumerate(self.tower):
                x = functional.relu(self.norms[i * len(self.strides) + level](conv(x)))
            sides = functional.softplus(self.sides(x) * self.scales[level]) * stride
            both = torch.cat([sides, self.classes(x)], 1)
            found.append(both.flatten(2).transpose(1, 2))
        return torch.cat(found, 1)


class Detector(nn.Module):
    """Backbone, neck and head: (N, inputs, H, W) to (N, P, 4 + classes)."""

    def __init__(self, plan: DetectPlan, neck: nn.Module) -> None:
        super().__init__()
        self.backbone = Backbone(plan.inputs, plan.widths, plan.depth, len(plan.strides))
        self.neck = neck
        self.head = Head(plan)

    def forward(self, x: Tensor) -> Tensor:
        """Return distances and class logits at every point."""
        found: Tensor = self.head(self.neck(self.backbone(x)))
        return found


def detector(plan: DetectPlan, neck: nn.Module, kind: type[Detector] = Detector) -> Detector:
    """Return an untrained detector of a kind around a neck, which keeps its own start.

    SpaceError where the backbone's strides are not the plan's.
    """
    stages, levels = len(plan.widths), len(plan.strides)
    made = tuple(2 ** (stages - levels + 1 + i) for i in range(levels))
    if levels > stages or made != plan.strides:
        raise SpaceError(
            f"{stages} stages of widths {plan.widths} end in strides {made}, the task has "
            f"{plan.strides}: give one width for each halving"
        )
    model = kind(plan, neck)
    for part in (model.backbone, model.head):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    head = model.head
    # softplus(1) is 1.3 strides; chances start low, or the background would drown all else.
    for layer, bias in ((head.sides, 1.0), (head.classes, -math.log((1 - CHANCE) / CHANCE))):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.constant_(cast(Tensor, layer.bias), bias)
    return model


class Pyramid(nn.Module):
    """The plain feature pyramid (arXiv:1612.03144): 1x1 laterals, top-down sums, 3x3 outputs."""

    def __init__(self, plan: DetectPlan) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, plan.out, 1) for c in plan.features)
        self.outputs = nn.ModuleList(
            nn.Conv2d(plan.out, plan.out, 3, padding=1) for _ in plan.features
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return as many features of `out` channels."""
        found = [lateral(x) for lateral, x in zip(self.laterals, features, strict=True)]
        for i in range(len(found) - 2, -1, -1):
            size = found[i].shape[-2:]
            found[i] = found[i] + functional.interpolate(found[i + 1], size=size, mode="nearest")
        return [output(x) for output, x in zip(self.outputs, found, strict=True)]
