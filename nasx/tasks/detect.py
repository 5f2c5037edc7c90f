"""Detection: finding objects of several classes, and the boxes around them, on photographs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.shape import Boxes, Shape, TaskShape
from nasx.tasks.base import Batch, Split
from nasx.tasks.boxed import BoxedData, Reals
from nasx.tasks.boxpictures import SCENES, Drawn, sure_from, write_boxes
from nasx.tasks.boxsizes import SizeBin
from nasx.tasks.boxvary import VISIBLE, Draws, Vary, draw, in_view, moved, moved_boxes
from nasx.tasks.data import Indices
from nasx.tasks.dense import Truth, detection_loss, padded, points
from nasx.tasks.precision import Detections, average_precision
from nasx.tasks.resize import Resized
from nasx.tasks.suppress import Found, decode

SCORED = 32  # images per forward pass of a score
log = logging.getLogger("nasx")


class Detect:
    """Find objects of `classes` on images of `shape` (3, H, W), at the points of `strides`.

    A network answers (N, P, 4 + classes): for each point (`nasx.tasks.dense.points`) the distances
    to the left, top, right and lower side of its box in input pixels, then class logits. Inputs
    are RGB in [0, 1]. `targets["boxes"]` (M, 5) float32 has class, x0, y0, x1, y1 in input pixels,
    image after image; `targets["offsets"]` (N + 1,) int64 where each begins. `targets["ignored"]`
    (K, 4) are regions that teach nothing (crowds), with `targets["ignored_offsets"]`.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        classes: int,
        load: Callable[[], BoxedData],
        *,
        strides: tuple[int, ...],
        bins: Sequence[SizeBin],
        vary: Vary | None = None,
    ) -> None:
        self.name = name
        self.shape = TaskShape("detect", shape, Boxes(classes, strides))
        self.boxes = Boxes(classes, strides)
        self.load = load
        self.bins = tuple(bins)
        self.vary = vary or Vary()
        self.metrics: tuple[str, ...] = ("ap50", "ap", *(one.name for one in bins))
        self._resized: dict[Split, Resized] = {}

    @cached_property
    def data(self) -> BoxedData:
        """Return the three splits; the first call may decode or compose them."""
        data = self.load()
        for held in data.splits.values():
            _, height, width, channels = held.images.shape
            if (channels, height, width) != self.shape.input:
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
        return len(self.data.splits[split].images)

    def fingerprint(self) -> str:
        """Return 16 hex digits over pixels, boxes, splits and classes; tell what is odd."""
        for said in self.data.warnings:
            log.warning("%s: %s", self.name, said)
        return self.data.fingerprint()

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Yield one pass over a split; see `Task.batches`.

        `generator` gives one number, the seed of the whole pass.
        """
        images, size = self._at(split, shape), (shape[1], shape[2])
        count = self.size(split)
        if augment and generator is None:
            raise ValueError("augmentation needs a generator")
        draws = None
        order: Indices = np.arange(count)
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
            of_pass = torch.Generator().manual_seed(seed)
            order = torch.randperm(count, generator=of_pass).numpy()[: count // batch * batch]
            draws = draw(self.vary, len(order), of_pass) if augment else None
        for start in range(0, len(order), batch):
            now = slice(start, start + batch)
            taken = torch.from_numpy(images.take(order[now]))
            inputs = taken.float().mul_(1 / 255).permute(0, 3, 1, 2)
            some = None if draws is None else draws.rows(now)
            if some is not None:
                inputs = moved(inputs, some).contiguous(memory_format=torch.channels_last)
            yield Batch(inputs, self._targets(split, order[now], size, some))

    def _at(self, split: Split, shape: Shape) -> Resized:
        if len(shape) != 3 or shape[0] != 3 or min(shape) < 1:
            raise NasxError(
                f"task '{self.name}' gives RGB images, not inputs of shape {tuple(shape)}; "
                "set the space's input_shape"
            )
        held = self._resized.get(split)
        if held is None or held.size != shape[1:]:
            held = Resized(self.data.splits[split].images, shape[1], shape[2])
            self._resized[split] = held
        return held

    def _targets(
        self, split: Split, order: Indices, size: tuple[int, int], draws: Draws | None
    ) -> dict[str, Tensor]:
        """Return the boxes of some images at an input size."""
        held = self.data.splits[split]
        counts = np.diff(held.offsets)[order]
        starts = np.repeat(held.offsets[order] - np.cumsum(counts) + counts, counts)
        rows = starts + np.arange(len(starts))
        across = size[1] / held.images.shape[2], size[0] / held.images.shape[1]
        corners = torch.from_numpy(self._stored[split][rows] * np.tile(across, 2)).float()
        image = torch.from_numpy(np.repeat(np.arange(len(order)), counts))
        ignored = torch.from_numpy(held.crowd[rows])
        if draws is not None:
            corners, share = in_view(moved_boxes(corners, image, draws, size), size)
            ignored = ignored | (share < VISIBLE)
        labels = torch.from_numpy(held.labels[rows]).float()
        plain = torch.cat([labels[:, None], corners], dim=1)
        return {
            "boxes": plain[~ignored],
            "offsets": _offsets(image[~ignored], len(order)),
            "ignored": corners[ignored],
            "ignored_offsets": _offsets(image[ignored], len(order)),
        }

    @cached_property
    def _stored(self) -> dict[Split, Reals]:
        return {split: held.stored() for split, held in self.data.splits.items()}

    def preprocessing(self, shape: Shape) -> dict[str, Any]:
        """Return what makes an image an input, and an answer boxes; and the class names."""
        return {
            "objects": "RGB in [0, 1]: every channel of 8 bits divided by 255, resized to fit "
            f"{shape[1]} x {shape[2]} pixels (height x width) in proportion, at the top left.",
            "strides": list(self.boxes.strides),
            "classes": list(self.data.classes),
        }

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return focal loss of the classes plus 1 - GIoU of the boxes (`nasx.tasks.dense`)."""
        rows = self._points(output, batch.inputs)
        boxes = padded(batch.targets["boxes"], batch.targets["offsets"], -1.0)
        none = padded(batch.targets["ignored"], batch.targets["ignored_offsets"], float("nan"))
        truth = Truth(boxes[..., 1:], boxes[..., 0].long(), none)
        return detection_loss(output, rows, truth)

    def _points(self, output: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        height, width = inputs.shape[-2:]
        places, steps = points((height, width), self.boxes.strides)
        wanted = (len(inputs), len(places), 4 + self.boxes.classes)
        if tuple(output.shape) != wanted:
            raise NasxError(
                f"task '{self.name}': the network turns {tuple(inputs.shape)} into "
                f"{tuple(output.shape)}, wanted {wanted}: four distances and "
                f"{self.boxes.classes} classes at each point of strides {self.boxes.strides}"
            )
        return places.to(output.device), steps.to(output.device)

    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        """Return ap50, ap and the AP of each size bin in percent; NaN when an answer is not finite.

        A bin in which the split has no object has no score.
        """
        held = self.data.splits[split]
        found = self._found(model, split, shape)
        if not found:
            return dict.fromkeys(self.metrics, float("nan"))
        each = [len(one.chances) for one in found]
        image: Indices = np.repeat(np.arange(len(found)), each)
        corners = self._original(torch.cat([one.corners for one in found]), image, split, shape)
        labels = torch.cat([one.labels for one in found]).numpy()
        chances = torch.cat([one.chances for one in found]).double().numpy()
        detections = Detections(image, labels, chances, corners)
        return average_precision(held, detections, self.boxes.classes, self.bins)

    def _found(self, model: nn.Module, split: Split, shape: Shape) -> list[Found]:
        """Return the boxes found on each image of a split; none where an answer is not finite."""
        found: list[Found] = []
        for batch, output in self._answers(model, split, shape):
            if not bool(torch.isfinite(output).all()):
                return []
            places, _ = self._points(output, batch.inputs)
            found += decode(output, places, (shape[1], shape[2]))
        return found

    @torch.no_grad()
    def _answers(
        self, model: nn.Module, split: Split, shape: Shape
    ) -> Iterator[tuple[Batch, Tensor]]:
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        for batch in self.batches(split, shape, SCORED):
            yield batch, model(batch.inputs.to(device)).float().cpu()

    def _original(self, corners: Tensor, image: Indices, split: Split, shape: Shape) -> Reals:
        """Return corners (n, 4) of an input of `shape` in pixels of the original images."""
        held = self.data.splits[split]
        across = held.images.shape[2] / shape[2], held.images.shape[1] / shape[1]
        plain = corners.double().numpy() * np.tile(across, 2) / held.scales[image, None]
        bound = held.sizes[image][:, [1, 0, 1, 0]]
        clipped: Reals = np.minimum(plain, bound)
        return clipped

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Write up to four valid images with objects: what is found beside what is there."""
        held = self.data.splits["valid"]
        some = np.flatnonzero(np.diff(held.offsets))
        if not len(some):
            return []
        picked = np.linspace(0, len(some) - 1, min(k, SCENES, len(some))).round().astype(int)
        found = self._found(model, "valid", shape)
        if not found:
            return []
        answered = [self._answered(one, shape) for one in found]
        there = [self._there(row) for row in range(len(found))]
        least = sure_from(answered, there)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for row in some[picked].tolist():
            path = folder / f"valid-{row:05d}.png"
            # Of the stored image, what is no grey beside it.
            high, wide = np.rint(held.sizes[row] * held.scales[row]).astype(int)
            image = held.images[row][:high, :wide]
            both = there[row], answered[row]
            write_boxes(path, held.names[row], image, *both, self.data.classes, least)
            written.append(path)
        return written

    def _answered(self, one: Found, shape: Shape) -> Drawn:
        """Return the boxes found on a valid image, in its stored pixels."""
        stored = self.data.splits["valid"].images.shape
        across = stored[2] / shape[2], stored[1] / shape[1]
        corners = one.corners.double().numpy() * np.tile(across, 2)
        return Drawn(corners, one.labels.numpy(), one.chances.double().numpy())

    def _there(self, row: int) -> Drawn:
        held = self.data.splits["valid"]
        rows = slice(held.offsets[row], held.offsets[row + 1])
        plain = ~held.crowd[rows]
        labels = held.labels[rows][plain]
        return Drawn(self._stored["valid"][rows][plain], labels, np.ones(len(labels)))


def _offsets(image: Tensor, count: int) -> Tensor:
    """Return where each of `count` images begins among rows that belong to `image` (M,)."""
    counts = torch.bincount(image, minlength=count)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
