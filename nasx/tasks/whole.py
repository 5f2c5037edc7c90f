"""What a network answers to whole images, whatever side it takes."""

from __future__ import annotations

from torch import Tensor, nn

from nasx.shape import TaskShape
from nasx.tasks.base import Batch, answer
from nasx.tasks.tiles import fixed_side, tiled

OVERLAP = 4  # a tile shares 1 / 4 of its side with the next


def whole(model: nn.Module, batch: Batch, shape: TaskShape, scale: int) -> Tensor:
    """Return the answer (1, C, H * scale, W * scale) to one image (1, C, H, W) of a batch's head.

    A network that says it needs one input side (`fixed_side`) answers in overlapping tiles.
    """
    side = fixed_side(model)
    if side is None:
        output: Tensor = answer(model, batch, shape)
        return output
    one = OneHead(model, batch.head, shape)
    return tiled(one, batch.inputs, side, side // OVERLAP, scale)


class OneHead(nn.Module):
    """A network of one or several heads, asked for one of them."""

    def __init__(self, model: nn.Module, head: str, shape: TaskShape) -> None:
        super().__init__()
        self.model, self.head, self.shape = model, head, shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the head's answer."""
        output: Tensor = answer(self.model, Batch(inputs, {}, self.head), self.shape)
        return output
