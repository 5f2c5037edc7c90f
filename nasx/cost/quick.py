"""Count a plain convolutional network without computing anything: shapes in, shapes out.

Each standard layer answers with an empty tensor of its output's shape, by closed formulas, a dozen
times faster than a forward pass. It is for what is plain only: at the first layer, operator or
setting that is not in the tables below it gives up, and the walk over real operators counts
instead. Both give the same `Count`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere
from torch.overrides import TorchFunctionMode

from nasx.cost.formulas import (
    ATTRIBUTES,
    FUNCTIONS,
    INDICES,
    LAYERS,
    LOOKS,
    SETTINGS,
    VIEWS,
    Answer,
    NotPlain,
)
from nasx.cost.ledger import Count, Ledger, number_of
from nasx.cost.memory import Convolving
from nasx.shape import Shape

META = torch.device("meta")


def quick_count(model: nn.Module, inputs: tuple[Any, ...]) -> Count | None:
    """Return the count of a plain network, or None where the walk has to do it."""
    ledger = Ledger(model)
    if not _plain(ledger.names, inputs):
        return None
    quick = _Quick(ledger, number_of(inputs))
    shapes = tuple(torch.empty(x.shape, dtype=x.dtype, device=META) for x in inputs)
    for shape in shapes:
        ledger.live.write_new(shape)
    try:
        with quick.answering(), torch.no_grad(), quick:
            model(*shapes)
    except Exception:  # not plain after all, or a fault that the walk will meet and name
        return None
    return None if quick.gave_up else ledger.count()


def _plain(modules: Iterable[nn.Module], inputs: tuple[Any, ...]) -> bool:
    """Return whether nothing about the network asks for a real forward pass from the start."""
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        return False
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return False
    if not all(type(x) is Tensor and _plainly_laid(x) for x in inputs):
        return False
    kinds = {type(module) for module in modules}
    if any(hasattr(k, "count_ops") or issubclass(k, torch.jit.ScriptModule) for k in kinds):
        return False
    number = inputs[0].dtype if inputs else None
    for module in modules:
        kept = module.__dict__
        if kept["_forward_hooks"] or kept["_forward_pre_hooks"] or "forward" in kept:
            return False  # hooks run once, with real values
        if kept.get("_compiled_call_impl") is not None:
            return False
        weight = kept["_parameters"].get("weight")
        if weight is not None and (weight.dtype != number or not weight.is_contiguous()):
            return False
    return True


def _convolving(layer: Any, out: Shape, itemsize: int) -> tuple[Shape, Shape, Convolving]:
    """Return the weight's shape, the output's, and what decides on the kernel."""
    weight = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    strided, dilated = max(layer.stride) > 1, max(layer.dilation) > 1
    return weight, out, Convolving(itemsize, strided, dilated, False, layer.groups)


class _Quick(TorchFunctionMode):
    """Answers standard layers and functions by shape, and writes them into a ledger."""

    def __init__(self, ledger: Ledger, number: str) -> None:
        super().__init__()
        self.ledger, self.number = ledger, number
        self.gave_up = False

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Let every module answer by shape in the body, in eval mode; then all is as it was.

        A forward that leaves something in its module is not plain: what it left is taken back.
        """
        flags, sizes, before = [], [], []
        try:
            for module in self.ledger.names:
                now, answer = module.__dict__, LAYERS.get(type(module))
                flags.append((now, now["training"]))
                if answer is None:
                    before.append((now, dict(now), now["_buffers"], dict(now["_buffers"])))
                    now["forward"] = self._through(module)
                else:
                    sizes.append((now, len(now)))
                    now["forward"] = self._leaf(module, answer)
                now["training"] = False
            yield
        finally:
            for now, training in flags:
                now.pop("forward", None)
                now["training"] = training
            for now, size in sizes:
                while len(now) > size:  # a standard layer runs no code of its own: others did it
                    self.gave_up = True
                    now.popitem()
            for now, kept, own, buffers in before:
                if not _same(now, kept) or not _same(own, buffers):
                    self.gave_up = True
                    now.clear()
                    now.update(kept)
                    own.clear()
                    own.update(buffers)

    def _leaf(self, module: nn.Module, answer: Answer) -> Callable[[Tensor], Tensor]:
        ledger = self.ledger
        rows, live, calls, outputs = ledger.rows, ledger.live, ledger.calls, ledger.outputs
        number = self.number

        def forward(x: Tensor) -> Tensor:
            with torch._C.DisableTorchFunction():
                put = tuple(x.shape)
                try:
                    shape, name, ops = answer(module, put)
                except Exception:
                    self.gave_up = True
                    raise
                if shape is not None:
                    if name == "aten.convolution":
                        live.convolve(put, *_convolving(module, shape, x.dtype.itemsize))
                    x = torch.empty(shape, dtype=x.dtype, device=META)
                    live.write_new(x)
                    if name == "aten.max_pool2d_with_indices":
                        live.peak = max(live.peak, live.now + x.numel() * INDICES)
                if name:
                    rows.append((module, name, number, ops))
                calls[module] = calls.get(module, 0) + 1
                outputs[module] = shape or put
                return x

        return forward

    def _through(self, module: nn.Module) -> Callable[..., Any]:
        forward, running = module.forward, self.ledger.running

        def inside(*args: Any, **kwargs: Any) -> Any:
            running.append(module)
            try:
                out = forward(*args, **kwargs)
            except Exception:
                self.gave_up = True  # also where the network itself catches it
                raise
            running.pop()
            with torch._C.DisableTorchFunction():
                self.ledger.left(module, out)
            return out

        return inside

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = func.__name__
        if name in LOOKS or (name == "__get__" and func.__self__.__name__ in ATTRIBUTES):
            return func(*args, **(kwargs or {}))
        try:
            if name in VIEWS:
                return self._view(func, args, kwargs or {})
            return self._computed(name, args, kwargs or {})
        except Exception:
            self.gave_up = True
            raise

    def _computed(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        answer = FUNCTIONS.get(name)
        # What is selected has the type of the result; the index, a buffer of the network, has not.
        mixed = args[:1] if name == "index_select" else args
        tensors = [a for a in mixed if isinstance(a, Tensor)]
        in_place = name.endswith("_") or kwargs.get("inplace") is True
        if (
            answer is None
            or kwargs not in ({}, {"inplace": True}, {"inplace": False}, SETTINGS.get(name, {}))
            or len({t.dtype for t in tensors}) != 1
            or not all(t.is_meta or _in_order(t) for t in tensors)
        ):
            raise NotPlain(name)
        shape, operator, ops = answer(args)
        first = tensors[0]
        if in_place and not first.is_meta:
            raise NotPlain(name)  # it would write into the network
        if in_place or shape is None:
            out = first
        else:
            out = torch.empty(shape, dtype=first.dtype, device=META)
            self.ledger.live.write_new(out)
        self.ledger.write(operator, number_of((first,)), ops)
        return out

    def _view(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Let a view be taken; one that would have to copy, or that permutes, is not plain."""
        out = func(*args, **kwargs)
        source = args[0].untyped_storage()._cdata
        for part in out if isinstance(out, tuple | list) else (out,):
            copied = part.untyped_storage()._cdata != source
            if copied or not args[0].is_meta or not _in_order(part):
                raise NotPlain(func.__name__)
            if part is not args[0]:
                part.viewed = args[0]  # its memory lives as long as a view of it
        return out


def _plainly_laid(x: Tensor) -> bool:
    return x.is_contiguous() and x.numel() > 0 and _in_order(x)


def _in_order(x: Tensor) -> bool:
    """Return whether results will be laid out plainly too: strides fall, nothing is permuted."""
    strides = x.stride()
    return sorted(strides, reverse=True) == list(strides)


def _same(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Return whether the same names hold the same things."""
    try:
        return now == before  # looks at identity first, and only then compares
    except Exception:  # tensors with and without numbers
        return False
