"""Take channels out of a network: which counts, real surgery, and the masked twin that proves it.

    sets = coupled(model, "scatter")
    counts = kept_counts(sets, 0.45)                        # {"stages.0.0.conv1": 9, ...}
    kept = {c.name: best(c, counts[c.name]) for c in sets}  # lists of channel numbers
    smaller = slim(model, kept, "scatter")

`kept` is what a recipe stores as its decision: `slim` of the untrained network with it has the
same parameters and shapes. In eval mode `slim` and `masked` compute the same.
"""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import nn

from nasx.errors import SpaceError
from search_spaces._coupling import Channels, Mode, Part, coupled
from search_spaces._layers.channels import Mask, PickedPad, Widen
from search_spaces._resnets import Pad

Snap = Literal["up", "down", "nearest"]
Kept = Mapping[str, Sequence[int]]


def kept_counts(
    sets: Sequence[Channels],
    ratio: float | Mapping[str, float],
    align: int = 1,
    snap: Snap = "up",
) -> dict[str, int]:
    """Return how many channels of each set stay: C - int(p * C), on a multiple of `align`.

    `ratio` is the share p to remove, one for all or by name (a name left out keeps all). `snap`
    says which multiple; at least one is left, and no more than there are: a set smaller than
    `align` stays whole. SpaceError for a ratio that would empty a set.
    """
    if snap not in get_args(Snap):
        raise SpaceError(f"there is no side '{snap}' to snap to: take {', '.join(get_args(Snap))}")
    if align < 1:
        raise SpaceError(f"channels cannot be aligned to {align}: take 1 or more")
    if isinstance(ratio, Mapping):
        _known([c.name for c in sets], ratio)
    counts = {}
    for c in sets:
        p = ratio.get(c.name, 0.0) if isinstance(ratio, Mapping) else ratio
        if not 0 <= p < 1:
            what = "leaves none" if p >= 1 else "is no share"
            raise SpaceError(
                f"a pruning ratio of {p} {what} of the {c.size} channels of {c.name}: take one "
                "from 0 to less than 1"
            )
        counts[c.name] = _snapped(c.size - int(p * c.size), c.size, align, snap)
    return counts


def _snapped(count: int, size: int, align: int, snap: Snap) -> int:
    if count == size:
        return size
    steps = count / align
    found = math.ceil(steps) if snap == "up" else math.floor(steps)
    if snap == "nearest":
        found = math.floor(steps + 0.5)
    return min(size, max(1, found) * align)


def slim(
    model: nn.Module, kept: Kept, mode: Mode, untouched: Collection[Part] | None = None
) -> nn.Module:
    """Return a copy of a network with only the `kept` channels of each set, its weights taken over.

    Sets that `kept` does not name stay whole. `mode` and `untouched` are those of `coupled`. All
    is checked before anything is copied: SpaceError for a name, channel or module that does not
    fit leaves no half-pruned network behind. The model itself stays as it is.
    """
    sets = coupled(model, mode, untouched)
    chosen = _checked(sets, kept)
    slimmed = copy.deepcopy(model)
    for c in sets:
        if c.name in chosen:
            _cut(slimmed, c, chosen[c.name])
    _pick_pads(slimmed, sets, chosen)
    return slimmed


def masked(
    model: nn.Module, kept: Kept, mode: Mode, untouched: Collection[Part] | None = None
) -> nn.Module:
    """Return a copy of a network that sets every channel not kept to zero, behind its BatchNorm.

    It costs what the dense one costs; `slim` must compute the same in eval mode.
    """
    sets = coupled(model, mode, untouched)
    chosen = _checked(sets, kept)
    whole = copy.deepcopy(model)
    for c in sets:
        if c.name not in chosen:
            continue
        places = [norm or conv for conv, norm in zip(c.convs, c.norms, strict=True)]
        for place in (*places, *c.pads):
            layer = whole.get_submodule(place)
            mask = _beside(whole, Mask(chosen[c.name], c.size))
            _put(whole, place, nn.Sequential(layer, mask))
    return whole


