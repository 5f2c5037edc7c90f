"""Typed operation count: what one forward pass computes, by type and by layer.

    count(model, torch.zeros(1, 3, 32, 32)).macs

Every operator that the forward dispatches is looked up in `nasx.cost.prices`, wherever it comes
from (a module, a functional call, `@`, einsum, attention). A module that defines
`count_ops(*inputs, output) -> Ops` prices itself, for the whole call; nothing inside it is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from nasx.cost.prices import NONE, Ops, price_of
from nasx.cost.untouched import untouched
from nasx.shape import Shape

__all__ = ["Count", "Layer", "Ops", "count"]


@dataclass(frozen=True)
class Layer:
    """One module's own operations (children not included), summed over its calls."""

    kind: str
    ops: Ops
    output: Shape
    calls: int


@dataclass(frozen=True)
class Count:
    """Operations of one call by type, by layer (qualified module name, "" = the network itself).

    `unpriced` names the operators without a price and how often each ran ("aten._cdist_forward
    x2"): where it is not empty the count is incomplete.
    """

    total: Ops
    by_layer: dict[str, Layer]
    unpriced: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates."""
        return self.total.macs

    @property
    def adds(self) -> int:
        """Return the additions outside multiply-accumulates."""
        return self.total.adds

    @property
    def shifts(self) -> int:
        """Return the bit shifts that stand for multiplications."""
        return self.total.shifts

    @property
    def bit_ops(self) -> int:
        """Return the one-bit operations."""
        return self.total.bit_ops

    @property
    def lookups(self) -> int:
        """Return the table look-ups."""
        return self.total.lookups

    @property
    def elementwise(self) -> int:
        """Return the elements written by activations, normalisation, pooling and movement."""
        return self.total.elementwise


def count(model: nn.Module, *inputs: Any) -> Count:
    """Count the operations of `model(*inputs)` in eval mode, batch included.

    The network is left exactly as it was (weights, buffers, hooks, train/eval flags), also when
    its forward raises; what the forward raises is passed on. Meta and fake tensors do as well.
    """
    tally = _Tally(model)
    with untouched(model), _plain_attention(), tally.following():
        model(*inputs)
    return tally.count()


class _Tally(TorchDispatchMode):
    """Add up the price of every dispatched operator under the module that is running."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.names = {module: name for name, module in model.named_modules()}
        self.self_priced = {m for m in self.names if hasattr(type(m), "count_ops")}
        self.running: list[nn.Module] = [model]
        self.own_price: list[nn.Module] = []  # running modules that price themselves
        self.parts: dict[nn.Module, list[Ops]] = {}
        self.calls: Counter[nn.Module] = Counter()
        self.outputs: dict[nn.Module, Shape] = {}
        self.unpriced: Counter[str] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping the dispatch below, which costs 2 s of imports and each call."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.own_price:
            return func(*args, **kwargs)
        price = price_of(func)
        if price is None:  # in inference mode composite operators arrive whole: take them apart
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if price is None:
            self.unpriced[f"{func.namespace}.{func.overloadpacket.__name__}"] += 1
        else:
            self.parts.setdefault(self.running[-1], []).append(price(args, out))
        return out

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module not in self.names:
            return
        self.running.append(module)
        if module in self.self_priced:
            self.own_price.append(module)

    def _leave(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None
    ) -> None:
        # After a forward that raised torch calls this without keyword arguments and output.
        if self.running[-1] is not module:
            return
        self.running.pop()
        if self.own_price and self.own_price[-1] is module:
            # still in own_price while it answers, so that arithmetic in count_ops costs nothing
            if len(self.own_price) == 1 and output is not None:  # None: its forward raised
                ops = module.count_ops(*args, *kwargs.values(), output)  # type: ignore[operator]
                self.parts.setdefault(module, []).append(ops)
            self.own_price.pop()
        if not self.own_price:
            self.calls[module] += 1
            self.outputs[module] = _shape(output)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Count what runs in the body, by module of the network.

        The hooks are torch's global ones, which pass over modules of other networks: those of the
        network itself are never touched.
        """
        enter = register_module_forward_pre_hook(self._enter)
        leave = register_module_forward_hook(self._leave, with_kwargs=True, always_call=True)
        try:
            # Under inference_mode composite operators would not be taken apart by autograd.
            with torch.inference_mode(False), torch.no_grad(), self:
                yield
        finally:
            enter.remove()
            leave.remove()

    def count(self) -> Count:
        """Return what was counted so far."""
        layers = {}
        for module, name in self.names.items():
            if module in self.calls or module in self.parts:
                ops = sum(self.parts.get(module, ()), NONE)
                kind, output = type(module).__name__, self.outputs.get(module, ())
                layers[name] = Layer(kind, ops, output, self.calls[module])
        unpriced = tuple(f"{name} x{times}" for name, times in sorted(self.unpriced.items()))
        return Count(sum((layer.ops for layer in layers.values()), NONE), layers, unpriced)


def _shape(output: Any) -> Shape:
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else ()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switch off the fused path of nn.MultiheadAttention, which no counter can see into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
