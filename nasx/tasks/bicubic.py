"""Bicubic resizing as the super-resolution literature means it.

Keys' kernel with a = -0.5 (IEEE TASSP 29 (6), 1981), widened by the factor when shrinking, so that
it averages over the footprint; pixel centres are aligned and edges mirrored, as MATLAB's imresize
does. Libraries differ in a, in the widening or at the edges, and each difference is tenths of a dB.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from nasx.tasks.cache import Bytes

Floats = npt.NDArray[np.floating[Any]]

A = -0.5  # of Keys' kernel


def kernel(x: Floats) -> Floats:
    """Return Keys' cubic at distances `x`, in pixels; 0 from 2 on."""
    far = np.abs(x)
    near = ((A + 2) * far - (A + 3)) * far**2 + 1
    tail = ((A * far - 5 * A) * far + 8 * A) * far - 4 * A
    return np.where(far <= 1, near, np.where(far < 2, tail, 0.0))


@lru_cache(maxsize=256)
def taps(before: int, after: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return indices (t, after) and weights (t, after) that take `before` samples to `after`."""
    factor = after / before
    stretch = max(1.0, 1 / factor)
    centre = (np.arange(after) + 0.5) / factor - 0.5
    width = 4 * stretch
    first = np.floor(centre - width / 2).astype(np.int64)
    index = first + np.arange(int(np.ceil(width)) + 2)[:, None]
    weight = kernel((centre - index) / stretch)
    used = np.any(weight != 0, axis=1)
    index, weight = index[used], weight[used] / weight.sum(0)
    index = index % (2 * before)  # mirrored, the edge pixel twice
    return np.where(index < before, index, 2 * before - 1 - index), weight


def resize(image: Floats | Bytes, height: int, width: int) -> npt.NDArray[np.float32]:
    """Return (height, width, C) float32 of an image (H, W, C), on the same scale of values."""
    rows = _along_rows(image.astype(np.float32), height)
    turned = _along_rows(np.ascontiguousarray(rows.swapaxes(0, 1)), width)
    return np.ascontiguousarray(turned.swapaxes(0, 1))


def _along_rows(image: npt.NDArray[np.float32], after: int) -> npt.NDArray[np.float32]:
    index, weight = taps(image.shape[0], after)
    # One pass per tap over whole rows: a matrix product would spend its time on zeros.
    flat = image.reshape(image.shape[0], -1)
    out = np.zeros((after, flat.shape[1]), np.float32)
    for i, w in zip(index, weight.astype(np.float32), strict=True):
        out += w[:, None] * flat[i]
    return out.reshape(after, *image.shape[1:])


def to_bytes(image: Floats) -> Bytes:
    """Return values of [0, 255] rounded to bytes; what lies beyond is cut off."""
    return np.rint(image).clip(0, 255).astype(np.uint8)


def shrink(image: Bytes, scale: int) -> Bytes:
    """Return an image (H, W, C) smaller by `scale`; rows and columns over a multiple are cut."""
    height, width = image.shape[0] // scale, image.shape[1] // scale
    cut = image[: height * scale, : width * scale]
    return to_bytes(resize(cut, height, width))


def enlarge(image: Bytes, scale: int) -> Bytes:
    """Return an image (H, W, C) larger by `scale`: what a super-resolution net has to beat."""
    return to_bytes(resize(image, image.shape[0] * scale, image.shape[1] * scale))
