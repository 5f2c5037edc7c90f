"""The order of training batches: epoch by epoch, a function of (seed, epoch) alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, cast

import torch

from nasx.errors import NasxError
from nasx.randomness import derive
from nasx.shape import Shape
from nasx.tasks.base import Batch, Split, Task


class Order:
    """Serve batches of one view of a task without end; can be put back where it stood."""

    def __init__(self, task: Task, shape: Shape, seed: int, augment: bool) -> None:
        self.task, self.shape, self.seed, self.augment = task, shape, seed, augment
        self.view = "train"
        self.size = 0
        self.epoch = -1
        self.index = 0  # batches of this epoch already served
        self._batches: Iterator[Batch] | None = None

    def next(self, view: str, size: int) -> Batch:
        """Return the next batch; another view or size begins another epoch."""
        size = min(size, self.task.size(cast(Split, view)))
        if (view, size) != (self.view, self.size):
            self.view, self.size = view, size
            self._turn()
        if self._batches is None:  # put back
            self._batches = self._epoch()
            deque(islice(self._batches, self.index), maxlen=0)
        batch = next(self._batches, None) or next(self._turn(), None)
        if batch is None or len(batch.inputs) == 0:
            raise NasxError(
                f"task '{self.task.name}' has no batch of {size} in '{view}'; give it more samples"
            )
        self.index += 1
        return batch

    def where(self) -> dict[str, Any]:
        """Return where the order stands, as JSON values."""
        return {"view": self.view, "size": self.size, "epoch": self.epoch, "index": self.index}

    def put_back(self, where: dict[str, Any]) -> None:
        """Go on from what `where` returned."""
        self.view, self.size = where["view"], where["size"]
        self.epoch, self.index = where["epoch"], where["index"]
        self._batches = None

    def _turn(self) -> Iterator[Batch]:
        self.epoch, self.index = self.epoch + 1, 0
        self._batches = self._epoch()
        return self._batches

    def _epoch(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive(self.seed, "epoch", self.epoch))
        view = cast(Split, self.view)
        return iter(self.task.batches(view, self.shape, self.size, generator, self.augment))
