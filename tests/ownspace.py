"""A space whose networks may hold operators of our own."""

from __future__ import annotations

from torch import nn

from nasx.shape import TaskShape
from nasx.space import Space, choice
from ownlayers import two_of_ours


class Either(Space):
    """Layers of ours, or a plain convolution, for digits of 8 x 8."""

    name = "either"
    tasks = ("classify",)
    kind: str = choice("conv", "ours", default="conv")

    def build(self, shape: TaskShape) -> nn.Module:
        if self.kind == "ours":
            return two_of_ours(shape.classes)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, shape.classes))


class Ours(Either):
    """The same, beginning with layers of ours."""

    name = "ours"
    kind: str = choice("ours", "conv", default="ours")
