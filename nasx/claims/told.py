"""Further values of an arm that a claim tells: means over seeds, with an interval."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasx.results.paired import LEAST, interval
from nasx.trial import State, Trial


def told(names: Sequence[str], trials: Mapping[int, Trial]) -> dict[str, dict[str, Any]]:
    """Return n, mean and interval (see `nasx.results.paired`) of each value over complete trials.

    A value is a score, a cost, or what the space diagnosed; n is 0 where no trial has it, and
    there is no interval for fewer seeds than a verdict needs.
    """
    complete = [t for _, t in sorted(trials.items()) if t.state is State.COMPLETE]
    found = {}
    for name in names:
        known = [{**t.diagnosis, **t.values} for t in complete]
        values = [float(v[name]) for v in known if name in v]
        low, high = interval(np.array(values)) if len(values) >= LEAST else (None, None)
        mean = statistics.fmean(values) if values else None
        found[name] = {"n": len(values), "mean": mean, "low": low, "high": high}
    return found
