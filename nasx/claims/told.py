"""Further values of an arm that a claim tells: means over seeds, with the least and the most."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nasx.trial import State, Trial


def told(names: Sequence[str], trials: Mapping[int, Trial]) -> dict[str, dict[str, Any]]:
    """Return n, mean, least and most of each value over complete trials.

    A value is a score, a cost, or what the space diagnosed; n is 0 where no trial has it. No
    interval: what is diagnosed is often a share that stands at 0 or 100 for some seeds, and an
    interval from a few such seeds leaves the range that a share can have.
    """
    complete = [t for _, t in sorted(trials.items()) if t.state is State.COMPLETE]
    found = {}
    for name in names:
        known = [{**t.diagnosis, **t.values} for t in complete]
        values = [float(v[name]) for v in known if name in v]
        mean = statistics.fmean(values) if values else None
        low, high = (min(values), max(values)) if values else (None, None)
        found[name] = {"n": len(values), "mean": mean, "least": low, "most": high}
    return found
