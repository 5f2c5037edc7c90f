"""A space of mobile networks: depthwise convolutions, squeeze-excitation, residuals, SiLU."""

from __future__ import annotations

from torch import nn

from nasx.shape import TaskShape
from nasx.space import Space, integer
from search_spaces._backbones import Plan, Stage, network


class Mobile(Space):
    """Every block kind of the shared backbones in one small network."""

    name = "mobile"
    cautions = ("It is made for tests.",)
    width: int = integer(8, 16, step=4, default=8)

    def build(self, shape: TaskShape) -> nn.Module:
        stages = (Stage(8, 1, kind="conv"), Stage(self.width, 2, expand=3, squeeze=0.25))
        channels, classes = shape.input[0], shape.classes
        return network(Plan(channels, 8, stages, 16, classes, activation="silu", dropout=0.1))
