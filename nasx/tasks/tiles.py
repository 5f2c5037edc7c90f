"""Inference in overlapping tiles, for networks that take one input size only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.errors import NasxError

TOGETHER = 16  # tiles of one forward pass


def fixed_side(model: nn.Module) -> int | None:
    """Return the input side that a network says it needs (`fixed_side` in it), or None."""
    for module in model.modules():
        side = getattr(module, "fixed_side", None)
        if isinstance(side, int):
            return side
    return None


def tiled(model: nn.Module, image: Tensor, side: int, overlap: int, scale: int) -> Tensor:
    """Return the answer (1, C, H * scale, W * scale) to an image (1, C, H, W), tile by tile.

    Tiles are squares of `side` that share at least `overlap` pixels; of two neighbours each is
    used up to the middle of what they share. Exact where no answer looks further than overlap // 2
    pixels; edges of the image stay edges of a tile. Smaller images are continued by repeating
    their edge.
    """
    if not 0 <= overlap < side:
        raise NasxError(f"tiles of {side} pixels cannot overlap by {overlap}: take 0 to {side - 1}")
    height, width = image.shape[-2:]
    down, right = max(0, side - height), max(0, side - width)
    if down or right:
        image = F.pad(image, (0, right, 0, down), mode="replicate")
    tops, lefts = (_starts(n, side, overlap) for n in image.shape[-2:])
    places = [(top, left) for top in tops for left in lefts]
    out: Tensor | None = None
    for first in range(0, len(places), TOGETHER):
        some = places[first : first + TOGETHER]
        cut = torch.cat([image[..., t : t + side, lf : lf + side] for t, lf in some])
        answers = model(cut.contiguous(memory_format=torch.channels_last))
        if out is None:
            shape = (1, answers.shape[1], image.shape[-2] * scale, image.shape[-1] * scale)
            out = answers.new_empty(shape)
        for answer, (top, left) in zip(answers, some, strict=True):
            a, b = _share(tops, top, side)
            c, d = _share(lefts, left, side)
            inner = answer[:, (a - top) * scale : (b - top) * scale]
            out[0, :, a * scale : b * scale, c * scale : d * scale] = inner[
                ..., (c - left) * scale : (d - left) * scale
            ]
    assert out is not None  # there is at least one tile
    return out[..., : height * scale, : width * scale]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    """Return where tiles begin; the last one ends with the image."""
    starts = list(range(0, length - side, side - overlap))
    return [*starts, length - side]


def _share(starts: list[int], start: int, side: int) -> tuple[int, int]:
    """Return which stretch of the image a tile answers for: up to the middle of each overlap."""
    at = starts.index(start)
    first = 0 if at == 0 else (start + starts[at - 1] + side) // 2
    last = at == len(starts) - 1
    return first, start + side if last else (starts[at + 1] + start + side) // 2
