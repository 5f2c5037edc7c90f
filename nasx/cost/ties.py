"""Which networks a measurement cannot tell apart.

Networks are visited in turn within each pass, so two of them are compared pass by pass: what slows
a whole pass slows both. No shape of the noise is assumed: the bounds of the median are the k-th
smallest and k-th largest value, with k from the binomial distribution of the signs.

Within one process a network also keeps what it owes to its place in memory: copies of one network
differ steadily by up to 1 % (measured, tests/test_ties.py). So differences below that are never
told apart, however many passes agree on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

LEVEL = 0.95
FLOOR = 0.01  # relative difference that is never told apart


def median_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Return bounds that hold the median of the values' distribution with probability `level`.

    Infinite where the values are too few for that (fewer than 6 at .95).
    """
    n, ordered = len(values), sorted(values)
    below, k = 0.0, 0  # the chance that the median lies outside the k-th values, on one side
    while 2 * (below + math.comb(n, k) * 0.5**n) <= 1 - level:
        below += math.comb(n, k) * 0.5**n
        k += 1
    return (-math.inf, math.inf) if k == 0 else (ordered[k - 1], ordered[n - k])


def indistinct(
    by_pass: Mapping[str, Sequence[float]], *, level: float = LEVEL, floor: float = FLOOR
) -> dict[str, tuple[str, ...]]:
    """Return for each network the others that it cannot be told from, given its ms by pass.

    Two networks are told apart where the interval of their median log ratio lies outside
    log(1 + `floor`) on either side of 0.
    """
    least = math.log1p(floor)
    same: dict[str, list[str]] = {name: [] for name in by_pass}
    names = list(by_pass)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            pairs = zip(by_pass[a], by_pass[b], strict=True)
            low, high = median_interval([math.log(x / y) for x, y in pairs], level)
            if low <= least and high >= -least:
                same[a].append(b)
                same[b].append(a)
    return {name: tuple(others) for name, others in same.items()}
