"""A detector for tests, as small as one gets."""

from __future__ import annotations

from torch import nn

from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space, integer
from search_spaces._detect_recipe import detecting
from search_spaces._detectors import Pyramid, detector, micro_plan


class TinyDetect(Space):
    """A pyramid of a few channels."""

    name = "tinydetect"
    tasks = ("detect",)
    out: int = integer(8, 16, step=8, default=8)

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the untrained network."""
        plan = micro_plan(shape, (8, 8, 16, 16), out=self.out, tower=1)
        return detector(plan, Pyramid(plan))

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return the recipe of small detectors."""
        return detecting()
