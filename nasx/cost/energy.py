"""Modelled energy: arithmetic in a 45 nm process, and optionally the moving of what it works on.

    energy of a call = sum over number formats and types of (operations x picojoules)

The table is Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014:
45 nm, 0.9 V. A multiply-accumulate is a multiplication and an addition; an adder tap is two
additions. Operations without an entry have no energy: they are named, never guessed. Elementwise
work, control and leakage are left out. `arith+mem` adds one access of 64 bits for every eight bytes
that each operator reads or writes, at the price of the smallest memory that holds the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from nasx.cost.prices import Ops

Model = Literal["arith", "arith+mem"]
SOURCE = "Horowitz, ISSCC 2014 (45 nm, 0.9 V)"


@dataclass(frozen=True)
class Joules:
    """Picojoules of one addition and one multiplication in one number format; None: no entry."""

    add: float | None
    multiply: float | None


TABLE: dict[str, Joules] = {
    "int8": Joules(0.03, 0.2),
    "int16": Joules(0.05, None),  # no official figure for the multiplication
    "int32": Joules(0.1, 3.1),
    "fp16": Joules(0.4, 1.1),
    "fp32": Joules(0.9, 3.7),
}
MEMORIES: dict[int, float] = {  # bytes held -> pJ of one access of 64 bits
    8 * 2**10: 10.0,
    32 * 2**10: 20.0,
    2**20: 100.0,
}
DRAM = 1300.0  # pJ of one access of 64 bits: the lower end of the stated 1300 to 2600
BEYOND = 0  # where `traffic` counts what no cache holds


@dataclass(frozen=True)
class Energy:
    """Microjoules of one call, and the share of its operations that the table does not know.

    `uj` is None where that share is not 0. `without` names them by format and type ("int1
    bit_ops").
    """

    uj: float | None
    unpriced_share: float = 0.0
    without: tuple[str, ...] = ()


def energy(by_number: Mapping[str, Ops], traffic: Mapping[int, int] | None = None) -> Energy:
    """Return the energy of operations by number format; `traffic` adds the cost of moving.

    `traffic` counts accesses of 64 bits by memory, as `move` fills it. Elementwise operations
    have no part in it.
    """
    picojoules, known, unknown = 0.0, 0, 0
    without = []
    for number, ops in by_number.items():
        price = TABLE.get(number, Joules(None, None))
        both = None if None in (price.add, price.multiply) else price.add + price.multiply  # type: ignore[operator]
        for kind, n, each in (
            ("macs", ops.macs, both),
            ("adds", ops.adds, price.add),
            ("shifts", ops.shifts, None),
            ("bit_ops", ops.bit_ops, None),
            ("lookups", ops.lookups, None),
        ):
            if not n:
                continue
            if each is None:
                unknown += n
                without.append(f"{number} {kind}")
            else:
                known += n
                picojoules += n * each
    if unknown:
        return Energy(None, unknown / (known + unknown), tuple(without))
    for memory, accesses in (traffic or {}).items():
        picojoules += accesses * MEMORIES.get(memory, DRAM)
    return Energy(picojoules * 1e-6)


def move(traffic: dict[int, int], values: Any) -> None:
    """Add one access per eight bytes of every tensor in `values`, by the memory that holds it."""
    for value in values:
        if isinstance(value, Tensor):
            size = value.numel() * value.element_size()
            memory = next((m for m in MEMORIES if size <= m), BEYOND)
            traffic[memory] = traffic.get(memory, 0) + (size + 7) // 8
        elif isinstance(value, tuple | list):
            move(traffic, value)
