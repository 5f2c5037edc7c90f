"""Resizing a split to the input size of a candidate, each image once."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from nasx.tasks.cache import Bytes
from nasx.tasks.data import Indices

KEEP = 256 * 2**20  # bytes of resized images that may be kept in memory


def resize(images: Bytes, height: int, width: int) -> Bytes:
    """Resize (N, H, W, C) uint8 images bilinearly, averaging over the footprint when shrinking.

    The antialiased filter is a triangle as wide as the scale; without it a small input side would
    lose thin strokes to aliasing, and resolutions would not be compared fairly.
    """
    if images.shape[1:3] == (height, width):
        return images
    planes = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    small = F.interpolate(planes, size=(height, width), mode="bilinear", antialias=True)
    return small.permute(0, 2, 3, 1).contiguous().numpy()


class Resized:
    """One split at one size; images are resized on first demand and kept if all would fit.

    `take` gives the same pixels whether they were kept or not.
    """

    def __init__(self, images: Bytes, height: int, width: int, keep: int = KEEP) -> None:
        self.images = images
        self.size = (height, width)
        count, channels = images.shape[0], images.shape[3]
        native = images.shape[1:3] == self.size
        self._store: Bytes | None = None
        if not native and count * height * width * channels <= keep:
            self._store = np.empty((count, height, width, channels), np.uint8)
            self._done = np.zeros(count, bool)

    def take(self, indices: Indices) -> Bytes:
        """Return fresh (n, height, width, C) uint8 images of these samples."""
        if self._store is None:
            return resize(self.images[indices], *self.size)
        missing = indices[~self._done[indices]]
        if len(missing):
            self._store[missing] = resize(self.images[missing], *self.size)
            self._done[missing] = True
        return self._store[indices]