def _checked(sets: Sequence[Channels], kept: Kept) -> dict[str, list[int]]:
    """Return the kept channels of the sets that lose any, in order."""
    _known([c.name for c in sets], kept)
    chosen = {}
    for c in sets:
        here = list(kept.get(c.name, range(c.size)))
        if not here:
            raise SpaceError(f"no channel of {c.name} is kept: keep at least one of its {c.size}")
        wrong = [k for k in here if not (type(k) is int and 0 <= k < c.size)]
        if wrong or len(set(here)) < len(here):
            said = f"{wrong[0]!r} is not one of them" if wrong else "one is named twice"
            raise SpaceError(f"{c.name} has the channels 0 to {c.size - 1}: {said}")
        if len(here) < c.size:
            chosen[c.name] = sorted(here)
    return chosen


def _known(names: Sequence[str], given: Mapping[str, object]) -> None:
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names[:4])}, ..."
            raise SpaceError(f"the network has no channels '{name}' to prune; {hint}")


def _cut(model: nn.Module, c: Channels, kept: Sequence[int]) -> None:
    """Take the channels that are not kept out of a copy, and out of what reads them."""
    for conv in c.convs:
        layer = model.get_submodule(conv)
        _narrow(layer, "weight", 0, kept)
        _narrow(layer, "bias", 0, kept)
        layer.out_channels = len(kept)  # type: ignore[assignment]
    for norm in filter(None, c.norms):
        layer = model.get_submodule(norm)
        for name in ("weight", "bias", "running_mean", "running_var"):
            _narrow(layer, name, 0, kept)
        layer.num_features = len(kept)  # type: ignore[assignment]
    for reader in c.readers:
        layer = model.get_submodule(reader)
        if isinstance(layer, nn.Conv2d):
            _narrow(layer, "weight", 1, kept)
            layer.in_channels = len(kept)
        elif isinstance(layer, nn.Linear):
            each = layer.in_features // c.size  # places of a channel, where a map was flattened
            columns = [k * each + i for k in kept for i in range(each)]
            _narrow(layer, "weight", 1, columns)
            layer.in_features = len(columns)
    if c.widen:
        wide = _beside(model, Widen(kept, c.size))
        place = model.get_submodule(c.widen)
        if isinstance(place, nn.Sequential):
            place.append(wide)
        else:
            _put(model, c.widen, wide)


def _narrow(layer: nn.Module, name: str, dim: int, kept: Sequence[int]) -> None:
    tensor = getattr(layer, name)
    if tensor is None:
        return
    index = torch.tensor(kept, device=tensor.device)
    fewer = tensor.detach().index_select(dim, index)
    if isinstance(tensor, nn.Parameter):
        fewer = nn.Parameter(fewer, tensor.requires_grad)
    setattr(layer, name, fewer)


def _pick_pads(
    model: nn.Module, sets: Sequence[Channels], chosen: Mapping[str, Sequence[int]]
) -> None:
    """Put picking layers in place of option-A shortcuts between streams that lost channels."""
    for name, pad in list(model.named_modules()):
        if not isinstance(pad, Pad):
            continue
        before = next((c.name for c in sets if name in c.readers), "")
        after = next((c.name for c in sets if name in c.pads), "")
        if before in chosen or after in chosen:
            kept = chosen.get(before, range(pad.c_in)), chosen.get(after, range(pad.c_out))
            _put(model, name, _beside(model, PickedPad(pad.stride, pad.before, *kept)))


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


def _beside(model: nn.Module, layer: nn.Module) -> nn.Module:
    """Return a layer where the network's weights are; its indices stay readable on none (meta)."""
    device = next(model.parameters()).device
    return layer if device.type == "meta" else layer.to(device)
