"""A space whose stages are cut from a whole network, each at any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Self

from torch import nn

from nasx.recipe import Phase, Recipe, Step, adamw
from nasx.shape import TaskShape
from nasx.space import Part, Space, each, integer

MOST = 48


class Cut(Space):
    """Two stages of one convolution each, 4 to 48 channels; the whole network has 48 in both."""

    name: ClassVar[str] = "cut"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    width: tuple[int, ...] = each(2, integer(4, MOST, default=20))

    def build(self, shape: TaskShape) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise((shape.input[0], *self.width)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width[-1], shape.classes)]
        return nn.Sequential(*layers)

    def recipe(self, shape: TaskShape) -> Recipe:
        return Recipe((Phase("train", 1.0, (Step(optimizer=adamw(1e-2)),)),), batch=32)

    def parts(self, shape: TaskShape) -> dict[str, Part]:
        return {f"stage {i}": Part(w, range(4, MOST + 1)) for i, w in enumerate(self.width)}

    def resized(self, widths: Mapping[str, int], shape: TaskShape) -> Self:
        new = tuple(widths.get(f"stage {i}", w) for i, w in enumerate(self.width))
        return replace(self, width=new)

    def whole(self, shape: TaskShape) -> Self | None:
        return replace(self, width=(MOST,) * len(self.width))
