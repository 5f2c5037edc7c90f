"""Start a network with ghosts from a trained dense one: which filters stay, and in what order.

    inherit(model, dense, "cluster", seed)     # weights into `model`, in place

A ghost layer keeps some of the dense layer's filters. k-means on the filters gives one group for
each; the member nearest to a group's middle stays, and the ghosts that copy it stand for the
group's others. The next layer's input channels are put into the same order.

Channels inside a block are ordered for each block. The residual stream has one order for all,
because every block adds to it: its channels are grouped by all their filters at once.
Source: GhostSR (arXiv:2101.08525), section on intrinsic features; the stream's order is ours.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nasx.errors import SpaceError
from search_spaces._layers.shift import Ghosts
from search_spaces._sr_nets import Block, Edsr

Start = Literal["cluster", "random"]


def grouped(filters: Tensor, keep: int, seed: int) -> tuple[list[int], list[int]]:
    """Return which of `filters` (O, ...) stay, `keep` of them, and the group of every filter.

    Groups are numbered as the filters that stay. Where filters are equal, groups may be empty;
    filters of the largest ones stay instead.
    """
    from sklearn.cluster import KMeans

    points = filters.detach().flatten(1).double().cpu().numpy()
    distinct = len(np.unique(points, axis=0))
    found = KMeans(min(keep, distinct), n_init=4, random_state=seed).fit(points)
    labels = found.labels_.astype(int)
    stay: list[int] = []
    for group, middle in enumerate(found.cluster_centers_):
        members = np.flatnonzero(labels == group)
        distance = ((points[members] - middle) ** 2).sum(1)
        stay.append(int(members[distance.argmin()]))
    while len(stay) < keep:  # copies of one filter: each is a group of its own
        sizes = np.bincount(labels)
        spare = next(int(i) for i in np.flatnonzero(labels == sizes.argmax()) if i not in stay)
        labels[spare] = len(stay)
        stay.append(spare)
    order = sorted(range(keep), key=lambda group: stay[group])
    renamed = {group: i for i, group in enumerate(order)}
    return [stay[group] for group in order], [renamed[int(group)] for group in labels]


def ordered(filters: Tensor, keep: int, start: Start, seed: int) -> list[int]:
    """Return the order in which dense channels (O, ...) stand as maps and ghosts: a permutation.

    The first `keep` stay. Each ghost slot, which copies map i modulo `keep`, gets a channel that
    is left: of that map's group while there are any, else the most similar one.
    """
    count = len(filters)
    if start == "random":
        drawn = torch.Generator().manual_seed(seed)
        return [int(i) for i in torch.randperm(count, generator=drawn)]
    stay, groups = grouped(filters, keep, seed)
    left = [i for i in range(count) if i not in stay]
    flat = filters.detach().flatten(1).double().cpu()
    apart = torch.cdist(flat, flat[stay])
    slots: list[int | None] = [None] * len(left)
    for i in list(left):  # of the group first, so that a likeness is not given away
        free = [s for s in range(len(slots)) if s % keep == groups[i] and slots[s] is None]
        if free:
            slots[free[0]] = i
            left.remove(i)
    for slot, held in enumerate(slots):
        if held is None:
            nearest = min(left, key=lambda i: float(apart[i, slot % keep]))
            slots[slot] = nearest
            left.remove(nearest)
    return stay + [i for i in slots if i is not None]


@torch.no_grad()
def inherit(model: Edsr, dense: Edsr, start: Start, seed: int) -> None:
    """Fill `model` with the weights of `dense`, a network of the same plan without ghosts.

    Ghosts that are convolutions start as plain copies. SpaceError where a layer has no twin.
    """
    pairs = list(zip(_blocks(model), _blocks(dense), strict=True))
    stream = _stream_order(pairs, start, seed)
    _fill(model.head, dense.head, None, stream)
    for mine, theirs in pairs:
        inner = list(range(_plain(theirs.conv1).out_channels))
        if isinstance(mine.conv1, Ghosts):
            filters = _plain(theirs.conv1).weight
            inner = ordered(filters, mine.conv1.conv.out_channels, start, seed)
        _fill(mine.conv1, theirs.conv1, stream, inner)
        _fill(mine.conv2, theirs.conv2, inner, stream)
    _fill(model.body.get_submodule("end"), dense.body.get_submodule("end"), stream, stream)
    before: list[int] | None = stream
    for own, given in zip(model.up, dense.up, strict=True):
        if isinstance(given, nn.Conv2d):
            _fill(own, given, before, None)
            before = None
    _fill(model.tail, dense.tail, before, None)


def _blocks(model: Edsr) -> list[Block]:
    return [block for block in model.body if isinstance(block, Block)]


def _stream_order(pairs: list[tuple[Block, Block]], start: Start, seed: int) -> list[int]:
    """Return the order of the residual stream: by the filters that write it with ghosts."""
    width = _plain(pairs[0][1].conv2).out_channels
    found = [
        (mine.conv2.conv.out_channels, _plain(theirs.conv2).weight.flatten(1))
        for mine, theirs in pairs
        if isinstance(mine.conv2, Ghosts)
    ]
    if not found:
        return list(range(width))
    keep = min(maps for maps, _ in found)
    return ordered(torch.cat([filters for _, filters in found], 1), keep, start, seed)


def _plain(layer: nn.Module) -> nn.Conv2d:
    if not isinstance(layer, nn.Conv2d):
        raise SpaceError(f"a dense network has convolutions, not {type(layer).__name__}")
    return layer


def _fill(
    mine: nn.Module, given: nn.Module, inputs: list[int] | None, outputs: list[int] | None
) -> None:
    """Copy a convolution with its channels in the orders given; of ghosts' outputs the maps."""
    theirs = _plain(given)
    weight, bias = theirs.weight, theirs.bias
    if outputs is not None:
        weight, bias = weight[outputs], None if bias is None else bias[outputs]
    if inputs is not None:
        weight = weight[:, inputs]
    own = mine.conv if isinstance(mine, Ghosts) else _plain(mine)
    own.weight.copy_(weight[: own.out_channels])
    if own.bias is not None and bias is not None:
        own.bias.copy_(bias[: own.out_channels])
    if isinstance(mine, Ghosts) and mine.cheap is not None:
        mine.cheap.weight.zero_()
        mine.cheap.weight[:, :, 1, 1] = 1
