"""A space whose networks open a block for digits of much ink."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from gatednets import Bright
from nasx.shape import TaskShape
from nasx.space import Space, choice


class Inked(Space):
    """Networks for digits, with a gated block wider or narrower."""

    name: ClassVar[str] = "inked"
    middle: int = choice(8, 32, default=32)

    def build(self, shape: TaskShape) -> nn.Module:
        return Bright(8, self.middle, (0.0,), channels=shape.input[0])
