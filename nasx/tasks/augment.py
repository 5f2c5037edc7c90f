"""Light augmentation of image batches: a shift, a colour gain and, where allowed, a flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nasx.tasks.cache import Bytes


@dataclass(frozen=True)
class Augment:
    """How far training images are varied; all zero means not at all.

    `shift` is the largest shift as a share of the side (at least one pixel when above 0), `gain`
    the largest relative change of a channel's brightness. `flip` mirrors half of the images: it is
    wrong for digits and letters.
    """

    shift: float = 1 / 16
    gain: float = 0.2
    flip: bool = False


@dataclass(frozen=True)
class Draws:
    """One pass' random numbers: shifts (n, 2) in pixels, gains (n, C), flips (n,)."""

    shifts: npt.NDArray[np.int64]
    gains: npt.NDArray[np.float32]
    flips: npt.NDArray[np.bool_]


def draw(
    augment: Augment, count: int, shape: tuple[int, int, int], generator: torch.Generator
) -> Draws:
    """Draw the variations of `count` images of `shape` (C, H, W)."""
    channels, height, width = shape
    reach = torch.tensor([_reach(augment.shift, height), _reach(augment.shift, width)])
    uniform = torch.rand(count, 2, generator=generator)
    shifts = torch.floor(uniform * (2 * reach + 1)).long() - reach
    gains = 1 + augment.gain * (2 * torch.rand(count, channels, generator=generator) - 1)
    flips = torch.rand(count, generator=generator) < (0.5 if augment.flip else 0.0)
    return Draws(shifts.numpy(), gains.numpy(), flips.numpy())


def _reach(shift: float, side: int) -> int:
    return max(1, round(shift * side)) if shift > 0 else 0


def move(images: Bytes, shifts: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_]) -> Bytes:
    """Mirror, then shift each (H, W, C) image by (down, right) pixels; the edge is repeated."""
    height, width = images.shape[1:3]
    out = np.empty_like(images)
    # A loop of slices: one fancy index over pixels costs three times as much.
    for source, target, (down, right), flip in zip(
        images, out, shifts.tolist(), flips.tolist(), strict=True
    ):
        image = source[:, ::-1] if flip else source
        top, bottom = max(down, 0), height + min(down, 0)
        left, end = max(right, 0), width + min(right, 0)
        target[top:bottom, left:end] = image[top - down : bottom - down, left - right : end - right]
        target[top:bottom, :left] = target[top:bottom, left : left + 1]
        target[top:bottom, end:] = target[top:bottom, end - 1 : end]
        target[:top] = target[top]
        target[bottom:] = target[bottom - 1]
    return out
