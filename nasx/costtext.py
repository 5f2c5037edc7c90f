"""What `nasx cost` prints: a card as lines, a cross-check as a table with its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nasx.printing import table

if TYPE_CHECKING:
    from nasx.cost.card import CostCard
    from nasx.cost.check import Tally

ALWAYS = ("params", "params_trained", "bytes", "macs", "macs_max", "elementwise", "peak_bytes")
BYTES = ("bytes", "peak_bytes")


def card_text(card: CostCard) -> str:
    """Return a card as lines of name, value and unit, warnings last."""
    from nasx.cost.energy import SOURCE

    rows = [("input", _sizes(card.input), "one sample")]
    for name in (*ALWAYS[:5], "adds", "shifts", "bit_ops", "lookups", *ALWAYS[5:]):
        value = getattr(card, name)
        if value or name in ALWAYS:
            said = "-" if value is None else f"{value:,}"
            rows.append((name, said, "bytes" if name in BYTES else ""))
    energy = "-" if card.energy_uj is None else f"{card.energy_uj:,.4g}"
    rows.append(("energy_uj", energy, f"uJ, modelled: {SOURCE}"))
    wide = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"{n.ljust(wide[0])}  {v.rjust(wide[1])}  {unit}".rstrip() for n, v, unit in rows]
    lines += kernel_lines(card.kernels)
    lines += [f"warning: {note}" for note in card.notes]
    if card.unpriced:
        lines.append(
            f"warning: unpriced: {', '.join(card.unpriced)}: the count is incomplete, and such a "
            "network stays off every front; give its layer count_ops (nasx.cost.ops)"
        )
    return "\n".join(lines)


def kernel_lines(kernels: Mapping[str, str]) -> list[str]:
    """Return one line for each kernel: its name and how many layers run on it, or which one."""
    layers: dict[str, list[str]] = {}
    for layer, kernel in kernels.items():
        layers.setdefault(kernel, []).append(layer)
    return [
        f"kernel: {kernel}: {'layer ' + on[0] if len(on) == 1 else f'{len(on)} layers'}"
        for kernel, on in layers.items()
    ]


def check_text(tallies: Sequence[Tally]) -> str:
    """Return counters side by side, then every difference from ours with its reason."""
    macs = ["-" if t.macs is None else f"{t.macs:,}" for t in tallies]
    wide = max(map(len, macs))
    rows = [
        {
            "counter": t.counter,
            "macs": n.rjust(wide),
            "ratio": "-" if t.ratio is None else f"{t.ratio:.4f}",
        }
        for t, n in zip(tallies, macs, strict=True)
    ]
    return "\n".join([table(rows), *(line for t in tallies for line in _reasons(t))])


def _reasons(tally: Tally) -> Iterator[str]:
    if tally.error:
        yield f"\n{tally.counter}: {tally.error}"
    if tally.differences:
        yield f"\n{tally.counter} - nasx = {sum(d.macs for d in tally.differences):+,} MACs"
        wide = max(len(f"{d.macs:+,}") for d in tally.differences)
        for d in tally.differences:
            yield f"  {d.macs:+{wide},}  {d.where}: {d.why}"


def _sizes(shape: Sequence[object]) -> str:
    """Return a shape as "3 x 64 x 64", several as a list of them."""
    if shape and isinstance(shape[0], tuple | list):
        return ", ".join(_sizes(one) for one in shape if isinstance(one, tuple | list))
    return " x ".join(map(str, shape))
