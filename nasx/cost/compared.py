"""What nasx counts, cell by cell, and what another counter counts beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nasx.cost.ledger import Ledger
from nasx.cost.untouched import untouched
from nasx.cost.walk import Walk

UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Difference:
    """MACs that a counter has beyond ours (negative: that it lacks), where, and why."""

    where: str
    macs: int
    why: str


@dataclass
class Ours:
    """Our operations by (layer, operator), with what the explanations ask of the network."""

    macs: dict[tuple[str, str], int] = field(default_factory=dict)
    elementwise: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    priced_by_itself: set[str] = field(default_factory=set)
    unpriced: set[str] = field(default_factory=set)

    def own_price(self, layer: str) -> str | None:
        """Return the layer that prices itself and holds this one (or is it), if there is one."""
        parts = layer.split(".") if layer else []
        for n in range(len(parts) + 1):
            name = ".".join(parts[:n])
            if name in self.priced_by_itself:
                return name
        return None

    def of_layer(self, layer: str) -> dict[str, int]:
        """Return a layer's own MACs by operator."""
        return {op: n for (name, op), n in self.macs.items() if name == layer}


@dataclass
class Findings:
    """Gathers differences; those of one place and one reason are added up."""

    parts: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def note(self, where: str, macs: int, why: str | None) -> None:
        """Note a difference; None stands for no reason known."""
        if macs:
            self.parts.setdefault((where, why or UNEXPLAINED), []).append(macs)

    def differences(self, total: int) -> Iterator[Difference]:
        """Yield what adds up to `total`, largest first."""
        found = [
            Difference(f"{where} x{len(n)}" if len(n) > 1 else where, sum(n), why)
            for (where, why), n in self.parts.items()
        ]
        left = total - sum(d.macs for d in found)
        if left:
            found.append(Difference("the rest", left, UNEXPLAINED))
        yield from sorted(found, key=lambda d: (-abs(d.macs), d.where))


def ours(model: nn.Module, inputs: tuple[Any, ...]) -> Ours:
    """Count `model(*inputs)` on real numbers by layer and operator; the network is left as it was.

    Whatever its size: the other counters compute it as well.
    """
    ledger = Ledger(model)
    with untouched(model), Walk(ledger, bounded=False).following():
        model(*inputs)
    found = Ours(unpriced=set(ledger.unpriced))
    for module, name in ledger.names.items():
        found.kinds[name] = type(module).__name__
        if hasattr(type(module), "count_ops"):
            found.priced_by_itself.add(name)
    for module, operator, _, ops in ledger.rows:
        name = ledger.names[module]
        found.elementwise[name] = found.elementwise.get(name, 0) + ops.elementwise
        if ops.macs:
            cell = (name, operator)
            found.macs[cell] = found.macs.get(cell, 0) + ops.macs
    return found


def note_own_prices(findings: Findings, mine: Ours, theirs: dict[str, int], counter: str) -> None:
    """Note the layers that price themselves; `theirs` is what a counter saw within each."""
    for name in mine.priced_by_itself:
        if mine.own_price(name) != name:
            continue  # within another one: counted with it
        macs = theirs.get(name, 0) - sum(mine.of_layer(name).values())
        findings.note(
            mine.kinds[name],
            macs,
            f"prices itself (count_ops); {counter} counts what it is simulated with",
        )
