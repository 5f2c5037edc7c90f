"""Timing while nothing trains: measured again while other work disturbs it, the best kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasx.cost.latency import Timed
    from nasx.cost.samples import Networks
    from nasx.study import Measure

Note = Callable[[str], None]

PASSES = 20  # of the quiet pass: twice the usual, to tell neighbours apart
TRIES = 3  # measurements at most, while other work disturbs them


def time_quietly(
    networks: Networks,
    measure: Measure,
    seed: int,
    raw: Path,
    note: Note,
    *,
    passes: int = PASSES,
    tries: int = TRIES,
) -> Timed:
    """Time networks; what other work disturbed is measured again, and the best kept and told.

    Raw samples are appended to `raw`.
    """
    from nasx.cost.latency import time_each

    found: list[Timed] = []
    for turn in range(tries):
        found.append(time_each(networks, measure, seed=seed + turn, passes=passes, raw=raw))
        if not found[-1].contended:
            return found[-1]
        left = tries - 1 - turn
        note(
            f"latency: other work disturbed the measurement ({found[-1].room:.0%} of the CPU it "
            f"needs was free); {'measuring again' if left else 'its values are marked contended'}"
        )
    return max(found, key=lambda timed: timed.room)
