"""Our count beside torch's FlopCounterMode, whose FLOPs are two per MAC."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.compared import Findings, Ours, note_own_prices
from nasx.cost.prices import plain_name, price_of

NAME = "FlopCounterMode"


class _Seen(TorchDispatchMode):
    """Notes the operators that the counter lets through, as ours name them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.priced: set[str] = set()
        self.unpriced: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = f"{func.namespace}.{plain_name(func)}"
        (self.unpriced if price_of(func) is None else self.priced).add(name)
        return func(*args, **(kwargs or {}))


def run(model: nn.Module, inputs: tuple[Any, ...], mine: Ours) -> tuple[int, Findings]:
    """Return half the FLOPs that torch counts in `model(*inputs)`, and why they differ."""
    seen, counter = _Seen(), FlopCounterMode(display=False)
    with torch.no_grad(), seen, counter:
        model(*inputs)
    counts = counter.get_flop_counts()
    theirs = {str(op): n // 2 for op, n in counts.get("Global", {}).items()}
    formulas = {str(op) for op in counter.flop_registry}
    fused = sorted(seen.unpriced - mine.unpriced)
    findings, within = Findings(), {}
    for owner, inside in _within(model, mine, counts).items():
        within[owner] = sum(inside.values())
        for operator, macs in inside.items():
            theirs[operator] -= macs
    note_own_prices(findings, mine, within, NAME)
    own: dict[str, int] = {}
    for (layer, operator), macs in mine.macs.items():
        if mine.own_price(layer) is None:
            own[operator] = own.get(operator, 0) + macs
    for operator in {*own, *theirs}:
        macs = theirs.get(operator, 0) - own.get(operator, 0)
        why = None
        if macs < 0 and operator in seen.priced and operator not in formulas:
            why = f"torch has no formula for this operator, the one that runs on {_device(model)}"
        elif macs < 0 and fused:
            why = f"computed within {', '.join(fused)}, a fused kernel without a formula"
        findings.note(operator, macs, why)
    return counter.get_total_flops() // 2, findings


def _within(
    model: nn.Module, mine: Ours, counts: dict[str, dict[Any, int]]
) -> dict[str, dict[str, int]]:
    """Return what torch counted within each layer that prices itself, by operator."""
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, dict[str, int]] = {}
    for place, module in model.named_modules(remove_duplicate=False):
        name = names[module]
        if mine.own_price(name) != name:
            continue
        whole = f"{type(model).__name__}.{place}" if place else type(model).__name__
        inside = found.setdefault(name, {})
        for operator, flops in counts.get(whole, {}).items():
            inside[str(operator)] = inside.get(str(operator), 0) + flops // 2
    return found


def _device(model: nn.Module) -> str:
    return next((p.device.type for p in model.parameters()), "cpu")
