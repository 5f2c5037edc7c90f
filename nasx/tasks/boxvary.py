"""Augmentation of images with boxes: zoom, shift, colour gain, mirror; the boxes follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VISIBLE = 0.5  # share of a box that must stay in view; of less the detector is neither way taught


@dataclass(frozen=True)
class Vary:
    """How far training images are varied; all zero means not at all.

    `shift` is the largest shift as a share of the side, `zoom` the largest factor above 1 by which
    an image is enlarged or shrunk, `gain` the largest relative change of a channel's brightness.
    `flip` mirrors half of the images: it is wrong for digits and letters.
    """

    shift: float = 0.1
    zoom: float = 0.25
    gain: float = 0.2
    flip: bool = True


@dataclass(frozen=True)
class Draws:
    """One pass' random numbers: x' = a x + b per axis (n, 2), with a < 0 where mirrored; gains.

    Coordinates run from -1 to 1 over the image; `gains` is (n, 3).
    """

    a: Tensor
    b: Tensor
    gains: Tensor

    def rows(self, now: slice) -> Draws:
        """Return the numbers of some images."""
        return Draws(self.a[now], self.b[now], self.gains[now])


def draw(vary: Vary, count: int, generator: torch.Generator) -> Draws:
    """Draw the variations of `count` images."""
    uniform = torch.rand(count, 7, generator=generator) * 2 - 1
    zoom = (1 + vary.zoom) ** uniform[:, :1]
    mirror = torch.where(uniform[:, 1:2] < 0, -1.0, 1.0) if vary.flip else torch.ones(count, 1)
    a = torch.cat([zoom * mirror, zoom], dim=1)
    return Draws(a, 2 * vary.shift * uniform[:, 2:4], 1 + vary.gain * uniform[:, 4:])


def moved(images: Tensor, draws: Draws) -> Tensor:
    """Return float images (N, 3, H, W) varied; beyond the border its pixels are repeated."""
    a, b = draws.a, draws.b
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / a[:, 0], 1 / a[:, 1]
    theta[:, :, 2] = -b / a
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    out = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (out * draws.gains[:, :, None, None]).clamp_(0, 1)


def moved_boxes(corners: Tensor, image: Tensor, draws: Draws, size: tuple[int, int]) -> Tensor:
    """Return corners (M, 4) in pixels where the images' content went; not cut off.

    `image` (M,) says on which image of `draws` a box lies, `size` is height and width.
    """
    half = torch.tensor([size[1], size[0]]) / 2
    a, b = draws.a[image], draws.b[image]
    ends = [(a * (corners[:, i : i + 2] / half - 1) + b + 1) * half for i in (0, 2)]
    return torch.cat([torch.minimum(*ends), torch.maximum(*ends)], dim=1)


def in_view(corners: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return corners cut off at the border, and the share (M,) of each box that is left."""
    high, wide = size
    cut = corners.clamp(min=0).minimum(torch.tensor([wide, high, wide, high]))
    return cut, _area(cut) / _area(corners).clamp(min=1e-9)


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2] - corners[:, 0]).clamp(min=0) * (corners[:, 3] - corners[:, 1]).clamp(
        min=0
    )
