"""Whether a control costs what its member costs: counted MACs within 2 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MATCHED = 0.02  # share by which a control's MACs may be off
ELSEWHERE = ("adds", "shifts", "bit_ops", "lookups")  # work that MACs do not see


def unmatched(member: Mapping[str, Any], control: Mapping[str, Any], name: str) -> str | None:
    """Say why two cost cards (as JSON) do not match, with both numbers; None where they do.

    A technique that works in additions, shifts, bit operations or look-ups has moved its work out
    of the MACs: there is no count of MACs to hold its control to, so none is.
    """
    if any(member.get(kind) for kind in ELSEWHERE):
        return None
    mine, its = int(member.get("macs") or 0), int(control.get("macs") or 0)
    if abs(its - mine) <= MATCHED * mine:
        return None
    off = f"{abs(its - mine) / mine:.1%} off, " if mine else ""
    return (
        f"its cost is not matched: {its:,} MACs against the {mine:,} of {name} ({off}a match is "
        f"within {MATCHED:.0%}); change control(shape) of the space"
    )
