"""What an export needs of single heads: samples of each, and what is known of one alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nasx.axes import AXES
from nasx.cost.card import card_of
from nasx.errors import NasxError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.cost.energy import Model
    from nasx.modelcard import About
    from nasx.shape import Shape
    from nasx.tasks.base import Batch, Split, Task

READ, DRAWN = 256, 16  # samples of a batch while they are picked; a batch has one head


def samples_by_head(
    task: Task, shape: Shape, heads: Sequence[str], count: int
) -> dict[str, Tensor]:
    """Return `count` inputs (N, C, H, W) of each head, evenly spaced over its part of valid.

    Where that has fewer, all of it, and the rest from the training split, drawn and not augmented.
    """

    def passes(split: Split) -> Iterator[Batch]:
        if split == "train":
            drawn = torch.Generator().manual_seed(0)
            return task.batches(split, shape, min(DRAWN, task.size(split)), drawn)
        return task.batches(split, shape, READ)

    sizes = Counter[str]()
    for batch in passes("valid"):
        sizes[batch.head] += len(batch.inputs)
    picked: dict[str, list[Tensor]] = {head: [] for head in heads}
    starts = Counter[str]()
    for batch in passes("valid"):
        start = starts[batch.head]
        starts[batch.head] += len(batch.inputs)
        if batch.head in picked:
            size = sizes[batch.head]
            wanted = torch.linspace(0, size - 1, min(count, size)).round().long()
            here = wanted[(wanted >= start) & (wanted < starts[batch.head])]
            picked[batch.head].append(batch.inputs[here - start])
    left = {head: count - min(count, sizes[head]) for head in heads}
    for batch in passes("train") if any(left.values()) else ():
        some = batch.inputs[: left.get(batch.head, 0)]
        if len(some):
            picked[batch.head].append(some)
            left[batch.head] -= len(some)
    for head, parts in picked.items():
        if not any(map(len, parts)):
            raise NasxError(
                f"task '{task.name}' has no sample for the head '{head}' to check files"
            )
    return {head: torch.cat(parts) for head, parts in picked.items()}


def about_head(about: About, network: nn.Module, shape: Shape, head: str, energy: Model) -> About:
    """Return what is known of one head of a network alone: its scores, its costs.

    Latency was measured of the first head; of another one it is not known.
    """
    card = card_of(network, shape, energy=energy)
    static = [name for name in about.costs if AXES[name].kind == "static"]
    costs = {name: card.axis(name) for name in static}
    known = dict(about.preprocessing)
    words = [str(words) for words in known.get("spoilt", ())]
    mine = [i for i, said in enumerate(words) if said.partition(":")[0] == head]
    known |= {
        name: [known[name][i] for i in mine] for name in ("spoilt", "scales") if name in known
    }
    tail = f"_{head}"
    scores = {
        split: {
            n.removesuffix(tail): v for n, v in getattr(about, split).items() if n.endswith(tail)
        }
        for split in ("valid", "test")
    }
    return replace(
        about,
        preprocessing=known,
        valid=scores["valid"],
        test=scores["test"],
        costs={name: value for name, value in costs.items() if value is not None},
        latency=about.latency if mine == [0] else None,
    )
