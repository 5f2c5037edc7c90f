"""What a scaling rule stands on: all full-fidelity trials, and those near the front among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasx.axes import AXES
from nasx.errors import NasxError
from nasx.results.crest import Trials
from nasx.results.knee import primary
from nasx.results.observed import Observation, observations
from nasx.results.setting import Setting, of_space
from nasx.space import Space
from nasx.trial import Snapshot


@dataclass(frozen=True)
class Point:
    """One candidate: its counted MACs, its score, its axes.

    `behind` is how far its score is from the front's at no more MACs; `error` one standard error
    there. `others` holds the candidate's further numbers, such as a width: its fields, its
    canonical values and what the technique diagnosed.
    """

    trial: str
    key: str
    macs: int
    c: float
    score: float
    behind: float
    error: float
    axes: dict[str, float]
    others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """The primary score's name, all full-fidelity trials, and the points near the front.

    Both by rising MACs. Points are the trials within one standard error of the front of (primary
    score, MACs).
    """

    score: str
    trials: Trials
    points: tuple[Point, ...]
    near: tuple[int, ...]  # each point's place among the trials
    base_macs: int


def evidence(snapshot: Snapshot, setting: Setting) -> Evidence:
    """Return what a run knows about a scaling rule.

    One standard error is the pooled spread of replicates, 0 without any; of top-1 at least the
    binomial one over the validation samples. (Seeds of one small net on few samples may lie much
    further apart than the samples tell: 12 to 49 % where the binomial error is 1.3.)
    """
    study = snapshot.study
    score = primary(study.objectives)
    if AXES[score].kind != "score":
        raise NasxError(f"{snapshot.name}: a scaling rule needs a score among the objectives")
    sign = 1.0 if study.objectives[score] == "maximize" else -1.0
    observed = [
        o
        for o in observations(snapshot, "provisional")
        if "macs" in o.values and of_space(o.trial.space, setting.space, study)
    ]
    observed.sort(key=lambda o: (o.values["macs"], o.trial.number))
    names = setting.space.axes
    candidates = [setting.space.from_json(o.trial.candidate) for o in observed]
    axes = [axes_of(candidate, names) for candidate in candidates]
    trials = Trials(
        x=np.log([o.values["macs"] / setting.base_macs for o in observed]),
        axes=np.array([list(own.values()) for own in axes]).reshape(len(axes), len(names)),
        scores=sign * np.array([o.values[score] for o in observed]),
        spread=replicate_spread(observed, score),
        samples=setting.valid_samples if score == "top1" else 0,
    )
    if not observed:
        return Evidence(score, trials, (), (), setting.base_macs)
    best = np.maximum.accumulate(trials.scores)
    behind, errors = best - trials.scores, trials.errors(best)
    near = tuple(np.flatnonzero(behind <= errors).tolist())
    points = tuple(
        _point(observed[i], score, float(behind[i]), float(errors[i]), axes[i], setting)
        for i in near
    )
    return Evidence(score, trials, points, near, setting.base_macs)


def axes_of(candidate: Space, names: Sequence[str]) -> dict[str, float]:
    """Return a candidate's axes as numbers; fields that are not active count at their default."""
    flat = type(candidate).from_json(candidate.in_effect()).flat()
    return {name: float(flat[name]) for name in names}  # type: ignore[arg-type]


def binomial_error(top1: float, samples: int) -> float:
    """Return one standard error of a top-1 accuracy, both in percent."""
    share = min(max(top1 / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / max(samples, 1))


def replicate_spread(observed: Sequence[Observation], score: str) -> float:
    """Return the pooled standard deviation of a score within groups of replicates, or 0."""
    squares, degrees = 0.0, 0
    for o in observed:
        values = np.array([t.values[score] for t in o.trials if score in t.values])
        if len(values) > 1:
            squares += float(((values - values.mean()) ** 2).sum())
            degrees += len(values) - 1
    return math.sqrt(squares / degrees) if degrees else 0.0


def correlations(points: Sequence[Point]) -> dict[str, dict[str, float]]:
    """Return Spearman's rho with c of every axis and further number that varies.

    With a 95 % interval (Fisher's z, variance 1.06 / (n - 3): Fieller et al. 1957) and the
    p-value of no correlation.
    """
    from scipy.stats import spearmanr

    if len(points) < 4:
        return {}
    c = np.array([p.c for p in points])
    rows = [{**p.axes, **p.others} for p in points]
    found = {}
    for name in rows[0]:
        if not all(name in row for row in rows):
            continue
        values = np.array([row[name] for row in rows])
        if np.ptp(values) == 0 or np.ptp(c) == 0:
            continue
        result = spearmanr(c, values)
        rho = float(result.statistic)
        # A perfect order is as sure as the next best one (two neighbours swapped), and no surer
        # than the share of all orders that are perfect.
        n = len(points)
        most = 1 - 12 / (n * (n**2 - 1))
        middle = math.atanh(min(max(rho, -most), most))
        half = 1.96 * math.sqrt(1.06 / (n - 3))
        found[name] = {
            "rho": rho,
            "low": min(rho, math.tanh(middle - half)),
            "high": max(rho, math.tanh(middle + half)),
            "p": max(float(result.pvalue), 2 / math.factorial(min(n, 99))),
        }
    return found


def _point(
    o: Observation,
    score: str,
    behind: float,
    error: float,
    axes: dict[str, float],
    setting: Setting,
) -> Point:
    candidate = setting.space.from_json(o.trial.candidate)
    known = {**candidate.active(), **candidate.canonical(setting.shape), **o.trial.diagnosis}
    macs = int(o.values["macs"])
    return Point(
        trial=o.trial.name,
        key=o.trial.key,
        macs=macs,
        c=macs / setting.base_macs,
        score=o.values[score],
        behind=behind,
        error=error,
        axes=axes,
        others=_numbers(known, axes),
    )


def _numbers(values: Mapping[str, Any], axes: Mapping[str, float]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if name not in axes and isinstance(value, int | float) and not isinstance(value, bool)
    }
