"""The accuracy at which spaces are compared: asked for, or the highest that all of them reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasx.axes import AXES
from nasx.errors import NasxError
from nasx.nearest import hint
from nasx.quantity import amount
from nasx.results.noise import Noise
from nasx.results.observed import Observation


@dataclass(frozen=True)
class Level:
    """A score axis, the value to reach in the axis' unit, and where the value comes from."""

    score: str
    value: float
    why: str


def level_of(
    at: str | None, score: str, groups: Sequence[Sequence[Observation]], noise: Noise
) -> Level:
    """Read "top1=.9", or find the highest score that every group reaches beyond doubt.

    Of a score in percent, a value up to 1 is a share, .9 meaning 90 % (unless written "0.9%").
    Beyond doubt is the lower end of a score's 95 % interval: a space's best score itself is
    reached by luck half of the time. Groups without a candidate have no say.
    """
    scores = [n for n in AXES if AXES[n].kind == "score" and _known(n, groups)]
    if score not in scores:
        there = f"the records know {', '.join(scores)}" if scores else "the records know none"
        near = hint(score, scores) if scores and score not in AXES else there
        raise NasxError(f"--at {at or score}: '{score}' is no score of these runs; {near}")
    if at is not None:
        return _read(at, score)
    sure = [
        max(o.values[score] - (noise.half_width(o) or 0.0) for o in found)
        for found in groups
        if found
    ]
    whose = "every space that completed anything" if len(sure) < len(groups) else "every space"
    doubt = " beyond doubt (lower end of a 95 % interval)" if noise.known else ""
    return Level(score, min(sure), f"the highest that {whose} reaches{doubt}")


def _known(score: str, groups: Sequence[Sequence[Observation]]) -> bool:
    every = [o for found in groups for o in found]
    return bool(every) and all(score in o.values for o in every)


def _read(at: str, score: str) -> Level:
    text = at.partition("=")[2].strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise NasxError(f"--at {at}: write it as {score}=VALUE, such as top1=90 or top1=.9")
    if AXES[score].unit == "%" and 0 <= value <= 1 and not text.endswith("%"):
        return Level(
            score, 100 * value, f"asked for; {text} is taken as {amount(score, 100 * value)}"
        )
    return Level(score, value, "asked for")
