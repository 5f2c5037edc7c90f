"""A task: shape, data, loss and scores, with three disjoint splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.shape import Boxes, Shape, TaskShape

__all__ = [
    "Batch", "Boxes", "Shape", "Split", "Task", "TaskShape", "answer", "demand_view", "heads_of",
]  # fmt: skip

Split = Literal["train", "valid", "test"]


@dataclass
class Batch:
    """What one step sees: `inputs` (N, C, H, W) float32, `targets` by name, and the head asked.

    Class targets are `targets["label"]` (N,) int64, images `targets["image"]` (N, C, H, W).
    """

    inputs: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)
    head: str = ""


def heads_of(model: nn.Module) -> tuple[str, ...]:
    """Return the heads that a network says it has (`heads`, a tuple of names), or nothing.

    In training it may have more than its task: those that it is pre-trained on.
    """
    heads = getattr(model, "heads", ())
    named = isinstance(heads, tuple) and all(isinstance(head, str) for head in heads)
    return heads if named else ()


def answer(model: nn.Module, batch: Batch, shape: TaskShape) -> Any:
    """Return what a network answers to a batch: all calls of a task's network go this way.

    It is called with the batch's head where it says it has several, or the task has; a network of
    one head is called without, so it is what its export is. Raises NasxError for a head that is
    none of those it says it has.
    """
    heads = heads_of(model)
    if heads and batch.head and batch.head not in heads:
        raise NasxError(
            f"the network has no head '{batch.head}', it was built for {', '.join(heads)}; "
            "ask for one of these, or build it with that head and train it"
        )
    several = isinstance(shape.outputs, tuple) and len(shape.outputs) > 1
    if several or len(heads) > 1:
        return model(batch.inputs, batch.head or next(iter(heads), ""))
    return model(batch.inputs)


def demand_view(task: Task, view: str) -> None:
    """Raise NasxError where a task has no data view of this name to train on.

    Every task has "train"; others where it has a method `demand_view` of its own.
    """
    if view == "train":
        return
    own = getattr(task, "demand_view", None)
    if own is None:
        raise NasxError(
            f"task '{task.name}' has no data view '{view}' to train on; its phases may have 'train'"
        )
    own(view)


class Task(Protocol):
    """Data, loss and scores of one problem.

    `train` is learnt from; `valid` decides rungs, objectives and every choice; `test` is scored
    once per front member in the final pass, shown beside valid, and never selected on.
    """

    name: str
    shape: TaskShape
    metrics: tuple[str, ...]  # the score names `score` returns, the primary one first

    def size(self, split: Split) -> int:
        """Return the number of samples in a split."""

    def fingerprint(self) -> str:
        """Return a hash of the data, part of the study's identity."""

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Yield one pass over a split, resized to `shape` (C, H, W); shuffled by `generator`.

        With a generator the last incomplete batch is dropped; without, every sample comes once
        and in order. Inputs are in torch.channels_last memory format.
        """

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean training loss of one batch."""

    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        """Score an eval-mode model; top1 in percent, psnr in dB."""

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Write up to k small PNGs of what the model does on valid samples into `folder`."""
