"""A detection task of a few made images, small enough to hold a space to its contract.

Plain rectangles, a colour for each class, on a noisy ground. Nothing is learnt from them about
photographs: they only show whether a network can be trained at all.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from torch import nn

from nasx.errors import SpaceError
from nasx.shape import Boxes, Shape, TaskShape
from nasx.tasks.base import Split
from nasx.tasks.boxed import Boxed, BoxedData
from nasx.tasks.boxsizes import COCO
from nasx.tasks.boxvary import Vary
from nasx.tasks.cache import digest
from nasx.tasks.detect import Detect

COUNTS: dict[Split, int] = {"train": 32, "valid": 4, "test": 4}
OBJECTS = 2  # on every image


class ToyDetect(Detect):
    """Rectangles to be found at the classes and strides that a shape names, all in memory."""

    def __init__(self, shape: TaskShape) -> None:
        boxes = shape.outputs
        if not isinstance(boxes, Boxes) or len(shape.input) != 3 or shape.input[0] != 3:
            raise SpaceError(f"a task to detect has boxes on RGB images, not {shape}")
        size = (3, shape.input[1], shape.input[2])
        load = functools.partial(_made, size[1], size[2], boxes.classes)
        strides = boxes.strides
        super().__init__("toy", size, boxes.classes, load, strides=strides, bins=COCO, vary=Vary())

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Draw nothing: made images are nothing to look at."""
        return []


def _made(height: int, width: int, classes: int) -> BoxedData:
    splits: dict[Split, Boxed] = {}
    for number, (split, count) in enumerate(COUNTS.items()):
        rng = np.random.default_rng(number)
        images = rng.integers(96, 160, (count, height, width, 3), dtype=np.uint8)
        colours = np.random.default_rng(len(COUNTS)).integers(0, 256, (classes, 3))
        labels = rng.integers(0, classes, count * OBJECTS)
        corners = np.empty((len(labels), 4))
        for row, label in enumerate(labels):
            h, w = (int(side * rng.uniform(0.15, 0.5)) for side in (height, width))
            y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
            images[row // OBJECTS, y : y + h, x : x + w] = colours[label]
            corners[row] = x, y, x + w, y + h
        splits[split] = Boxed(
            images=images,
            names=tuple(f"made {split} {i}" for i in range(count)),
            sizes=np.tile(np.array([height, width], np.int64), (count, 1)),
            scales=np.ones(count),
            offsets=np.arange(count + 1, dtype=np.int64) * OBJECTS,
            labels=labels.astype(np.int64),
            corners=corners,
            areas=(corners[:, 2:] - corners[:, :2]).prod(1),
            crowd=np.zeros(len(labels), bool),
        )
    pixels = digest(*(held.images.tobytes() for held in splits.values()))
    return BoxedData(tuple(str(c) for c in range(classes)), splits, pixels)
