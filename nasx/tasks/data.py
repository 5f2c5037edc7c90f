"""Labelled images in three disjoint splits, and the ways they are split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasx.tasks.base import Split
from nasx.tasks.cache import Bytes, Cached, digest

Indices = npt.NDArray[np.int64]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class Labelled:
    """Images (N, H, W, C) uint8, often a memory map, and labels (N,) int64."""

    images: Bytes
    labels: Indices

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ValueError(f"images must be (N, H, W, C) uint8, not {self.images.shape}")
        if self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"{len(self.images)} images and {len(self.labels)} labels")


@dataclass(frozen=True)
class Dataset:
    """Three splits of one image size, the class names, and the SHA-256 of all pixels."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[Split, Labelled]
    pixels: str

    def fingerprint(self) -> str:
        """Return 16 hex digits over pixels, labels, split sizes and class names."""
        parts: list[object] = [self.pixels, *self.classes]
        for split in SPLITS:
            held = self.splits[split]
            parts += [split, held.images.shape, held.labels.astype("<i8").tobytes()]
        return digest(*parts)


def assemble(
    name: str, classes: Sequence[str], store: Cached, labels: Mapping[Split, Indices]
) -> Dataset:
    """Cut one array that holds train, valid and test in this order into a data set."""
    splits: dict[Split, Labelled] = {}
    start = 0
    for split in SPLITS:
        stop = start + len(labels[split])
        splits[split] = Labelled(store.array[start:stop], labels[split])
        start = stop
    if start != len(store.array):
        raise ValueError(f"{len(store.array)} images and {start} labels")
    return Dataset(name, tuple(classes), splits, store.sha256)


def stratified(
    labels: Indices, shares: Sequence[float], generator: np.random.Generator
) -> list[Indices]:
    """Deal sample indices into parts of these shares, class by class, each part sorted.

    Every class is cut at the rounded cumulative shares, so no class is off by more than one.
    """
    bounds = np.cumsum(shares) / np.sum(shares)
    parts: list[list[Indices]] = [[] for _ in shares]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(bounds[:-1] * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]


def balanced_order(labels: Indices) -> Indices:
    """Order samples so that the first ones of all classes come first, then the second ones ...

    With equally frequent classes, any prefix that is a multiple of their number is balanced.
    """
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.lexsort((labels, rank)).astype(np.int64)


def proportional(labels: Indices) -> Indices:
    """Order samples so that any stretch of them holds the classes as the whole does.

    Within a class the order stays as it is: the r-th of n stands at (r + 1/2) / n of the way.
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((labels, place)).astype(np.int64)
