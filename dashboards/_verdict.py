"""The verdict in plain sentences: knee, most accurate and smallest against the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dashboards._points import Point, entries, points, primary, trial_number
from dashboards._repeats import chance, difference, seeds_text
from nasx.axes import AXES
from nasx.quantity import amount
from nasx.study import Study
from nasx.trial import Snapshot


@dataclass(frozen=True)
class Finding:
    """One card of the verdict: what it is, its trial, a large number and sentences."""

    label: str
    number: int
    headline: str
    beside: str
    sentences: tuple[str, ...]


def findings(record: Snapshot, study: Study) -> list[Finding]:
    """Return the knee, the most accurate and the smallest front member, one card per trial."""
    from nasx.results.front import select
    from nasx.results.scanned import slower_text

    front = entries(record)
    if not front:
        return []
    by_number = {p.number: p for p in points(record, study)}
    baseline = next((p for p in by_number.values() if p.baseline and p.trial.rungs), None)
    cards: dict[int, Finding] = {}
    for which, label in (("knee", "Knee"), ("best", "Most accurate"), ("smallest", "Smallest")):
        chosen = select(front, which)
        number = trial_number(chosen)
        if number in cards:
            kept = cards[number]
            cards[number] = Finding(
                f"{kept.label}, {label.lower()}", number, kept.headline, kept.beside, kept.sentences
            )
            continue
        point = by_number[number]
        sentences = [_reach(point, record, study)]
        if baseline:
            sentences.append(against(point, baseline, record, study))
        sentences += _repeated(point, study)
        slower = slower_text("It", chosen.get("whole", {}))
        sentences += [f"{slower}."] if slower else []
        if which == "knee" and len(front) < 3:
            sentences.append(f"Taken as {chosen['chosen']}.")
        cards[number] = Finding(label, number, *_headline(point, record, study), tuple(sentences))
    return list(cards.values())


def _repeated(point: Point, study: Study) -> list[str]:
    """Return what the replicates and the control say of a front member, where there are any."""
    found = []
    if point.membership is not None:
        seeds = seeds_text(point) or f"{point.seeds} seed{'s' if point.seeds > 1 else ''}"
        found.append(
            f"With other seeds it stands on the front with a probability of "
            f"{chance(point.membership)} ({seeds})."
        )
    score = (point.control or {}).get("scores", {}).get(primary(study))
    if score is not None:
        found.append(
            f"Against its control, the technique off: {difference(score, primary(study))}."
        )
    return found


def standard_error(axis: str, value: float, record: Snapshot, split: str) -> float | None:
    """Return the binomial standard error of a top-1 in points, where the split's size is known."""
    size = split_size(record, split)
    if axis != "top1" or not size:
        return None
    share = min(max(value / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / size)


def split_size(record: Snapshot, split: str) -> int | None:
    """Return how many samples a split has, from provenance["splits"]."""
    splits: Any = record.provenance.get("splits")
    size = splits.get(split) if isinstance(splits, dict) else None
    return size if isinstance(size, int) and size > 0 else None


def score_text(axis: str, value: float, record: Snapshot, split: str) -> str:
    """Return a score with its standard error: '84.2 ± 1.2 %'."""
    error = standard_error(axis, value, record, split)
    if error is None:
        return amount(axis, value)
    return f"{value:.1f} ± {error:.1f} %"


def _headline(point: Point, record: Snapshot, study: Study) -> tuple[str, str]:
    score = primary(study)
    split = "test" if score in point.test else "valid"
    value = point.test.get(score, point.values.get(score))
    if value is None:
        return "–", ""
    error = standard_error(score, value, record, split)
    plus = f"± {error:.1f} " if error is not None else ""
    return amount(score, value), f"{plus}{AXES[score].label} on {split}"


def _reach(point: Point, record: Snapshot, study: Study) -> str:
    costs = [a for a in study.objectives if AXES[a].kind != "score" and a in point.values]
    shown = costs or [a for a in ("macs", "params") if a in point.values]
    parts = []
    for axis in shown:
        how = " (provisional)" if axis == "latency_ms" and not point.measured else ""
        shown_value = amount(axis, point.values[axis])
        if axis == "latency_ms":
            parts.append(f"{shown_value} of latency{how}")
        else:
            parts.append(f"{shown_value} {AXES[axis].label}")
    score = primary(study)
    sentence = f"It costs {_and(parts)}." if parts else "Its cost is not known."
    if score in point.test and score in point.values:
        valid = score_text(score, point.values[score], record, "valid")
        sentence += f" On valid, which chose it, it scores {valid}."
    return sentence


def against(point: Point, baseline: Point, record: Snapshot, study: Study) -> str:
    """Return how a network stands to the baseline, both on valid, and whether that is noise."""
    if point.number == baseline.number:
        return "This is the baseline itself."
    if baseline.trial.samples != point.trial.samples:
        return (
            f"The baseline ({baseline.trial.name}) was not trained fully, so they do not compare."
        )
    score = primary(study)
    a, b = point.values.get(score), baseline.values.get(score)
    if a is None or b is None:
        return f"The baseline ({baseline.trial.name}) has no score to compare with."
    unit = {"%": " points", "dB": " dB"}.get(AXES[score].unit, "")
    shown = f"{abs(a - b):.1f}" if unit else f"{abs(a - b):.3f}"
    better = (a > b) == (AXES[score].direction == "maximize")
    words = (
        f"{shown}{unit} {'better' if better else 'worse'} than" if float(shown) else "level with"
    )
    costs = [axis for axis in study.objectives if AXES[axis].kind != "score"] or ["macs"]
    changes = [text for axis in costs if (text := _change(axis, point, baseline)) is not None]
    sentence = f"{words} the baseline {baseline.trial.name} on valid"
    sentence += f", at {_and(changes)}." if changes else "."
    ea = standard_error(score, a, record, "valid")
    eb = standard_error(score, b, record, "valid")
    if ea is not None and eb is not None and abs(a - b) < 2 * math.hypot(ea, eb):
        sentence += " That difference in score is within two standard errors."
    return sentence[0].upper() + sentence[1:]


def _change(axis: str, point: Point, baseline: Point) -> str | None:
    a, b = point.values.get(axis), baseline.values.get(axis)
    if a is None or not b:
        return None
    if axis == "latency_ms" and point.measured != baseline.measured:
        return None  # measured and provisional times are never compared
    ratio = a / b
    label = AXES[axis].label
    if ratio > 1.995:
        return f"{ratio:.1f} × its {label}"
    if abs(ratio - 1) < 0.005:
        return f"the same {label}"
    return f"{100 * abs(1 - ratio):.0f} % {'less' if ratio < 1 else 'more'} {label}".replace(
        "less MACs", "fewer MACs"
    )


def _and(parts: list[str]) -> str:
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"
