"""What a count found, and the ledger in which a forward pass is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nasx.cost.memory import Live
from nasx.cost.prices import NONE, Ops
from nasx.shape import Shape

NUMBERS = {  # number formats by their usual names
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.int64: "int64", torch.int32: "int32", torch.int16: "int16", torch.int8: "int8",
    torch.uint8: "int8", torch.bool: "int1",
}  # fmt: skip


class Layer(NamedTuple):
    """One module's own operations (children not included), summed over its calls."""

    kind: str
    ops: Ops
    output: Shape
    calls: int


@dataclass(frozen=True)
class Count:
    """Operations of one call by type, layer, operator and number format.

    `by_layer` goes by qualified module name ("" = the network itself), `by_operator` by ATen name
    (a layer that prices itself: by its class), `by_number` by format ("fp32", "int8").
    `peak_bytes` is the most that inputs and activations take at once. `traffic` counts accesses of
    64 bits by the size of what is moved (see `nasx.cost.energy`), where it was asked for.
    `unpriced` names the operators without a price and how often each ran ("aten._cdist_forward
    x2"): where it is not empty the count is incomplete.
    """

    total: Ops
    by_layer: dict[str, Layer]
    by_operator: dict[str, Ops]
    by_number: dict[str, Ops]
    unpriced: tuple[str, ...]
    peak_bytes: int
    traffic: dict[int, int] | None = None

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

    @property
    def elementwise_heavy(self) -> bool:
        """Return whether more is computed elementwise than in MACs and additions.

        Such a network does its work where MACs do not see it: an adder layer written with plain
        `-`, `abs` and `sum` would look free.
        """
        return self.total.elementwise > self.total.macs + self.total.adds


class Ledger:
    """Writes down, operator by operator, what runs under which module."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = names_of(model)
        self.running: list[nn.Module] = [model]
        self.rows: list[tuple[nn.Module, str, str, Ops]] = []
        self.calls: dict[nn.Module, int] = {}
        self.outputs: dict[nn.Module, Any] = {}
        self.unpriced: Counter[str] = Counter()
        self.traffic: dict[int, int] | None = None
        self.live = Live()

    def write(self, operator: str, number: str, ops: Ops) -> None:
        """Note operations of the module that is running."""
        self.rows.append((self.running[-1], operator, number, ops))

    def left(self, module: nn.Module, output: Any) -> None:
        """Note that a module has answered."""
        self.calls[module] = self.calls.get(module, 0) + 1
        self.outputs[module] = shape_of(output)

    def count(self) -> Count:
        """Add up what was written."""
        layers: dict[nn.Module, list[Ops]] = {}
        operators: dict[str, list[Ops]] = {}
        numbers: dict[str, list[Ops]] = {}
        for module, operator, number, ops in self.rows:
            layers.setdefault(module, []).append(ops)
            operators.setdefault(operator, []).append(ops)
            numbers.setdefault(number, []).append(ops)
        by_layer = {
            name: Layer(
                type(module).__name__,
                total(layers.get(module, ())),
                self.outputs.get(module, ()),
                self.calls.get(module, 0),
            )
            for module, name in self.names.items()
            if module in self.calls or module in layers
        }
        by_number = {name: total(parts) for name, parts in numbers.items()}
        return Count(
            total(list(by_number.values())),
            by_layer,
            {name: total(parts) for name, parts in operators.items()},
            by_number,
            tuple(f"{name} x{times}" for name, times in sorted(self.unpriced.items())),
            self.live.peak,
            self.traffic,
        )


def names_of(model: nn.Module) -> dict[nn.Module, str]:
    """Return what `model.named_modules()` yields, in its order, in a third of its time."""
    names: dict[nn.Module, str] = {}
    waiting: list[tuple[str, nn.Module]] = [("", model)]
    while waiting:
        name, module = waiting.pop()
        if module in names:
            continue
        names[module] = name
        if module._modules:
            start = f"{name}." if name else ""
            waiting += [
                (start + own, child)
                for own, child in reversed(module._modules.items())
                if child is not None
            ]
    return names


def total(parts: Sequence[Ops]) -> Ops:
    """Return the sum of operations."""
    if len(parts) < 2:
        return parts[0] if parts else NONE
    return Ops(
        sum([p.macs for p in parts]),
        sum([p.adds for p in parts]),
        sum([p.shifts for p in parts]),
        sum([p.bit_ops for p in parts]),
        sum([p.lookups for p in parts]),
        sum([p.elementwise for p in parts]),
    )


def by_format(found: Ops | Mapping[str, Ops], inputs: tuple[Any, ...]) -> Mapping[str, Ops]:
    """Return what `count_ops` said by number format; plain Ops take the first input's."""
    if not isinstance(found, Ops):
        return found
    return {number_of(inputs): found}


def number_of(args: Any) -> str:
    """Return the number format of the first tensor of some arguments."""
    for arg in args:
        if isinstance(arg, Tensor):
            return NUMBERS.get(arg.dtype, str(arg.dtype).removeprefix("torch."))
        if isinstance(arg, tuple | list):
            found = number_of(arg)
            if found:
                return found
    return ""


def shape_of(output: Any) -> Shape:
    """Return the shape of a (first) output, () where it is no tensor."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    return tuple(output.shape) if isinstance(output, Tensor) else ()
