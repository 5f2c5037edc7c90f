"""A scaling rule: how a space's axes go with a MAC budget, fitted on what a run found.

axis(c) with c = MACs / MACs of the study's baseline is the crest of the scores of all
full-fidelity trials near the front (`crest`); beside it stand curves through the points within one
standard error of the front (`forms`). It says where it does not know: with too few trials, too
wide an interval or a budget outside its range it names no candidate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nasx.domain import Integer, Real
from nasx.errors import NothingFeasible
from nasx.results.crest import Crest, least_trials
from nasx.results.dominance import Floats
from nasx.results.evidence import Evidence, Point, correlations, evidence
from nasx.results.fitted import TAKEN, Fitted, fitted_axes
from nasx.results.forms import Band
from nasx.results.null import Null, null_curve
from nasx.results.observed import snapshot_of
from nasx.results.setting import Counter, Setting, setting_of
from nasx.space import Space
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run
    from nasx.tasks.base import Task

LEAST_POINTS = 6  # fewer are refused
LEAST_SPAN = 2.0  # the largest of them over the smallest, in MACs
WIDEST = 0.5  # an interval, as a share of its axis' range
BEYOND = 1.5  # a budget may be this factor outside the fitted ones
GRID = 41  # budgets at which curves are written down


@dataclass(frozen=True)
class Rule:
    """A fitted rule, or what was seen and the reason why there is none (`refused`)."""

    setting: Setting
    name: str
    score: str
    domains: dict[str, Integer | Real]
    points: tuple[Point, ...]
    trials: int = 0  # at full fidelity, those far from the front too
    fits: dict[str, dict[str, Fitted]] = field(default_factory=dict)
    crest: Crest | None = None
    form: str = ""
    null: Null = field(default_factory=Null)
    correlations: dict[str, dict[str, float]] = field(default_factory=dict)
    refused: str | None = None

    @property
    def spans(self) -> dict[str, tuple[float, float]]:
        """Return the legal range of every axis."""
        return {axis: (float(d.lo), float(d.hi)) for axis, d in self.domains.items()}

    def predict(self, macs: float) -> dict[str, dict[str, float]]:
        """Return value, low and high of every axis at a budget, held to the axis' range.

        Raises NothingFeasible, in one sentence, where the rule does not know.
        """
        fault = self.refused or self.fault(macs)
        if fault:
            raise NothingFeasible(f"{self.name}: no scaling rule at {macs:,.0f} MACs: {fault}")
        found = {}
        for axis, band in self._bands(macs).items():
            value, low, high = (float(v[0]) for v in (band.mean, band.low, band.high))
            found[axis] = {"value": value, "low": low, "high": high}
        return found

    def each(self, macs: float) -> dict[str, tuple[float, float, float] | None]:
        """Return value, low and high of every axis alone, refused or not; None: not determined.

        One axis may be known where another is not, and a rule that names no network still says so.
        """
        found: dict[str, tuple[float, float, float] | None] = {}
        for axis, band in self._bands(macs).items():
            value, low, high = (float(v[0]) for v in (band.mean, band.low, band.high))
            least, most = self.spans[axis]
            found[axis] = None if high - low > WIDEST * (most - least) else (value, low, high)
        return found

    def fault(self, macs: float) -> str | None:
        """Say why the rule does not speak of a budget, or return None."""
        low, high = self.points[0].macs, self.points[-1].macs
        if not low / BEYOND <= macs <= high * BEYOND:
            return (
                f"it was fitted from {low:,} to {high:,} MACs and reaches {BEYOND:g} x beyond; "
                "ask inside, or search there"
            )
        for axis, band in self._bands(macs).items():
            (least, most), (below,), (above,) = self.spans[axis], band.low, band.high
            if above - below > WIDEST * (most - least):
                return (
                    f"the 95 % interval of {axis} there, {below:.3g} to {above:.3g}, is wider than "
                    f"half its range {least:g} to {most:g}; continue with --add-trials"
                )
        return None

    def _bands(self, macs: float) -> dict[str, Band]:
        """Return each axis at one budget."""
        x = np.log([macs / self.setting.base_macs])
        found = self.crest.bands(x) if self.crest else []
        return dict(zip(self.domains, found, strict=False))

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values: points, curves with bands, errors, the null."""
        low, high = (self.points[0].c, self.points[-1].c) if self.points else (1.0, 1.0)
        c = np.geomspace(low / BEYOND, high * BEYOND, GRID)
        return {
            "study": self.name,
            "space": self.setting.space.name,
            "score": self.score,
            "base_macs": self.setting.base_macs,
            "valid_samples": self.setting.valid_samples,
            "refused": self.refused,
            "form": self.form,
            "limits": {
                "points": LEAST_POINTS,
                "span": LEAST_SPAN,
                "width": WIDEST,
                "beyond": BEYOND,
            },
            "trials": self.trials,
            "fitted": [self.points[0].macs, self.points[-1].macs] if self.points else [],
            "ranges": {axis: list(span) for axis, span in self.spans.items()},
            "points": [asdict(point) for point in self.points],
            "correlations": self.correlations,
            "axes": {
                axis: {name: f.to_json(c) for name, f in forms.items()}
                for axis, forms in self.fits.items()
            },
            "null": {
                **asdict(self.null),
                "c": [macs / self.setting.base_macs for macs in self.null.macs],
                "error": null_errors(self.null, self.points),
            },
        }

    def __str__(self) -> str:
        from nasx.results.ruletext import sentences

        return sentences(self)


