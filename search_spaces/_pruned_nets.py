"""The networks that are pruned, and what they cost at any widths, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._backbones import network, start
from search_spaces._bases import micro, scaled
from search_spaces._coupling import Channels, Mode, coupled
from search_spaces._resnets import ResNetPlan, cifar_repeats, large_resnet, resnet
from search_spaces._surgery import slim

STAGES = {
    "micro": 2, "resnet20": 3, "resnet32": 3, "resnet56": 3,
    "resnet18": 4, "resnet34": 4, "resnet50": 4, "resnet101": 4,
}  # fmt: skip


class Dense(NamedTuple):
    """One dense network: a backbone at a width, for a task."""

    backbone: str
    width: float
    shape: TaskShape

    def network(self) -> nn.Module:
        """Return it untrained: (N, C, S, S) to (N, classes) logits."""
        inputs, classes = self.shape.input[0], self.shape.classes
        if self.backbone == "micro":
            return network(scaled(micro(self.shape), self.width, 1.0))
        depth = int(self.backbone.removeprefix("resnet"))
        if STAGES[self.backbone] == 3:
            wide = max(4, round(16 * self.width))
            # The published counts are of shortcuts without BatchNorm.
            return resnet(ResNetPlan(inputs, classes, cifar_repeats(depth), wide, shortcut="bare"))
        plan = large_resnet(depth, inputs, classes)
        return resnet(replace(plan, width=max(4, round(plan.width * self.width))))


class Product(NamedTuple):
    """MACs of one layer: `area` per pair of an input and an output channel, and whose these are.

    `reads` and `writes` name the sets; "" where the channels are not to be pruned.
    """

    area: int
    inputs: int
    outputs: int
    reads: str
    writes: str


@lru_cache(maxsize=64)
def sets_of(dense: Dense, mode: Mode) -> tuple[Channels, ...]:
    """Return what can be pruned; nothing where the mode finds nothing in this backbone."""
    with torch.device("meta"):
        model = dense.network()
    try:
        return coupled(model, mode)
    except SpaceError:
        return ()


@lru_cache(maxsize=64)
def products_of(dense: Dense, mode: Mode) -> tuple[Product, ...]:
    """Return the layers' MACs as products of widths."""
    with torch.device("meta"):
        model = dense.network().eval()
    reads = {layer: s for s in sets_of(dense, mode) for layer in s.readers}
    writes = {layer: s for s in sets_of(dense, mode) for layer in s.convs}
    found = []

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        taps = 1
        if isinstance(layer, nn.Conv2d):
            taps = layer.kernel_size[0] * layer.kernel_size[1] * output.shape[2] * output.shape[3]
        outputs, inputs = layer.get_parameter("weight").shape[:2]
        a, b = reads.get(name), writes.get(name)
        found.append(Product(taps, inputs, outputs, a.name if a else "", b.name if b else ""))

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda m, i, o, name=name: note(name, m, o))
    model(torch.empty(1, *dense.shape.input, device="meta"))
    return tuple(found)


def macs_of(dense: Dense, mode: Mode, counts: Mapping[str, int]) -> int:
    """Return the MACs of the network with so many channels left in each set."""
    sizes = {s.name: s.size for s in sets_of(dense, mode)}
    total = 0
    for p in products_of(dense, mode):
        inputs, outputs = p.inputs, p.outputs
        if p.reads:
            inputs = inputs * counts[p.reads] // sizes[p.reads]
        if p.writes:
            outputs = outputs * counts[p.writes] // sizes[p.writes]
        total += p.area * inputs * outputs
    return total


def slimmed(dense: Dense, mode: Mode, counts: Mapping[str, int]) -> nn.Module:
    """Return the untrained network of these widths, its weights drawn for them."""
    model = slim(dense.network(), {name: range(n) for name, n in counts.items()}, mode)
    for layer in model.modules():
        start(layer, "in")
    return model


def uniform(dense: Dense, macs: int) -> dict[str, int]:
    """Return widths all narrowed alike, stem and streams too, that come closest below `macs`.

    One share for all sets leaves gaps of several percent: what is missing is filled up by single
    channels, the relatively narrowest sets first.
    """
    sets = sets_of(dense, "group")

    def at(share: float) -> dict[str, int]:
        return {s.name: max(1, int(share * s.size)) for s in sets}

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if macs_of(dense, "group", at(middle)) <= macs:
            low = middle
        else:
            high = middle
    counts = at(low)
    while True:
        for s in sorted(sets, key=lambda s: counts[s.name] / s.size):
            more = {**counts, s.name: counts[s.name] + 1}
            if counts[s.name] < s.size and macs_of(dense, "group", more) <= macs:
                counts = more
                break
        else:
            return counts
