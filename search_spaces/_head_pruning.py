"""Drop the heads and hidden units of a transformer that the loss would miss least.

    kept = ranked(model, worth, heads=0.5, units=0.5)
    cut(model, kept)      # smaller linear layers; nothing of what was dropped stays

What a head is worth is |sum of output x gradient| over its channels and all tokens (Michel et al.,
arXiv:1905.10650, equation 2), a hidden unit likewise (Molchanov et al., arXiv:1611.06440).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasx.errors import SpaceError
from search_spaces._layers.attention import Heads, RelativeBias
from search_spaces._layers.low_bit_linear import LowBitLinear
from search_spaces._layers.transformer_block import Mlp

Worth = Mapping[str, Tensor]  # by the name of a Heads or an Mlp: (heads,) or (units,)
Kept = Mapping[str, Sequence[int]]


def parts_of(model: nn.Module) -> dict[str, Heads | Mlp]:
    """Return what can lose something, by name; the heads within patches stay."""
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(part, Heads | Mlp) and ".inner." not in f".{name}."
    }


def worth_by_size(model: nn.Module) -> dict[str, Tensor]:
    """Return the norms of what each head and unit writes: for a network that has not learnt."""
    found = {}
    for name, part in parts_of(model).items():
        weight = _weight(part.out if isinstance(part, Heads) else part.narrow)
        norms = weight.detach().pow(2).sum(0)
        found[name] = norms.reshape(part.heads, -1).sum(1) if isinstance(part, Heads) else norms
    return found


def worth_by_loss(model: nn.Module, losses: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return |sum of output x gradient| by part, the mean over the losses of some batches.

    `losses` are computed while this listens: a generator that runs the model.
    """
    parts, heard, found = parts_of(model), dict[str, Tensor](), dict[str, Tensor]()

    def listen(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heard[name] = inputs[0]

        return hook

    handles = [
        (part.out if isinstance(part, Heads) else part.narrow).register_forward_pre_hook(
            listen(name)
        )
        for name, part in parts.items()
    ]
    try:
        for loss in losses:
            names = list(heard)
            gradients = torch.autograd.grad(loss, [heard[n] for n in names])
            for name, gradient in zip(names, gradients, strict=True):
                part, product = parts[name], (heard[name] * gradient).detach()
                if isinstance(part, Heads):  # one number per sample and head
                    product = product.reshape(*product.shape[:-1], part.heads, -1).sum(-1)
                each = product.sum(tuple(range(1, product.ndim - 1))).abs().sum(0)
                found[name] = found.get(name, torch.zeros_like(each)) + each
            heard.clear()
    finally:
        for handle in handles:
            handle.remove()
    return found


def kept_of(count: int, share: float) -> int:
    """Return how many of `count` heads or units stay, at least one."""
    return max(1, round(count * share))


def ranked(model: nn.Module, worth: Worth, heads: float, units: float) -> dict[str, list[int]]:
    """Return which heads and units stay, the best of each part, in their order."""
    kept = {}
    for name, part in parts_of(model).items():
        scores = worth[name]
        share = heads if isinstance(part, Heads) else units
        count = kept_of(len(scores), share)
        kept[name] = sorted(scores.argsort(descending=True, stable=True)[:count].tolist())
    return kept


@torch.no_grad()
def cut(model: nn.Module, kept: Kept) -> nn.Module:
    """Take what is not kept out of a network, in place; SpaceError before anything is touched."""
    parts = parts_of(model)
    for name, stay in kept.items():
        if name not in parts or not stay:
            raise SpaceError(f"'{name}': there is nothing to keep {len(stay)} of in this network")
    biases: dict[int, RelativeBias] = {}
    for owner in model.modules():
        relative = getattr(owner, "relative", None)
        if isinstance(relative, RelativeBias):
            biases[id(owner.heads)] = relative
    for name, stay in kept.items():
        part, index = parts[name], torch.tensor(stay)
        if isinstance(part, Mlp):
            _rows(part.wide, index)
            _columns(part.narrow, index)
            if part.between is not None:
                _depthwise(part.between.layer, index)
            continue
        width, inner = part.head_dim, part.heads * part.head_dim
        channels = (index[:, None] * width + torch.arange(width)).flatten()
        _rows(part.q, channels)
        _rows(part.kv, torch.cat([channels, channels + inner]))
        _columns(part.out, channels)
        bias = biases.get(id(part))
        if bias is not None:
            bias.table = nn.Parameter(bias.table[:, index])
        part.heads = len(stay)
    model.whole = False  # type: ignore[assignment]
    return model


def _weight(layer: nn.Module) -> Tensor:
    """Return the weight of a linear layer, (c_out, c_in)."""
    weight: Tensor = _inner(layer).weight
    return weight.reshape(weight.shape[0], -1)


def _inner(layer: nn.Module) -> Any:
    """Return what holds the weight of a linear layer."""
    return layer.conv if isinstance(layer, LowBitLinear) else layer


def _rows(layer: nn.Module, index: Tensor) -> None:
    """Keep some outputs of a linear layer."""
    inner = _inner(layer)
    for name, value in list(inner.named_parameters(recurse=False)):
        setattr(inner, name, nn.Parameter(value[index]))
    _told(inner)


def _columns(layer: nn.Module, index: Tensor) -> None:
    """Keep some inputs of a linear layer."""
    inner = _inner(layer)
    inner.weight = nn.Parameter(inner.weight[:, index])
    _told(inner)


def _depthwise(layer: Any, index: Tensor) -> None:
    for name, value in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(value[index]))
    layer.in_channels = layer.out_channels = layer.groups = len(index)


def _told(inner: Any) -> None:
    """Tell a layer its new sizes."""
    if isinstance(inner, nn.Linear):
        inner.out_features, inner.in_features = inner.weight.shape
    else:
        inner.shape = tuple(inner.weight.shape)
