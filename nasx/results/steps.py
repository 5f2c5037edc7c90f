"""Steps of latency: widths between which channels are cut and no time is saved.

Networks that differ in one part's width are timed together, pass by pass (nasx.cost.ties says why
pairs). Of two widths the narrower saves a share m of the network's MACs. That *buys no time* where

* the wider is not surely slower by more than copies of one network differ (1 %), and
* the share of time that the narrower saves is surely below m / 2, and below 5 %.

The second condition keeps noise from passing for a step: where the measurement cannot tell m / 2
from nothing, nothing is said. Each bound holds with 99.9 %, since a part of nine widths has 36
pairs: that all of them hold has a chance of 96 % at least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from nasx.cost.ties import FLOOR, median_interval

LEVEL = 0.99  # of two networks compared alone
SURE = 0.999  # of every pair of a part
WORTH = 0.5  # of the share of MACs that it saves: less time than this is "no time"
CLOSE = 0.05  # and so is at most this share of time, however many MACs are saved


@dataclass(frozen=True)
class Rung:
    """One width that was timed: its channels, the network's MACs, its ms in each pass."""

    width: int
    macs: int
    by_pass: tuple[float, ...]


@dataclass(frozen=True)
class Flat:
    """A range of widths in which MACs buy no time.

    `macs` are those that the narrowest saves against the widest, `low` to `high` the share of time
    (99.9 % interval, negative: it is slower).
    """

    narrow: int
    wide: int
    macs: int
    low: float
    high: float


def time_saved(narrow: Sequence[float], wide: Sequence[float]) -> tuple[float, float]:
    """Return bounds of the share of time that `narrow` saves against `wide`, ms by pass."""
    low, high = median_interval(_logs(narrow, wide), SURE)
    return 1 - math.exp(high), 1 - math.exp(low)


def flats(rungs: Sequence[Rung]) -> list[Flat]:
    """Return the ranges in which MACs buy no time, none within another, by rising width.

    Ranges may share widths: 40 to 48 and 44 to 52 can both be flat where 40 to 52 is a slope.
    """
    ordered = sorted(rungs, key=lambda r: r.width)
    found: list[tuple[int, int]] = []
    for i in range(len(ordered)):
        for j in range(len(ordered) - 1, i, -1):
            if _is_flat(ordered[i : j + 1]):
                if not found or j > found[-1][1]:
                    found.append((i, j))
                break
    return [_flat(ordered[i], ordered[j]) for i, j in found]


def free_above(rungs: Sequence[Rung], width: int) -> Flat | None:
    """Return the range from `width` up to the widest that takes no more time, or None.

    Widths between them may be slower: kernels like some numbers of channels better.
    """
    above = sorted((r for r in rungs if r.width >= width), key=lambda r: r.width)
    for wide in reversed(above[1:]):
        if _buys_nothing(above[0], wide):
            return _flat(above[0], wide)
    return None


def step_below(rungs: Sequence[Rung], width: int) -> Flat | None:
    """Return the step from `width` down to the widest that surely saves time, or None."""
    below = sorted((r for r in rungs if r.width <= width), key=lambda r: -r.width)
    for rung in below[1:]:
        if _slower(below[0], rung):
            return _flat(rung, below[0])
    return None


def part_found(rungs: Sequence[Rung], width: int) -> dict[str, Any]:
    """Return as JSON what the rungs of one part say: each rung, flat ranges, the useful side."""
    own = next(r for r in rungs if r.width == width)
    rows = []
    for rung in sorted(rungs, key=lambda r: r.width):
        low, high = median_interval(_logs(rung.by_pass, own.by_pass), LEVEL)
        rows.append(
            {
                "width": rung.width,
                "macs": rung.macs,
                "ms": median(rung.by_pass),
                "ratio": None if math.isinf(low) else [math.exp(low), math.exp(high)],
            }
        )
    up, down = free_above(rungs, width), step_below(rungs, width)
    return {
        "width": width,
        "rungs": rows,
        "flats": [vars(f) for f in flats(rungs)],
        "free_up_to": up and vars(up),
        "step_down_to": down and vars(down),
    }


def against(mine: Sequence[float], whole: Sequence[float]) -> dict[str, Any]:
    """Return how a network's ms by pass stand to those of the network it was cut from.

    {"ratio", "low", "high", "slower"}: `slower` where it surely takes longer, by more than copies
    of one network differ; the bounds are None where the passes are too few to say.
    """
    low, high = median_interval(_logs(mine, whole), LEVEL)
    middle = math.exp(median(_logs(mine, whole)))
    known = math.isfinite(low)
    return {
        "ratio": middle,
        "low": math.exp(low) if known else None,
        "high": math.exp(high) if known else None,
        "slower": low > math.log1p(FLOOR),
    }


def _is_flat(rungs: Sequence[Rung]) -> bool:
    """Say whether MACs buy no time from the widest of the rungs (by rising width) to the first."""
    uneven = any(_slower(wide, narrow) for narrow, wide in combinations(rungs, 2))
    return not uneven and _buys_nothing(rungs[0], rungs[-1])


def _buys_nothing(narrow: Rung, wide: Rung) -> bool:
    if wide.macs <= narrow.macs or _slower(wide, narrow):
        return False
    _, most = time_saved(narrow.by_pass, wide.by_pass)
    return most + FLOOR < min(WORTH * (1 - narrow.macs / wide.macs), CLOSE)


def _slower(wide: Rung, narrow: Rung) -> bool:
    low, _ = median_interval(_logs(wide.by_pass, narrow.by_pass), SURE)
    return low > math.log1p(FLOOR)


def _flat(narrow: Rung, wide: Rung) -> Flat:
    low, high = time_saved(narrow.by_pass, wide.by_pass)
    return Flat(narrow.width, wide.width, wide.macs - narrow.macs, low, high)


def _logs(a: Sequence[float], b: Sequence[float]) -> list[float]:
    return [math.log(x / y) for x, y in zip(a, b, strict=True)]
