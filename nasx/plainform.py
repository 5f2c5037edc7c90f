"""Follow a network in plain torch: its own operators by their references.

    with PlainTorch(network):
        program = torch.export.export(network, ...)

torch.export then never meets an operator of ours, and everything else stays as it was written;
`run_decompositions` would take the whole program apart (BatchNorm, in-place activations) as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nasx.operators import Reference, references_of

# `x >> 2` is traced as an operator of another name, which the ONNX exporter does not know.
SHIFTS = {
    Tensor.__rshift__: torch.bitwise_right_shift,
    torch.bitwise_right_shift: torch.bitwise_right_shift,
    Tensor.bitwise_right_shift: torch.bitwise_right_shift,
    Tensor.__lshift__: torch.bitwise_left_shift,
    torch.bitwise_left_shift: torch.bitwise_left_shift,
    Tensor.bitwise_left_shift: torch.bitwise_left_shift,
}


class PlainTorch(TorchFunctionMode):
    """Call, in the body, the references of a network's layers in place of their operators."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.references: Mapping[str, Reference] = references_of(network)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            reference = self.references.get(name_of(func))
            if reference is not None:
                with self:  # a reference may shift bits
                    return reference(*args, **kwargs)
        elif func in SHIFTS and not kwargs:
            return _shifted(SHIFTS[func], *args)
        return func(*args, **kwargs)


def name_of(operator: Any) -> str:
    """Return the qualified name of an operator, "nasx::distance", whatever the overload."""
    packet = getattr(operator, "overloadpacket", operator)
    return str(packet._qualified_op_name)


def _shifted(shift: Any, value: Any, by: Any) -> Any:
    """Shift bytes as 32-bit numbers: the ONNX exporter (torch 2.13) shifts uint8 wrongly."""
    if not isinstance(value, Tensor) or value.dtype != torch.uint8:
        return shift(value, by)
    wide = by.to(torch.int32) if isinstance(by, Tensor) else by
    return shift(value.to(torch.int32), wide).to(torch.uint8)
