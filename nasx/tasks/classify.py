"""Classification of images: batches, cross-entropy and top-1 accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.shape import Shape, TaskShape
from nasx.tasks.augment import Augment, draw, move
from nasx.tasks.base import Batch, Split
from nasx.tasks.cache import Bytes
from nasx.tasks.data import Dataset
from nasx.tasks.pictures import write_picture
from nasx.tasks.resize import RESIZING, Resized

Floats = npt.NDArray[np.floating[Any]]

SCORED = 256  # images per forward pass of a score
STATISTICS = 1024  # training images behind the channel means


class Classify:
    """Tell `classes` apart in images of `shape` (C, H, W).

    The data are loaded by `load` when they are first needed, so that a study can be checked
    without them. `smoothing` is the share of the target given to all classes alike (Szegedy et
    al., arXiv 1512.00567, section 7).
    """

    metrics: tuple[str, ...] = ("top1",)

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        classes: int,
        load: Callable[[], Dataset],
        *,
        augment: Augment | None = None,
        smoothing: float = 0.0,
    ) -> None:
        self.name = name
        self.shape = TaskShape("classify", shape, classes)
        self.load = load
        self.augment = augment or Augment()
        self.smoothing = smoothing
        self._resized: dict[Split, Resized] = {}

    @cached_property
    def data(self) -> Dataset:
        """Return the three splits; the first call may decode or compose them."""
        data = self.load()
        shape, classes = self.shape.input, self.shape.classes
        for held in data.splits.values():
            _, height, width, channels = held.images.shape
            if (channels, height, width) != shape or len(data.classes) != classes:
                raise NasxError(
                    f"task '{self.name}': the data changed while they were being read; "
                    "run the command again"
                )
        return data

    def __getstate__(self) -> dict[str, Any]:
        # What goes to another process is how to load the data, never the data.
        return {k: v for k, v in self.__dict__.items() if k != "data"} | {"_resized": {}}

    def size(self, split: Split) -> int:
        """Return the number of images in a split."""
        return len(self.data.splits[split].labels)

    def fingerprint(self) -> str:
        """Return 16 hex digits over pixels, labels, splits and class names."""
        return self.data.fingerprint()

    @cached_property
    def _normal(self) -> tuple[Floats, Floats]:
        """Return mean and deviation (C,) of evenly spaced training images, in [0, 255]."""
        images = self.data.splits["train"].images
        some = images[:: -(-len(images) // STATISTICS)]
        level = np.arange(256.0)
        # Counting the 256 levels first is exact and ten times as fast as sums of floats.
        counts = [np.bincount(some[..., c].ravel(), minlength=256) for c in range(some.shape[3])]
        share = np.array(counts) / np.sum(counts[0])
        mean = share @ level
        deviation = np.sqrt(share @ level**2 - mean**2)
        return mean, np.maximum(deviation, 1.0)

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Yield one pass over a split; see `Task.batches`.

        `generator` gives one number, the seed of the whole pass: from the generator's state before
        a pass all its batches come again. Inputs have mean 0 and deviation 1 per channel of the
        training split.
        """
        images, (channels, height, width) = self._at(split, shape), shape
        labels = self.data.splits[split].labels
        count = len(labels)
        if augment and generator is None:
            raise ValueError("augmentation needs a generator")
        if generator is None:
            order, draws = np.arange(count), None
        else:
            seed = int(torch.randint(2**62, (), generator=generator))
            of_pass = torch.Generator().manual_seed(seed)
            order = torch.randperm(count, generator=of_pass).numpy()[: count // batch * batch]
            size = (channels, height, width)
            draws = draw(self.augment, len(order), size, of_pass) if augment else None
        mean, deviation = self._normal
        for start in range(0, len(order), batch):
            now = slice(start, start + batch)
            taken = images.take(order[now])
            scale = (1 / deviation)[None].astype(np.float32)
            if draws is not None:
                taken = move(taken, draws.shifts[now], draws.flips[now])
                scale = scale * draws.gains[now]
            inputs = _normalised(taken, scale, (-mean / deviation).astype(np.float32))
            yield Batch(inputs, {"label": torch.from_numpy(labels[order[now]])})

    def _at(self, split: Split, shape: Shape) -> Resized:
        if len(shape) != 3 or shape[0] != self.shape.input[0] or min(shape) < 1:
            raise NasxError(
                f"task '{self.name}' gives images of {self.shape.input[0]} channels, "
                f"not inputs of shape {tuple(shape)}; set the space's input_shape"
            )
        held = self._resized.get(split)
        if held is None or held.size != shape[1:]:
            # One size per split: the next candidate asks for another, and memory is shared.
            held = Resized(self.data.splits[split].images, shape[1], shape[2])
            self._resized[split] = held
        return held

    def preprocessing(self, shape: Shape) -> dict[str, Any]:
        """Return what makes an image an input: resize, mean, deviation (0 to 255), classes."""
        mean, deviation = self._normal
        return {
            "resize": f"Resize to {shape[1]} x {shape[2]} pixels (height x width), {RESIZING}.",
            "mean": [float(m) for m in mean],
            "deviation": [float(d) for d in deviation],
            "classes": list(self.data.classes),
        }

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of logits (N, classes)."""
        return F.cross_entropy(output, batch.targets["label"], label_smoothing=self.smoothing)

    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        """Return top1 in percent; NaN when any logit is not finite."""
        right, finite = 0, True
        for batch, logits in self._answers(model, split, shape):
            right += int((logits.argmax(1) == batch.targets["label"]).sum())
            finite = finite and bool(torch.isfinite(logits).all())
        return {"top1": 100.0 * right / self.size(split) if finite else float("nan")}

    def _answers(
        self, model: nn.Module, split: Split, shape: Shape
    ) -> Iterator[tuple[Batch, Tensor]]:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        for batch in self.batches(split, shape, SCORED):
            with torch.no_grad():
                yield batch, model(batch.inputs.to(device)).cpu()

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Write k evenly spaced valid images with their true and predicted class into `folder`."""
        held, names = self.data.splits["valid"], self.data.classes
        chosen = np.unique(np.linspace(0, self.size("valid") - 1, num=k).astype(int))
        said = torch.cat([o.argmax(1) for _, o in self._answers(model, "valid", shape)]).numpy()
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for index in chosen.tolist():
            path = folder / f"valid-{index:05d}.png"
            true, answer = int(held.labels[index]), int(said[index])
            write_picture(path, held.images[index], names[true], names[answer])
            written.append(path)
        return written


def _normalised(images: Bytes, scale: Floats, offset: Floats) -> Tensor:
    """Return (N, C, H, W) float32 channels_last: images (N, H, W, C) * scale (N|1, C) + offset."""
    count, height, width, channels = images.shape
    # Whole rows are scaled at once: three channels as the inner dimension would be twice as slow.
    rows = torch.from_numpy(images).view(count, height, width * channels).float()
    gain = torch.from_numpy(np.tile(scale, width)).unsqueeze(1)
    shift = torch.from_numpy(np.tile(offset, width))
    return rows.mul_(gain).add_(shift).view(count, height, width, channels).permute(0, 3, 1, 2)
