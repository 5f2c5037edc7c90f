"""Images of one size with the boxes of what is on them, in three splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasx.tasks.base import Split
from nasx.tasks.cache import Bytes, digest
from nasx.tasks.data import SPLITS, Indices

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Boxed:
    """Images (N, H, W, 3) uint8, often a memory map, and the M boxes of all of them in order.

    Image i has rows `offsets[i]` to `offsets[i + 1]` of `labels` (M,), `corners` (M, 4) as x0, y0,
    x1, y1, `areas` (M,), by which sizes are told apart, and `crowd` (M,): regions of many objects
    that count neither way. Corners and areas are in pixels of the original image, as annotated;
    `sizes` (N, 2) are its height and width, `scales` (N,) the stored pixels for one of its own.
    What an image is narrower than the array lies at the right and below.
    """

    images: Bytes
    names: tuple[str, ...]
    sizes: Indices
    scales: Reals
    offsets: Indices
    labels: Indices
    corners: Reals
    areas: Reals
    crowd: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        count, rows = len(self.images), len(self.labels)
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images must be (N, H, W, 3) uint8, not {self.images.shape}")
        if not len(self.names) == len(self.sizes) == len(self.scales) == count:
            raise ValueError(f"{count} images and {len(self.sizes)} sizes")
        if self.offsets.shape != (count + 1,) or self.offsets[-1] != rows:
            raise ValueError(f"{rows} boxes and offsets up to {self.offsets[-1]}")
        if self.corners.shape != (rows, 4) or not len(self.areas) == len(self.crowd) == rows:
            raise ValueError(f"{rows} labels and {self.corners.shape} corners")

    def stored(self) -> Reals:
        """Return the corners (M, 4) in stored pixels, cut off at the image's border."""
        counts = np.diff(self.offsets)
        scale = np.repeat(self.scales, counts)[:, None]
        high, wide = np.repeat(self.sizes, counts, axis=0).T
        bound = np.stack([wide, high, wide, high], axis=1)
        clipped: Reals = np.clip(self.corners, 0, bound) * scale
        return clipped


@dataclass(frozen=True)
class BoxedData:
    """Three splits, class names, the SHA-256 of all pixels, and what is odd, a sentence each."""

    classes: tuple[str, ...]
    splits: Mapping[Split, Boxed]
    pixels: str
    warnings: tuple[str, ...] = ()

    def fingerprint(self) -> str:
        """Return 16 hex digits over pixels, boxes, split sizes and class names."""
        parts: list[object] = [self.pixels, *self.classes]
        for split in SPLITS:
            held = self.splits[split]
            columns = (held.sizes, held.scales, held.offsets, held.labels, held.corners)
            parts += [split, held.images.shape, *(c.tobytes() for c in columns)]
            parts += [held.areas.tobytes(), held.crowd.tobytes()]
        return digest(*parts)
