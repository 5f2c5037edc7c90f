"""What a network answers to whole images, whatever side it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasx.shape import TaskShape
from nasx.tasks.base import Batch, answer
from nasx.tasks.tiles import tiled, tiling_of


def whole(model: nn.Module, batch: Batch, shape: TaskShape, scale: int) -> Tensor:
    """Return the answer (1, C, H * scale, W * scale) to one image (1, C, H, W) of a batch's head.

    A network that says it needs one input side (`fixed_side`) answers in overlapping tiles.
    """

    def one(inputs: Tensor) -> Tensor:
        laid = inputs.contiguous(memory_format=torch.channels_last)
        output: Tensor = answer(model, Batch(laid, {}, batch.head), shape)
        return output

    how = tiling_of(model, scale)
    if how is None:
        return one(batch.inputs)
    return tiled(one, batch.inputs, how.side, how.overlap, how.border, scale)
