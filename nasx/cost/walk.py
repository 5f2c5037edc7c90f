"""Run a network once and write down every operator that it dispatches, whatever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from nasx.cost.bounds import elements_written
from nasx.cost.energy import move
from nasx.cost.ledger import Ledger, by_format, number_of
from nasx.cost.memory import Convolving
from nasx.cost.prices import PRICED, elements, plain_name, price_of

CONVOLUTION = PRICED["convolution"]
MOST_MACS = 10**9  # counted on real numbers; beyond, shapes do
MOST_BYTES = 120 * 2**20  # of activations alive at once on real numbers


class TooLarge(Exception):
    """Raised in the middle of a walk on real numbers that had better be done on shapes."""


class Walk(TorchDispatchMode):
    """Price every dispatched operator under the module that is running."""

    def __init__(self, ledger: Ledger, *, bounded: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger, self.bounded = ledger, bounded
        self.self_priced = {m for m in ledger.names if hasattr(type(m), "count_ops")}
        self.own_price: list[nn.Module] = []  # running modules that price themselves
        self.macs = 0
        self.overwritten: list[tuple[Tensor, Tensor]] = []  # of the network's own, and the contents

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
        if func is torch.ops.prim.device.default:  # a fake tensor is asked where it lies
            return func(*args, **kwargs)
        price = price_of(func)
        if price is None and not self.own_price:
            # In inference mode composite operators arrive whole: take them apart.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        if self.bounded:
            self._hold_back(func, args)
        if func._schema.is_mutable:
            self._remember(func, args)
        out = func(*args, **kwargs)
        if price is CONVOLUTION:
            self._convolve(args, out)
        self.ledger.live.write_all(out)
        if self.own_price:
            return out
        name = f"{func.namespace}.{plain_name(func)}"
        if price is None:
            self.ledger.unpriced[f"{func.namespace}.{func.overloadpacket.__name__}"] += 1
            return out
        ops = price(args, elements(out))
        if ops:
            self.macs += ops.macs
            self.ledger.write(name, number_of(args), ops)
            if self.ledger.traffic is not None:
                move(self.ledger.traffic, (*args, out))
        return out

    def _remember(self, func: Any, args: tuple[Any, ...]) -> None:
        """Copy what an operator is about to write over in the network itself (a clipped weight)."""
        for wanted, value in zip(func._schema.arguments, args, strict=False):
            written = wanted.alias_info is not None and wanted.alias_info.is_write
            for tensor in value if isinstance(value, tuple | list) else (value,):
                if written and isinstance(tensor, Tensor) and self.ledger.live.owns(tensor):
                    self.overwritten.append((tensor, tensor.detach().clone()))

    def _hold_back(self, func: Any, args: tuple[Any, ...]) -> None:
        """Raise before an operator that would compute or hold too much."""
        written, itemsize = elements_written(func, args)
        price = price_of(func)
        macs = price(args, written).macs if price is not None else 0
        if self.macs + macs > MOST_MACS or self.ledger.live.now + written * itemsize > MOST_BYTES:
            raise TooLarge

    def _convolve(self, args: tuple[Any, ...], out: Any) -> None:
        """Note what the kernel held (x, weight, bias, stride, padding, dilation, transposed...)."""
        x, weight, stride, dilation = args[0], args[1], args[3], args[5]
        setting = Convolving(x.element_size(), max(stride) > 1, max(dilation) > 1, args[6], args[8])
        self.ledger.live.convolve(tuple(x.shape), tuple(weight.shape), tuple(out.shape), setting)

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module not in self.ledger.names:
            return
        self.ledger.running.append(module)
        if module in self.self_priced:
            self.own_price.append(module)

    def _leave(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None
    ) -> None:
        # After a forward that raised torch calls this without keyword arguments and output.
        if self.ledger.running[-1] is not module:
            return
        if self.own_price and self.own_price[-1] is module:
            # still in own_price while it answers, so that arithmetic in count_ops costs nothing
            if len(self.own_price) == 1 and output is not None:  # None: its forward raised
                self._own(module, (*args, *kwargs.values()), output)
            self.own_price.pop()
        self.ledger.running.pop()
        if not self.own_price:
            self.ledger.left(module, output)

    def _own(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Write down what a module says of itself."""
        found = module.count_ops(*inputs, output)  # type: ignore[operator]
        for number, ops in by_format(found, inputs).items():
            self.macs += ops.macs
            self.ledger.write(type(module).__name__, number, ops)
        if self.ledger.traffic is not None:
            move(self.ledger.traffic, (*inputs, *module.parameters(), output))

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
            with torch.inference_mode(False), torch.no_grad(), plain_attention(), self:
                yield
        finally:
            enter.remove()
            leave.remove()
            # What torch itself leaves behind; torch.compile would warn of it ever after.
            module_hooks._global_forward_hooks_with_kwargs.pop(leave.id, None)
            with torch.no_grad():
                for tensor, content in reversed(self.overwritten):
                    tensor.copy_(content)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Switch off the fused path of nn.MultiheadAttention, which no counter can see into."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
