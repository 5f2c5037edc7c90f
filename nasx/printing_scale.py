"""What `nasx scale` prints: a table of budgets, and one line for each network that was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasx.printing import table


def budgets(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of networks, each axis with its interval and the legal value taken."""
    return table([_row(row) for row in rows])


def verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return hit or miss of each budget with its intervals, and how many were hit."""
    lines = [f"budget {row['budget']:,}: {_verdict(row['verified'])}" for row in rows]
    judged = [row["verified"]["hit"] for row in rows if row["verified"]["hit"] is not None]
    lines.append(
        f"{sum(judged)} of {len(judged)} hit: a hit is not below the front at its MACs by more "
        "than both errors explain (95 %)"
    )
    if any(row["verified"]["seed_spread"] is None for row in rows):
        lines.append(
            "the intervals hold the validation samples alone: no network was trained at two seeds; "
            "--seeds 3 adds the seeds"
        )
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    axes = {
        axis: f"{at['value']:.3g} [{at['low']:.3g}, {at['high']:.3g}]"
        for axis, at in row["axes"].items()
    }
    return {"budget": row["budget"], "macs": row["macs"], **axes, "candidate": row["candidate"]}


def _verdict(said: Mapping[str, Any]) -> str:
    word = {True: "hit", False: "miss", None: "no front so cheap"}[said["hit"]]
    parts = [f"{word}, {said['score']} {said['rule']:.4g}"]
    if said["to_front"]:
        parts.append(f"front {said['front']:.4g}, difference {_interval(said['to_front'])}")
    if said["gain"]:
        parts.append(f"null {said['null']:.4g}, difference {_interval(said['gain'])}")
    else:
        parts.append("no null")
    return "; ".join(parts)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.3g} [{found['low']:+.3g}, {found['high']:+.3g}]"
