"""Patches of photographs: drawn for training, on a grid for everything that must not vary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from nasx.tasks.cache import Bytes
from nasx.tasks.degrade import RENDERING, Degradation
from nasx.tasks.photographs import Photographs, derived

Pair = tuple[list[Bytes], list[Bytes]]  # spoilt and true patches
ALIKE = 8  # symmetries of the square


@dataclass(frozen=True)
class Pairs:
    """Photographs of one split and how they look spoilt: shrunk, or under noise drawn for each.

    `spoilt` is None where patches are spoilt afresh whenever they are drawn.
    """

    truth: Photographs
    spoilt: Photographs | None
    how: Degradation

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an input image."""
        height, width = self.truth.sizes[index]
        return height // self.how.scale, width // self.how.scale

    def input(self, index: int) -> Bytes:
        """Return a whole spoilt image (h, w, 3); ValueError where they are not held."""
        if self.spoilt is None:
            raise ValueError(f"{self.how.name} is drawn afresh in this split")
        return self.spoilt.image(index)

    def cut(
        self, index: int, top: int, left: int, sides: tuple[int, int]
    ) -> tuple[Bytes | None, Bytes]:
        """Return the spoilt patch of `sides` at (top, left) of an input, and the true one.

        Images smaller than the patch are continued by their mirror image.
        """
        scale = self.how.scale
        inputs = None
        if self.spoilt is not None:
            inputs = _window(self.spoilt.image(index), top, left, sides)
        height, width = self.size(index)
        true = self.truth.image(index)[: height * scale, : width * scale]
        larger = (sides[0] * scale, sides[1] * scale)
        return inputs, _window(true, top * scale, left * scale, larger)


def spoilt(truth: Photographs, how: Degradation) -> Photographs:
    """Return photographs spoilt once and cached; what is drawn follows from each one's seed."""

    def make(index: int) -> Bytes:
        generator = torch.Generator().manual_seed(truth.seeds[index])
        return how.spoil([truth.image(index)], generator)[0]

    def size(index: int) -> tuple[int, int]:
        height, width = truth.sizes[index]
        return height // how.scale, width // how.scale

    key = f"{spelt(how)} {version('pillow')} {version('torch')}"
    return derived("spoilt", key, truth, size, make)


def spelt(how: Degradation) -> str:
    """Return all that decides what a degradation does to a photograph."""
    return f"{how.name} {how.sigma} {RENDERING}"


def _window(image: Bytes, top: int, left: int, sides: tuple[int, int]) -> Bytes:
    part = image[top : top + sides[0], left : left + sides[1]]
    down, right = sides[0] - part.shape[0], sides[1] - part.shape[1]
    if down or right:
        return np.pad(part, ((0, down), (0, right), (0, 0)), "symmetric")
    return part


def drawn(
    pairs: Sequence[Pairs],
    sides: tuple[int, int],
    count: int,
    batch: int,
    generator: torch.Generator,
    augment: bool,
    weights: Sequence[float] = (),
    crops: int = 0,
) -> Iterator[tuple[Degradation, Pair]]:
    """Yield `count` random patches in batches of one degradation each, all equally often.

    With `weights` each batch's is drawn by them. Every photograph is as likely as any other, every
    place in it too; `augment` turns and mirrors. With `crops` there are only so many places, and
    what is drawn there is drawn once; they take turns in random order.
    """
    batches = -(-count // batch)
    if weights:
        shares = torch.tensor(weights, dtype=torch.float64)
        heads = torch.multinomial(shares, batches, replacement=True, generator=generator)
    else:
        turns = -(-batches // len(pairs))
        heads = torch.randperm(turns * len(pairs), generator=generator)[:batches] % len(pairs)
    places = torch.Generator().manual_seed(0) if crops else generator
    photo = torch.rand(crops or count, generator=places, dtype=torch.float64).numpy()
    place = torch.rand(crops or count, 2, generator=places, dtype=torch.float64).numpy()
    which = np.arange(count)
    if crops:
        turns = -(-count // crops)
        orders = [torch.randperm(crops, generator=generator) for _ in range(turns)]
        which = torch.cat(orders)[:count].numpy()
        photo, place = photo[which], place[which]
    symmetry = torch.randint(ALIKE, (count,), generator=generator).numpy()
    square = sides[0] == sides[1]
    for number, head in enumerate(heads.tolist()):
        held = pairs[head]
        inputs: list[Bytes] = []
        truths: list[Bytes] = []
        for row in range(number * batch, min(count, (number + 1) * batch)):
            index = int(photo[row] * len(held.truth))
            height, width = held.size(index)
            top = int(place[row, 0] * max(1, height - sides[0] + 1))
            left = int(place[row, 1] * max(1, width - sides[1] + 1))
            part, truth = held.cut(index, top, left, sides)
            if part is None and crops:
                own = torch.Generator().manual_seed(int(which[row]))
                part = held.how.spoil([truth], own)[0]
            how = int(symmetry[row]) if augment else 0
            truths.append(_turned(truth, how, square))
            if part is not None:
                inputs.append(_turned(part, how, square))
        if not inputs:
            inputs = held.how.spoil(truths, generator)
        yield held.how, (inputs, truths)


def _turned(image: Bytes, how: int, square: bool) -> Bytes:
    if how & 1:
        image = image[::-1]
    if how & 2:
        image = image[:, ::-1]
    return image.swapaxes(0, 1) if how & 4 and square else image


def grid(size: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of patches that an input of `size` is covered by, at least 1."""
    return max(1, size[0] // sides[0]), max(1, size[1] // sides[1])


def covering(
    pairs: Pairs, cells: tuple[int, int], sides: tuple[int, int], batch: int
) -> Iterator[tuple[Degradation, Pair]]:
    """Yield patches of `sides` spread over every photograph, image by image, in fixed places.

    There are as many as patches of `cells` would cover them with: the number does not depend on
    `sides`. `pairs` must hold spoilt images.
    """
    inputs: list[Bytes] = []
    truths: list[Bytes] = []
    for index in range(len(pairs.truth)):
        size = pairs.size(index)
        rows, columns = grid(size, cells)
        for top in _spread(size[0] - sides[0], rows):
            for left in _spread(size[1] - sides[1], columns):
                part, truth = pairs.cut(index, top, left, sides)
                if part is not None:
                    inputs.append(part)
                truths.append(truth)
                if len(inputs) == batch:
                    yield pairs.how, (inputs, truths)
                    inputs, truths = [], []
    if inputs:
        yield pairs.how, (inputs, truths)


def _spread(room: int, count: int) -> list[int]:
    """Return `count` starts from 0 to `room`, evenly; one alone lies in the middle."""
    if room <= 0:
        return [0] * count
    if count == 1:
        return [room // 2]
    return [int(start) for start in np.linspace(0, room, count).round()]
