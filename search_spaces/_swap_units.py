"""What of an image knockoffs copy and swap as one: pixels, pixels of patches, PCA coefficients.

A covariance of more than 256 numbers is neither known from few images nor cheap, so that larger
images are taken apart first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.shape import Shape

MOST = 256  # numbers whose covariance is taken
ENOUGH = 2048  # images to take components from
COMPONENTS = 64  # at most, and a sixteenth of the images: more are not what other images have
TILE = 8  # pixels, the side of a patch


class Units(nn.Module):
    """Vectors of an image: (N, C, H, W) to (N, G, p), G groups of p numbers each, and back.

    `groups` and `size` are G and p, `name` says what the numbers are.
    """

    name: str
    groups: int
    size: int

    def fit(self, images: Tensor) -> None:
        """Take from training images (N, C, H, W) what the split needs."""

    def split(self, images: Tensor) -> Tensor:
        """Return the vectors (N, G, p) of images."""
        raise NotImplementedError

    def join(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Return `images` with these vectors in place of their own."""
        raise NotImplementedError


class Pixels(Units):
    """All pixels, one group."""

    name = "pixels"

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.groups, self.size = 1, math.prod(shape)

    def split(self, images: Tensor) -> Tensor:
        """Return the pixels (N, 1, C H W)."""
        return images.flatten(1).unsqueeze(1)

    def join(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Return images of these pixels."""
        return vectors.reshape(images.shape)


class Patches(Units):
    """The pixels of every square patch, a group for each; at most 8 x 8, fewer of many channels.

    Patches that reach over the edge are filled with zeros, which do not vary.
    """

    name = "patch_pixels"

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, height, width = shape
        most = max(1, min(TILE, math.isqrt(MOST // channels) if channels <= MOST else 1))
        self.rows, self.columns = -(-height // most), -(-width // most)
        self.tall, self.wide = -(-height // self.rows), -(-width // self.columns)
        self.groups, self.size = self.rows * self.columns, channels * self.tall * self.wide

    def split(self, images: Tensor) -> Tensor:
        """Return the patches' pixels (N, patches, pixels of one)."""
        count, channels, height, width = images.shape
        below, beside = self.rows * self.tall - height, self.columns * self.wide - width
        whole = functional.pad(images, (0, beside, 0, below))
        tiles = whole.reshape(count, channels, self.rows, self.tall, self.columns, self.wide)
        return tiles.permute(0, 2, 4, 1, 3, 5).reshape(count, self.groups, self.size)

    def join(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Return images put together from patches."""
        count, channels, height, width = images.shape
        tiles = vectors.reshape(count, self.rows, self.columns, channels, self.tall, self.wide)
        whole = tiles.permute(0, 3, 1, 4, 2, 5)
        whole = whole.reshape(count, channels, self.rows * self.tall, self.columns * self.wide)
        return whole[:, :, :height, :width]


class Coefficients(Units):
    """The leading coefficients of principal components; what they leave over stays as it is.

    The rest is the same in an image and its knockoff, and equal numbers are exchangeable.
    """

    name = "pca_coefficients"
    basis: Tensor  # (q, C H W)
    centre: Tensor  # (C H W)

    def __init__(self, shape: Shape, samples: int) -> None:
        super().__init__()
        pixels = math.prod(shape)
        self.groups, self.size = 1, max(1, min(COMPONENTS, pixels, samples // 16))
        self.register_buffer("basis", torch.zeros(self.size, pixels))
        self.register_buffer("centre", torch.zeros(pixels))

    def fit(self, images: Tensor) -> None:
        """Take the components from images, as many as wanted at least."""
        flat = images.flatten(1)
        centre = flat.mean(0)
        away = (flat - centre)[:ENOUGH]
        if len(away) < away.shape[1]:  # through the smaller of the two products
            _, vectors = torch.linalg.eigh(away @ away.T)
            found = functional.normalize(away.T @ vectors[:, -self.size :], dim=0).T
        else:
            _, vectors = torch.linalg.eigh(away.T @ away)
            found = vectors[:, -self.size :].T
        self.basis.copy_(found.flip(0))
        self.centre.copy_(centre)

    def split(self, images: Tensor) -> Tensor:
        """Return the coefficients (N, 1, q)."""
        return ((images.flatten(1) - self.centre) @ self.basis.T).unsqueeze(1)

    def join(self, vectors: Tensor, images: Tensor) -> Tensor:
        """Return images moved to these coefficients."""
        moved = (vectors - self.split(images)).squeeze(1) @ self.basis
        return images + moved.reshape(images.shape)


def units_of(shape: Shape, samples: int, large: str) -> Units:
    """Return the pixels where they are at most 256, else `large`: "patches" or "pca"."""
    if math.prod(shape) <= MOST:
        return Pixels(shape)
    return Patches(shape) if large == "patches" else Coefficients(shape, samples)
