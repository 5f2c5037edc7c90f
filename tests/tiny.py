"""A small real task and a small space: scikit-learn's digits and a convolutional network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from nasx.recipe import Phase, Recipe, Step, adamw
from nasx.shape import Shape, TaskShape
from nasx.space import Space, integer, real
from nasx.tasks.base import Batch, Split
from nasx.training import Training


@cache
def arrays() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    pixels = torch.from_numpy(images[order].astype(np.float32) / 8 - 1).reshape(-1, 1, 8, 8)
    return pixels, torch.from_numpy(labels[order].astype(np.int64))


class TinyDigits:
    """1197 / 300 / 300 digits of 8 x 8."""

    name = "tiny-digits"
    shape = TaskShape("classify", (1, 8, 8), 10)
    metrics = ("top1",)
    spans: ClassVar = {"train": (0, 1197), "valid": (1197, 1497), "test": (1497, 1797)}

    def size(self, split: Split) -> int:
        return self.spans[split][1] - self.spans[split][0]

    def fingerprint(self) -> str:
        return "sklearn-digits"

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        pixels, labels = (a[slice(*self.spans[split])] for a in arrays())
        n = len(pixels)
        order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
        for some in order.split(batch):
            if generator is not None and len(some) < batch:
                return
            inputs = pixels[some].contiguous(memory_format=torch.channels_last)
            if augment and generator is not None:
                inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator)
            yield Batch(inputs, {"label": labels[some]})

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(output, batch.targets["label"])

    @torch.no_grad()
    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        right = sum(
            int((model(b.inputs).argmax(1) == b.targets["label"]).sum())
            for b in self.batches(split, shape, 100)
        )
        return {"top1": 100 * right / self.size(split)}

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        return []


class Net(nn.Module):
    """Two convolutions with BatchNorm, dropout and a classifier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.features(inputs).mean((2, 3))
        output: Tensor = self.head(self.dropout(features))
        return output


class Tiny(Space):
    """A candidate whose width and learning rate can be chosen."""

    name = "tiny"
    training = ("rate",)
    width: int = integer(4, 32, step=4, default=8)
    rate: float = real(1e-4, 1e9, log=True, default=1e-2)

    def build(self, shape: TaskShape) -> nn.Module:
        return Net(self.width)

    def recipe(self, shape: TaskShape) -> Recipe:
        return Recipe((Phase("train", 1.0, (Step(optimizer=adamw(self.rate)),)),), batch=64)


def finish(training: Training, until: int | None = None) -> Training:
    """Run a training to `until` (default: its end) and return it."""
    for _ in training.run(training.full if until is None else until):
        pass
    return training
