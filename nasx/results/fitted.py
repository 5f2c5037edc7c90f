"""The axes as fitted: the crest that is taken, the forms beside it, and what each gets wrong.

Held out: without the smallest or the largest tenth or third of the budgets, all trials there left
out, what is said of the points there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nasx.results import crest
from nasx.results.dominance import Floats
from nasx.results.evidence import Evidence
from nasx.results.forms import FOLDS, FORMS, Band, Fit, left_out, usable
from nasx.results.null import Null

TAKEN = "crest"
SHARES = {"tenth": 10, "third": 3}
HELD_RESAMPLES = 100  # of the crest for each held-out end: its interval is only counted, not used
INSIDE = 21  # budgets of a held-out end at which the rule itself is looked for

Predict = Callable[[Floats], list[Band]]


@dataclass(frozen=True)
class Fitted:
    """One form of one axis with what the points say about it, in the axis' unit.

    `left_out` is the root mean square leave-one-out error. `held_out` has for "smallest tenth" and
    so on: points, budgets c from `low` to `high`, error (root mean square), null (the same of the
    customary rule), inside (the share of points in the interval), rule_inside (the share of that
    end's budgets at which the interval holds what the rule says with every trial).
    """

    fit: Fit
    left_out: float
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self, c: Floats) -> dict[str, Any]:
        """Return errors and the curve over budgets c as JSON values."""
        band = self.fit.predict(np.log(c))
        curve = {"c": c, "mean": band.mean, "low": band.low, "high": band.high}
        return {
            "parameters": self.fit.parameters,
            "left_out": self.left_out,
            "held_out": self.held_out,
            "curve": {name: values.tolist() for name, values in curve.items()},
        }


def fitted_axes(
    seen: Evidence, spans: Mapping[str, tuple[float, float]], null: Null
) -> tuple[dict[str, dict[str, Fitted]], crest.Crest]:
    """Return every form of every axis, the crest first, and the crest as a whole."""
    box = np.array(list(spans.values()))
    x = np.log([p.c for p in seen.points])
    y = np.array([list(p.axes.values()) for p in seen.points])
    whole = crest.fit(seen.trials, box, crest.resamples(np.ones(len(seen.trials.x), bool)))
    errors = _crest_left_out(seen, box, x) - y
    held = _held_out(seen, box, whole.bands, null)
    fits: dict[str, dict[str, Fitted]] = {}
    for a, axis in enumerate(spans):
        one = Fit(_axis(whole.bands, a), _exponent(whole.curves(x[[0, -1]])[:, :, a], x))
        fits[axis] = {TAKEN: Fitted(one, _rms(errors[:, a]), {k: h[a] for k, h in held.items()})}
        for name, form in FORMS.items():
            if usable(name, y[:, a]):
                off = left_out(form, x, y[:, a])
                fits[axis][name] = Fitted(form(x, y[:, a]), _rms(off))
    return fits, whole


def _axis(bands: Predict, a: int) -> Callable[[Floats], Band]:
    return lambda x: bands(x)[a]


def _exponent(ends: Floats, x: Floats) -> dict[str, float]:
    """Return b of axis = a c^b from end to end of the points, with its interval."""
    if not (ends > 0).all():
        return {}
    b = np.log(ends[:, 1] / ends[:, 0]) / (x[-1] - x[0])
    low, high = np.quantile(b[1:], [crest.TAIL, 1 - crest.TAIL])
    return {"b": float(b[0]), "b_low": float(low), "b_high": float(high)}


def _crest_left_out(seen: Evidence, box: Floats, x: Floats) -> Floats:
    """Return the crest (points, A) at each point's budget, fitted without that point."""
    n, points = len(seen.trials.x), len(seen.points)
    folds = np.arange(points) % FOLDS
    counts = np.ones((min(points, FOLDS), n))
    counts[folds, list(seen.near)] = 0.0
    curves = crest.fit(seen.trials, box, counts).curves(x)
    found: Floats = curves[folds, np.arange(points)]
    return found


def _held_out(
    seen: Evidence, box: Floats, rule: Predict, null: Null
) -> dict[str, list[dict[str, float]]]:
    """Return for each held-out end what is said of it, one dictionary for each axis."""
    found = {}
    points, c = seen.points, np.array([p.c for p in seen.points])
    for share, parts in SHARES.items():
        n = max(1, len(points) // parts)
        for name, end in (("smallest", slice(0, n)), ("largest", slice(len(points) - n, None))):
            low, high = float(c[end][0]), float(c[end][-1])
            at = np.exp(seen.trials.x)
            kept = at > high * (1 + 1e-9) if name == "smallest" else at < low * (1 - 1e-9)
            if kept.sum() < crest.least_trials(len(box)):
                continue
            counts = crest.resamples(kept, HELD_RESAMPLES)
            said = crest.fit(seen.trials, box, counts).bands
            y = np.array([list(p.axes.values()) for p in points[end]])
            whole = np.linspace(np.log(low), np.log(high), INSIDE)
            rows = []
            for a, (band, wide, own) in enumerate(
                zip(said(np.log(c[end])), said(whole), rule(whole), strict=True)
            ):
                row = {
                    "points": n,
                    "low": low,
                    "high": high,
                    "error": _rms(band.mean - y[:, a]),
                    "inside": _share_within(band, y[:, a]),
                    "rule_inside": _share_within(wide, own.mean),
                }
                if null.macs and not null.reason:
                    axis = list(null.axes)[a]
                    row["null"] = _rms(null.at(axis, c[end] * seen.base_macs) - y[:, a])
                rows.append(row)
            found[f"{name} {share}"] = rows
    return found


def _share_within(band: Band, values: Floats) -> float:
    return float(((band.low <= values) & (values <= band.high)).mean())


def _rms(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))
