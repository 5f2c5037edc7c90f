"""Inference in overlapping tiles, for networks that take one input side only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.errors import NasxError


@dataclass(frozen=True)
class Tiling:
    """How an image is cut for a network: squares of `side` input pixels, see `tiled`."""

    side: int
    overlap: int
    border: int
    scale: int


def fixed_side(model: nn.Module) -> int | None:
    """Return the input side that a network says it needs (`fixed_side` in it), or None."""
    for module in model.modules():
        side = getattr(module, "fixed_side", None)
        if isinstance(side, int):
            return side
    return None


def tiling_of(model: nn.Module, scale: int) -> Tiling | None:
    """Return how images are cut for a network, whose answers are `scale` times as large.

    None for one that takes any size. By default tiles overlap by half their side, and an eighth of
    it is thrown away (docs/measurements/restore.md); another overlap and border are a pair `tiling`
    in the network, e.g. the 36 and 12 of arXiv:2012.00364 with tiles of 48.
    """
    side = fixed_side(model)
    if side is None:
        return None
    said = (getattr(module, "tiling", None) for module in model.modules())
    asked = [how for how in said if isinstance(how, tuple)]
    overlap, border = asked[0] if asked else (side // 2, side // 8)
    if not 0 <= 2 * border <= overlap < side:
        raise NasxError(
            f"the network's tiling is an overlap of {overlap} and a border of {border}: with tiles "
            f"of {side} the overlap must be at least twice the border, and less than the tile"
        )
    return Tiling(side, overlap, border, scale)


# The text of this function is written into exported files: it stands alone.
def tiled(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    side: int,
    overlap: int,
    border: int,
    scale: int,
) -> Tensor:
    """Return a network's answer (1, C, scale H, scale W) to an image (1, C, H, W), tile by tile.

    Tiles are squares of `side` pixels that share at least `overlap` with the next; the last ones
    end with the image. Of each answer, `border` input pixels are thrown away at edges that are none
    of the image's; where several are left, their mean is taken. An image smaller than a tile is
    continued by repeating its edge. Exact where no answer looks further than `border` pixels.
    """
    if not 0 <= 2 * border <= overlap < side:
        raise ValueError(f"tiles of {side} with borders of {border} cannot overlap by {overlap}")
    height, width = image.shape[-2:]
    below, beside = max(0, side - height), max(0, side - width)
    if below or beside:
        image = F.pad(image, (0, beside, 0, below), mode="replicate")

    def parts(length: int) -> list[tuple[int, int, int]]:  # where a tile begins, what it answers
        starts = [*range(0, length - side, side - overlap), length - side]
        firsts = [start + border if start else 0 for start in starts]
        lasts = [start + side - (border if start + side < length else 0) for start in starts]
        return list(zip(starts, firsts, lasts, strict=True))

    places = [(row, column) for row in parts(image.shape[-2]) for column in parts(image.shape[-1])]
    total = times = image
    for begin in range(0, len(places), 64):
        some = places[begin : begin + 64]
        tiles = [image[:, :, r : r + side, c : c + side] for (r, _, _), (c, _, _) in some]
        answers = network(torch.cat(tiles))
        if begin == 0:
            shape = (1, answers.shape[1], image.shape[-2] * scale, image.shape[-1] * scale)
            total, times = answers.new_zeros(shape), answers.new_zeros(1, 1, *shape[2:])
        for answer, ((r, top, bottom), (c, left, right)) in zip(answers, some, strict=True):
            rows, columns = slice(top * scale, bottom * scale), slice(left * scale, right * scale)
            inner = answer[:, (top - r) * scale : (bottom - r) * scale]
            total[0, :, rows, columns] += inner[:, :, (left - c) * scale : (right - c) * scale]
            times[0, :, rows, columns] += 1
    return (total / times)[:, :, : height * scale, : width * scale]
