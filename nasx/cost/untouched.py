"""Look at a network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Put every submodule into eval mode; restore flags, buffers and the random state after.

    Each submodule gets its own flag back (a frozen BatchNorm stays frozen), also when the body
    raises. Buffers return as the same tensors with the same contents.
    """
    modules = list(model.modules())
    flags = [module.training for module in modules]
    buffers = [(own, dict(own)) for own in (module._buffers for module in modules) if own]
    contents = {
        id(b): (b, b.detach().clone()) for _, own in buffers for b in own.values() if b is not None
    }
    try:
        with torch.random.fork_rng(devices=[]):
            for module in modules:
                module.__dict__["training"] = False  # what nn.Module.train sets, without recursion
            yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.__dict__["training"] = flag
        for own, before in buffers:
            own.clear()
            own.update(before)
        with torch.no_grad():
            for buffer, content in contents.values():
                if not (buffer.is_meta or torch.equal(buffer, content)):
                    buffer.copy_(content)
