"""Typed operation count: what one forward pass computes, by type and by layer.

    count(model, torch.zeros(1, 3, 32, 32)).macs

Every operator that the forward dispatches is looked up in `nasx.cost.prices`, wherever it comes
from (a module, a functional call, `@`, einsum, attention). A module that defines
`count_ops(*inputs, output)` prices itself, for the whole call; nothing inside it is counted. It
answers with Ops, or with Ops by number format ({"int8": Ops(...)}).

Plain convolutional networks are counted by closed formulas (`nasx.cost.quick`); others run once:
on real numbers up to 1 GMAC and 120 MiB of activations, beyond on shapes alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from nasx.cost.ledger import Count, Layer, Ledger
from nasx.cost.prices import Ops
from nasx.cost.quick import quick_count
from nasx.cost.untouched import untouched
from nasx.cost.walk import TooLarge, Walk
from nasx.errors import NasxError

__all__ = ["Count", "Layer", "Ops", "count"]


def count(model: nn.Module, *inputs: Any, traffic: bool = False, real: bool = False) -> Count:
    """Count the operations of `model(*inputs)` in eval mode, batch included.

    The network is left exactly as it was (weights, buffers, hooks, train/eval flags), also when
    its forward raises; what the forward raises is passed on. Meta and fake tensors do as well.
    `traffic` counts also what operators read and write (see `nasx.cost.energy`), `real` follows
    the numbers given however large the network is. NasxError for a
    large network whose forward looks at values, which shapes cannot tell, and for lazy layers.
    """
    found = None if traffic else quick_count(model, inputs)
    if found is not None:
        return found
    _demand_weights(model)
    with untouched(model):
        if any(p.is_meta for p in model.parameters()):  # it holds no numbers as it is
            with contextlib.suppress(NotImplementedError, RuntimeError):  # it asks for some
                return _walked(model, inputs, traffic, bounded=False)
        with contextlib.suppress(TooLarge):
            return _walked(model, inputs, traffic, bounded=not real)
        return on_shapes(model, inputs, traffic)


def _demand_weights(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise NasxError(
                f"{type(model).__name__}: '{name}' takes its shape from the first input it sees "
                "(a lazy layer): run the network once before it is counted"
            )


def _walked(
    model: nn.Module,
    inputs: tuple[Any, ...],
    traffic: bool,
    *,
    bounded: bool,
    seen: Callable[[Tensor], Tensor] | None = None,
) -> Count:
    ledger = Ledger(model)
    ledger.traffic = {} if traffic else None
    ledger.live.leave_out(model, seen)
    with Walk(ledger, bounded=bounded).following():
        ledger.live.write_all(inputs)
        model(*inputs)
    return ledger.count()


def on_shapes(model: nn.Module, inputs: tuple[Any, ...], traffic: bool = False) -> Count:
    """Count a network in eval mode on shapes alone; NasxError where its forward needs values."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
        FakeTensorMode,
    )

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = tuple(
            torch.empty_like(x, device=device) if isinstance(x, Tensor) else x for x in inputs
        )
        try:
            return _walked(model, fakes, traffic, bounded=False, seen=mode.from_tensor)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise NasxError(
                f"{type(model).__name__}: above 1 GMAC or 120 MiB only shapes are followed, and "
                f"its forward looks at values ({error}); count it on a smaller input"
            ) from error
