"""Inputs to count and time a network on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost.untouched import untouched


def example(model: nn.Module, shape: Any, batch: int) -> tuple[Tensor, ...]:
    """Return random inputs for `model`: (batch, *shape), or one per shape of a tuple of shapes.

    Type and device are those of the network's first floating-point parameter, and 4-D inputs
    take its weights' memory format; the values are the same at every call.
    """
    shapes = shape if shape and isinstance(shape[0], tuple | list) else (shape,)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn((batch, *one), generator=generator) for one in shapes]
    return tuple(laid(model, drawn))


def laid(model: nn.Module, inputs: Iterable[Tensor]) -> list[Tensor]:
    """Return inputs in the type, device and memory format of the network's weights."""
    weights = [p for p in model.parameters() if p.is_floating_point()]
    like = weights[0] if weights else torch.empty(0)
    last = any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
        for p in weights
    )
    found = []
    for x in inputs:
        y = x.to(like.device, like.dtype)
        found.append(y.contiguous(memory_format=torch.channels_last) if last and y.ndim == 4 else y)
    return found


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def refusal_of(model: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    """Return why a network cannot run on inputs, in one line, or None where it can."""
    try:
        with untouched(model), torch.no_grad():
            model(*inputs)
    except Exception as error:
        sizes = ", ".join(" x ".join(str(n) for n in x.shape) for x in inputs)
        return f"{type(model).__name__}: cannot run on an input of {sizes}: {first_line(error)}"
    return None
