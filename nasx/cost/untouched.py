"""Look at a network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put every submodule into eval mode; restore it whole and the random state after.

    Each submodule gets back its flag (a frozen BatchNorm stays frozen), its attributes, and what
    is registered in it (parameters, buffers, submodules, hooks), also when the body raises.
    Buffers return as the same tensors with the same contents; the contents of parameters are
    left to who runs the network (see `nasx.cost.walk`).
    """
    modules = list(model.modules())
    attributes = [(own, dict(own)) for own in (module.__dict__ for module in modules)]
    registered = [
        (kept, kept.copy())
        for own, _ in attributes
        for kept in own.values()
        if isinstance(kept, dict | set)
    ]
    contents = {
        id(b): (b, b.detach().clone())
        for module in modules
        for b in module._buffers.values()
        if b is not None
    }
    try:
        with torch.random.fork_rng(devices=[]):
            for module in modules:
                module.__dict__["training"] = False  # what nn.Module.train sets, without recursion
            yield
    finally:
        for own, before in attributes:
            own.clear()
            own.update(before)
        for kept, earlier in registered:
            kept.clear()
            kept.update(earlier)
        with torch.no_grad():
            for buffer, content in contents.values():
                if not (buffer.is_meta or torch.equal(buffer, content)):
                    buffer.copy_(content)
