"""Restoration of photographs: larger, without noise, without rendered streaks of rain."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.shape import Shape, TaskShape
from nasx.tasks.base import Batch, Split
from nasx.tasks.cache import Bytes, digest
from nasx.tasks.crops import choose, write_strip
from nasx.tasks.data import SPLITS
from nasx.tasks.degrade import SIGMA, Degradation, mixed
from nasx.tasks.fidelity import eight_bits, fidelity
from nasx.tasks.mixture import crops_of, is_mixture
from nasx.tasks.patches import Pairs, covering, drawn, grid, spelt, spoilt
from nasx.tasks.photographs import Photographs
from nasx.tasks.whole import whole

SCORES = ("psnr", "ssim")
log = logging.getLogger("nasx")


@dataclass(frozen=True)
class Held:
    """Three splits of photographs, and one sentence for each image that had to be left out."""

    splits: Mapping[Split, Photographs]
    left_out: tuple[str, ...] = ()


Load = Callable[[], Held]


class Restore:
    """Undo degradations of RGB photographs, one for each head of the network.

    Inputs are (N, 3, h, w) float32 in [0, 1], `targets["image"]` the true images (N, 3, s*h, s*w).
    `patch` is the side of a training input, `patches` the number of them in a pass. Every split is
    loaded when it is first needed. Training may also see a view that mixes degradations, the task's
    own or others (`nasx.tasks.mixture`); `sigma` is the noise of "denoise" there.
    """

    def __init__(
        self,
        name: str,
        heads: Sequence[Degradation],
        load: Load,
        *,
        patch: int = 32,
        patches: int = 2000,
        sigma: tuple[float, float] = SIGMA,
    ) -> None:
        self.name, self.sigma = name, sigma
        self.heads = tuple(heads)
        self.shape = TaskShape("restore", (3, patch, patch), tuple(h.name for h in heads))
        self.load = load
        self.patches = patches
        each = [h.name for h in heads] if len(heads) > 1 else []
        self.metrics: tuple[str, ...] = (
            *SCORES,
            *(f"{score}_{name}" for name in each for score in SCORES),
        )
        self._pairs: dict[tuple[Split, str], Pairs] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What goes to another process is how to load the data, never the data.
        return {k: v for k, v in self.__dict__.items() if k != "data"} | {"_pairs": {}}

    @cached_property
    def data(self) -> Held:
        """Return the three splits; the first call may decode them."""
        return self.load()

    def size(self, split: Split) -> int:
        """Return how many patches a pass has; those of valid and test cover the photographs."""
        if split == "train" or is_mixture(split):
            return self.patches
        sides = (self.shape.side, self.shape.side)
        sizes = self.data.splits[split].sizes
        return sum(
            math.prod(grid((height // head.scale, width // head.scale), sides))
            for head in self.heads
            for height, width in sizes
        )

    def demand_view(self, view: str) -> None:
        """Raise NasxError where there is no such view to train on: "train", or a mixture."""
        if is_mixture(view):
            mixed(view, self.sigma)
        elif view != "train":
            raise NasxError(
                f"task '{self.name}' has no data view '{view}' to train on; its phases may have "
                "'train' or a mixture of degradations (nasx.tasks.mixture)"
            )

    def scored(self, split: Split) -> int:
        """Return how many photographs a score of a split is the mean over."""
        return len(self.data.splits[split])

    def fingerprint(self) -> str:
        """Return 16 hex digits over pixels, splits and degradations; name what was left out.

        A study asks for it once, before anything is trained.
        """
        for said in self.data.left_out:
            log.warning("%s: left out: %s", self.name, said)
        parts: list[object] = []
        for split in SPLITS:
            parts += [split, self.data.splits[split].fingerprint()]
        return digest(*parts, *(spelt(head) for head in self.heads))

    def pairs(self, split: Split, head: Degradation) -> Pairs:
        """Return a split with its spoilt images, made once and cached.

        Noise and streaks are drawn from each photograph's own seed, so valid and test never vary;
        in training they are drawn afresh and not held.
        """
        if (split, head.name) not in self._pairs:
            truth = self.data.splits[split]
            fixed = split != "train" or not head.drawn
            self._pairs[split, head.name] = Pairs(
                truth, spoilt(truth, head) if fixed else None, head
            )
        return self._pairs[split, head.name]

    def batches(
        self,
        split: Split,
        shape: Shape,
        batch: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Yield one pass over a split in patches of `shape` (3, h, w); see `Task.batches`.

        A batch has one degradation. Patches of train, and of any split with a generator, lie in
        random places; `augment` turns and mirrors them. Otherwise they cover the photographs, head
        by head. `generator` gives one number, the seed of the whole pass. `split` may be a mixture.
        """
        if augment and generator is None:
            raise ValueError("augmentation needs a generator")
        sides = self._sides(shape)
        mixes = mixed(split, self.sigma) if is_mixture(split) else {}
        held: Split = "train" if mixes else split
        parts = [self.pairs(held, head) for head in mixes or self.heads]
        if held == "train" or generator is not None:
            count = self.size(split)
            seed = 0
            if generator is not None:
                seed = int(torch.randint(2**62, (), generator=generator))
                count = count // batch * batch
            of_pass = torch.Generator().manual_seed(seed)
            weights = tuple(mixes.values())
            crops = crops_of(split)
            taken = drawn(parts, sides, count, batch, of_pass, augment, weights, crops)
            for head, (inputs, truths) in taken:
                yield _batch(inputs, truths, head)
            return
        cells = (self.shape.side, self.shape.side)
        for part in parts:
            for head, (inputs, truths) in covering(part, cells, sides, batch):
                yield _batch(inputs, truths, head)

    def _sides(self, shape: Shape) -> tuple[int, int]:
        if len(shape) != 3 or shape[0] != 3 or min(shape) < 1:
            raise NasxError(
                f"task '{self.name}' gives RGB images, not inputs of shape {tuple(shape)}; "
                "set the space's input_shape"
            )
        return shape[1], shape[2]

    def preprocessing(self, shape: Shape) -> dict[str, Any]:
        """Return what makes an image an input, and an answer an image, in words."""
        return {
            "images": "RGB in [0, 1]: every channel of 8 bits divided by 255.",
            "spoilt": [head.words() for head in self.heads],
            "scales": [head.scale for head in self.heads],
        }

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the mean absolute error of images in [0, 1]."""
        truth = batch.targets["image"]
        self._demand_size(tuple(output.shape), tuple(truth.shape), batch)
        return F.l1_loss(output, truth)

    def _demand_size(self, got: Shape, wanted: Shape, batch: Batch) -> None:
        if got != wanted:
            raise NasxError(
                f"task '{self.name}': for {batch.head or self.heads[0].name} the network turns "
                f"{tuple(batch.inputs.shape)} into {tuple(got)}, wanted {tuple(wanted)}; "
                "it was built for another scale"
            )

    @torch.no_grad()
    def score(self, model: nn.Module, split: Split, shape: Shape) -> dict[str, float]:
        """Return psnr in dB and ssim of whole images, the mean over images, then over heads.

        With several heads also of each (`psnr_x2`). NaN when an answer is not finite. A network
        that says it needs one input side (`fixed_side`) answers in overlapping tiles.
        """
        return self._scores(split, lambda head, index: self.restored(model, split, head, index))

    def without_net(self, split: Split) -> dict[str, float]:
        """Return the scores of no network: bicubic enlargement, or the spoilt image itself."""

        def untouched(head: Degradation, index: int) -> Tensor:
            return images_of([head.untouched(self.pairs(split, head).input(index))])[0]

        return self._scores(split, untouched)

    def restored(self, model: nn.Module, split: Split, head: Degradation, index: int) -> Tensor:
        """Return the network's answer (3, H, W) to one whole spoilt image, on the CPU."""
        pairs = self.pairs(split, head)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        batch = Batch(images_of([pairs.input(index)]).to(device), {}, head.name)
        output = whole(model, batch, self.shape, head.scale)
        height, width = pairs.size(index)
        self._demand_size(
            tuple(output.shape), (1, 3, height * head.scale, width * head.scale), batch
        )
        return output[0].float().cpu()

    def _scores(
        self, split: Split, image: Callable[[Degradation, int], Tensor]
    ) -> dict[str, float]:
        by_head: dict[str, dict[str, float]] = {}
        for head in self.heads:
            pairs = self.pairs(split, head)
            rows = []
            for index in range(len(pairs.truth)):
                found = image(head, index)
                if not bool(torch.isfinite(found).all()):
                    return dict.fromkeys(self.metrics, float("nan"))
                height, width = found.shape[-2:]
                truth = images_of([pairs.truth.image(index)[:height, :width]])[0]
                rows.append(fidelity(found, truth, head.crop))
            by_head[head.name] = {n: float(np.mean([r[n] for r in rows])) for n in rows[0]}
        mean = {n: float(np.mean([s[n] for s in by_head.values()])) for n in SCORES}
        if len(self.heads) == 1:
            return mean
        return mean | {f"{n}_{h}": v for h, scores in by_head.items() for n, v in scores.items()}

    def illustrate(self, model: nn.Module, shape: Shape, k: int, folder: Path) -> list[Path]:
        """Write up to k PNGs of detailed crops: input, bicubic, the network's answer, the truth.

        Evenly spaced valid photographs for every head; see `nasx.tasks.crops`.
        """
        held = self.data.splits["valid"]
        each = min(len(held), -(-k // len(self.heads)))
        rows = np.linspace(0, len(held) - 1, each).round().astype(int).tolist()
        truths = [[(row, held.image(row)) for row in rows] for _ in self.heads]
        folder.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        answers: dict[tuple[str, int], Bytes] = {}
        for crop in choose(truths, self.heads, k):
            at = (crop.head.name, crop.photograph)
            if at not in answers:
                answers[at] = self._answer_bytes(model, crop.head, crop.photograph)
            spoilt_image = self.pairs("valid", crop.head).input(crop.photograph)
            path = folder / f"valid-{len(written):02d}-{crop.head.name}.png"
            images = (spoilt_image, answers[at], held.image(crop.photograph))
            write_strip(path, crop, held.names[crop.photograph], *images)
            written.append(path)
        return written

    @torch.no_grad()
    def _answer_bytes(self, model: nn.Module, head: Degradation, index: int) -> Bytes:
        answered = eight_bits(self.restored(model, "valid", head, index))
        return answered.permute(1, 2, 0).to(torch.uint8).numpy()


def _batch(inputs: list[Bytes], truths: list[Bytes], head: Degradation) -> Batch:
    return Batch(images_of(inputs), {"image": images_of(truths)}, head.name)


def images_of(images: list[Bytes]) -> Tensor:
    """Return images (H, W, 3) uint8 as (N, 3, H, W) float32 in [0, 1], channels_last."""
    held = torch.from_numpy(np.stack(images))
    return held.float().mul_(1 / 255).permute(0, 3, 1, 2)
