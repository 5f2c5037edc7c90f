"""A restoration task of a few made images, small enough to hold a space to its contract.

The images are smooth colours with sharp borders. Nothing is learnt from them about photographs:
they only show whether a network can be trained at all.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nasx.errors import SpaceError
from nasx.shape import Shape, TaskShape
from nasx.tasks.base import Split
from nasx.tasks.bicubic import resize, to_bytes
from nasx.tasks.cache import Bytes
from nasx.tasks.degrade import NAMES, SIGMA, Degradation, degradation
from nasx.tasks.patches import Pairs
from nasx.tasks.photographs import together
from nasx.tasks.restore import Held, Restore

COUNTS: dict[Split, int] = {"train": 4, "valid": 1, "test": 1}
PATCHES = 64


class ToyRestore(Restore):
    """Made images under the degradations that a shape names, all in memory."""

    def __init__(self, shape: TaskShape) -> None:
        names = shape.outputs if isinstance(shape.outputs, tuple) else ()
        heads = [degradation(name, SIGMA) for name in names]
        known = [head for head in heads if head is not None]
        if len(known) < max(1, len(names)):
            raise SpaceError(f"a task to restore has heads among {NAMES}, not {names}")
        side = max(shape.input[-2:])
        largest = side * max(head.scale for head in known)
        load = functools.partial(_made, largest)
        super().__init__("toy", known, load, patch=side, patches=PATCHES)

    def pairs(self, split: Split, head: Degradation) -> Pairs:
        """Return a split with its spoilt images, made in memory."""
        truth = self.data.splits[split]
        if split == "train" and head.drawn:
            return Pairs(truth, None, head)
        spoilt = []
        for row, seed in enumerate(truth.seeds):
            generator = torch.Generator().manual_seed(seed)
            spoilt += head.spoil([truth.image(row)], generator)
        return Pairs(truth, together(truth.names, spoilt, truth.seeds), head)

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Draw nothing: made images are nothing to look at."""
        return []


def _made(side: int) -> Held:
    splits = {}
    for number, (split, count) in enumerate(COUNTS.items()):
        rng = np.random.default_rng(number)
        names = [f"made {split} {i}" for i in range(count)]
        seeds = [100 * number + i for i in range(count)]
        splits[split] = together(names, [_picture(side, rng) for _ in names], seeds)
    return Held(splits)


def _picture(side: int, rng: np.random.Generator) -> Bytes:
    colours, border = (resize(rng.random((6, 6, c)), side, side) for c in (3, 1))
    return to_bytes(255 * np.where(border > 0.5, colours, 1 - colours))
