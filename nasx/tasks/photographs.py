"""Photographs of different sizes in one cached file, and those that could not be read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.cache import Bytes, cached, digest


@dataclass(frozen=True)
class Source:
    """Where a photograph comes from: what names it, its size, and how to read it.

    `content` tells it from every other photograph; `read` gives (H, W, 3) uint8 of `size` (H, W).
    """

    name: str
    content: bytes
    size: tuple[int, int]
    read: Callable[[], Bytes]


@dataclass(frozen=True)
class Photographs:
    """Images (H, W, 3) uint8 in one flat array, often a memory map, with a seed for each.

    A seed is the first 7 bytes of what tells the photograph from others: what is drawn from it is
    the same in every set.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    seeds: tuple[int, ...]
    pixels: Bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Bytes:
        """Return one image (H, W, 3), a view."""
        height, width = self.sizes[index]
        start = self.starts[index]
        flat = self.pixels[start : start + height * width * 3]
        return flat.reshape(height, width, 3)

    def only(self, rows: Sequence[int]) -> Photographs:
        """Return some of the images; the pixels are shared."""
        return Photographs(
            tuple(self.names[row] for row in rows),
            tuple(self.sizes[row] for row in rows),
            tuple(self.starts[row] for row in rows),
            tuple(self.seeds[row] for row in rows),
            self.pixels,
        )

    def fingerprint(self) -> str:
        """Return 16 hex digits over names' order, sizes and pixels."""
        pixels = (np.ascontiguousarray(self.image(i)).tobytes() for i in range(len(self)))
        return digest(*self.sizes, *pixels)


@dataclass(frozen=True)
class Read:
    """The photographs that could be read, and one sentence for each that could not."""

    photographs: Photographs
    left_out: tuple[str, ...] = ()


def together(names: Sequence[str], images: Sequence[Bytes], seeds: Sequence[int]) -> Photographs:
    """Return images that are in memory as one set."""
    sizes = tuple((int(i.shape[0]), int(i.shape[1])) for i in images)
    flat = np.concatenate([i.reshape(-1) for i in images])
    return Photographs(tuple(names), sizes, _starts(sizes, 0), tuple(seeds), flat)


def decoded(name: str, sources: Sequence[Source]) -> Read:
    """Return the photographs, decoded once into the cache; what cannot be decoded is left out."""
    return made(name, [s.name for s in sources], [s.content for s in sources],
                [s.size for s in sources], [s.read for s in sources])  # fmt: skip


def made(
    name: str,
    names: Sequence[str],
    contents: Sequence[bytes],
    sizes: Sequence[tuple[int, int]],
    readers: Sequence[Callable[[], Bytes]],
) -> Read:
    """Return images of known content and size, made by their readers once and cached."""
    count = len(names)
    starts = _starts(sizes, count)  # one byte for each comes first: whether it was read
    total = count + sum(h * w * 3 for h, w in sizes)

    def fill(out: Bytes) -> None:
        flat = np.asarray(out)
        for row, (start, size, read) in enumerate(zip(starts, sizes, readers, strict=True)):
            try:
                image = read()
            except NasxError:
                flat[row] = 0
                continue
            flat[row] = image.shape == (*size, 3)
            if flat[row]:
                flat[start : start + image.size] = image.reshape(-1)

    store = cached(name, digest(*contents, *sizes), (total,), fill)
    good = [row for row in range(count) if store.array[row]]
    seeds = [int.from_bytes(content[:7], "big") for content in contents]
    whole = Photographs(
        tuple(names), tuple(sizes), tuple(starts), tuple(seeds), np.asarray(store.array)
    )
    bad = [row for row in range(count) if not store.array[row]]
    return Read(whole.only(good), tuple(_why(names[row], readers[row]) for row in bad))


def derived(
    name: str, key: str, of: Photographs, size: Callable[[int], tuple[int, int]],
    make: Callable[[int], Bytes],
) -> Photographs:  # fmt: skip
    """Return one image made of each of a set, cached under what decides them: `key` and the set."""
    rows = range(len(of))
    contents = [f"{key} {seed} {n}".encode() for seed, n in zip(of.seeds, of.sizes, strict=True)]
    readers = [functools.partial(make, row) for row in rows]
    found = made(name, of.names, contents, [size(row) for row in rows], readers).photographs
    return Photographs(of.names, found.sizes, found.starts, of.seeds, found.pixels)


def _why(name: str, read: Callable[[], Bytes]) -> str:
    try:
        read()
    except NasxError as error:
        return str(error)
    return f"{name} has another size than its header says; replace or remove it"


def _starts(sizes: Sequence[tuple[int, int]], first: int) -> tuple[int, ...]:
    return tuple(accumulate((h * w * 3 for h, w in sizes), initial=first))[:-1]
