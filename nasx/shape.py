"""The shape of a task: all that a network must know of it, without its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Shape = tuple[int, ...]
Kind = Literal["classify", "restore", "detect", "features"]


@dataclass(frozen=True)
class Boxes:
    """What a detector answers: box classes and the strides of its pyramid levels."""

    classes: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class TaskShape:
    """Describe a task to a network.

    `input` is one sample (C, H, W) as costs are counted; for kind "features" a tuple of such
    shapes. `outputs` is the number of classes, the names of the heads, or `Boxes`.
    """

    kind: Kind
    input: Any
    outputs: int | tuple[str, ...] | Boxes

    @property
    def classes(self) -> int:
        """Return the number of classes of a classification task."""
        if not isinstance(self.outputs, int):
            raise TypeError(f"a {self.kind} task has no class count")
        return self.outputs

    @property
    def side(self) -> int:
        """Return the height of one input sample in pixels."""
        return int(self.input[-2])
