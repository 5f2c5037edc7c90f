"""Hit or miss: what training the networks of a rule says about the rule.

A **hit** is a network whose score is not below the front's at its MACs by more than both errors
explain: the 95 % interval of the difference reaches zero. The front's score there is read between
its members, straight in log MACs. It is the best of many noisy scores and so a little too good:
the test is hard on the rule rather than kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasx.results.evidence import Evidence, binomial_error

Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Errors:
    """What a score's error is made of, in its unit.

    `samples` are the validation samples of a top-1 score, 0 for other scores; `seeds` the standard
    deviation from seed to seed, None where nothing was trained twice.
    """

    samples: int
    seeds: float | None

    def of(self, score: float, repeats: int) -> float:
        """Return one standard error of the mean of `repeats` seeds on one validation split.

        Two networks share the split, so an interval of their difference is rather too wide.
        """
        sampling = binomial_error(score, self.samples) if self.samples else 0.0
        return math.hypot(sampling, (self.seeds or 0.0) / math.sqrt(repeats))


def seed_spread(groups: Sequence[Sequence[float]], known: Evidence) -> float | None:
    """Return the spread from seed to seed: of these repeats, else of the run's replicates."""
    several = [np.asarray(g) for g in groups if len(g) > 1]
    degrees = sum(len(g) - 1 for g in several)
    if degrees:
        return math.sqrt(sum(float(((g - g.mean()) ** 2).sum()) for g in several) / degrees)
    return known.trials.spread or None


def front_score(known: Evidence, macs: float, sign: float) -> float | None:
    """Return the front's score at some MACs; None below its cheapest member."""
    costs, scores = np.exp(known.trials.x), known.trials.scores
    share = macs / known.base_macs
    best = np.maximum.accumulate(scores)
    members = np.flatnonzero(np.concatenate([[True], best[1:] > best[:-1]]))
    if share < costs[members[0]]:
        return None
    found = np.interp(math.log(share), np.log(costs[members]), scores[members])
    return sign * float(found)


def difference(ours: float, theirs: float, error: float, sign: float) -> dict[str, float]:
    """Return how much better `ours` is than `theirs`, with its 95 % interval."""
    value = sign * (ours - theirs)
    return {"value": value, "low": value - Z * error, "high": value + Z * error}


def verdict(
    ours: Sequence[float],
    null: Sequence[float] | None,
    front: float | None,
    errors: Errors,
    sign: float,
) -> dict[str, Any]:
    """Return means, differences (positive: the rule is better) and hit, None where unknown."""
    mean = float(np.mean(ours))
    own = errors.of(mean, len(ours))
    found: dict[str, Any] = {
        "rule": mean,
        "error": own,
        "null": None,
        "front": front,
        "to_front": None,
        "gain": None,
        "hit": None,
    }
    if front is not None:
        found["to_front"] = difference(mean, front, math.hypot(own, errors.of(front, 1)), sign)
        found["hit"] = found["to_front"]["high"] >= 0
    if null is not None:
        other = float(np.mean(null))
        both = math.hypot(own, errors.of(other, len(null)))
        found["null"], found["gain"] = other, difference(mean, other, both, sign)
    return found
