"""A classification task of a few made images, small enough to hold a space to its contract.

Every class is a smooth pattern; a sample is its class's pattern under noise. Nothing is learnt
from it about the world: it only shows whether a network can be trained at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.shape import Shape, TaskShape
from nasx.tasks.base import Batch, Split

SIZES: dict[Split, int] = {"train": 32, "valid": 16, "test": 16}
SEEDS: dict[Split, int] = {"train": 1, "valid": 2, "test": 3}
NOISE = 0.3


class ToyTask:
    """Class patterns under noise, at any input shape (C, H, W)."""

    name = "toy"
    metrics: tuple[str, ...] = ("top1",)

    def __init__(self, shape: TaskShape) -> None:
        self.shape = shape
        generator = torch.Generator().manual_seed(0)
        # Patterns are 4 x 4 grids, so that they survive any resizing.
        self.patterns = torch.randn(shape.classes, shape.input[0], 4, 4, generator=generator)

    def size(self, split: Split) -> int:
        """Return the number of samples in a split."""
        return SIZES[split]

    def fingerprint(self) -> str:
        """Return a name of the data."""
        return f"toy-{self.shape.classes}-{self.shape.input[0]}"

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Yield one pass over a split at `shape`; made afresh and alike each time."""
        n = SIZES[split]
        own = torch.Generator().manual_seed(SEEDS[split])
        labels = torch.arange(n) % self.shape.classes
        noise = NOISE * torch.randn(n, shape[0], 4, 4, generator=own)
        small = self.patterns[labels] + noise
        images = functional.interpolate(small, size=shape[-2:], mode="bilinear")
        order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
        last = n if generator is None else n // batch * batch
        for start in range(0, last, batch):
            members = order[start : start + batch]
            inputs = images[members].contiguous(memory_format=torch.channels_last)
            yield Batch(inputs, {"label": labels[members]})

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        return functional.cross_entropy(output, batch.targets["label"])

    @torch.no_grad()
    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        """Return top1 in percent."""
        batch = next(self.batches(split, shape, SIZES[split]))
        hits = model(batch.inputs).argmax(1) == batch.targets["label"]
        return {"top1": 100.0 * hits.float().mean().item()}

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Draw nothing: a pattern under noise is nothing to look at."""
        return []