def rule(
    run: Run | Snapshot | Path | str,
    space: type[Space] | None = None,
    task: Task | None = None,
    count: Counter | None = None,
) -> Rule:
    """Return the scaling rule of a run over its space's axes, refused or not.

    `space` and `task` are looked up in the registry by default, and `count` builds and counts.
    Raises SpaceError where the space declares no axes.
    """
    snapshot = snapshot_of(run)
    setting = setting_of(snapshot, space, task, count)
    domains = setting.domains(snapshot.study)
    seen = evidence(snapshot, setting)
    found = Rule(
        setting,
        snapshot.name,
        seen.score,
        domains,
        seen.points,
        trials=len(seen.trials.x),
        correlations=correlations(seen.points),
    )
    refused = _too_little(seen)
    if refused:
        return _with(found, refused=refused)
    low, high = seen.points[0].macs, seen.points[-1].macs
    null = null_curve(setting, low, high)
    fits, crest = fitted_axes(seen, found.spans, null)
    found = _with(found, fits=fits, crest=crest, form=TAKEN, null=null)
    # Refused as a whole only where it would refuse every budget inside its own range.
    faults = [found.fault(float(macs)) for macs in np.geomspace(low, high, GRID)]
    return _with(found, refused=faults[GRID // 2] if all(faults) else None)


def null_errors(null: Null, points: tuple[Point, ...]) -> dict[str, float]:
    """Return the null's root mean square distance from the points, per axis."""
    if null.reason or not null.macs:
        return {}
    macs = np.array([float(p.macs) for p in points])
    return {
        axis: _rms(null.at(axis, macs) - np.array([p.axes[axis] for p in points]))
        for axis in null.axes
    }


def _with(rule: Rule, **changes: Any) -> Rule:
    return Rule(**{**vars(rule), **changes})


def _too_little(seen: Evidence) -> str | None:
    points, trials, axes = seen.points, len(seen.trials.x), seen.trials.axes.shape[1]
    if len(points) < LEAST_POINTS:
        return (
            f"{len(points)} trials lie within one standard error of the front, and a rule needs "
            f"{LEAST_POINTS}; continue with --add-trials"
        )
    span = points[-1].macs / points[0].macs
    if span < LEAST_SPAN:
        return (
            f"the points span a factor {span:.2f} in MACs, and a rule needs {LEAST_SPAN:g}; "
            "widen the domains or continue with --add-trials"
        )
    if trials < least_trials(axes):
        return (
            f"{trials} trials are at full fidelity, and a rule over {axes} axes needs "
            f"{least_trials(axes)}; continue with --add-trials"
        )
    return None


def _rms(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))
