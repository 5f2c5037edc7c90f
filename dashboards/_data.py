"""The record as one JSON value: what the page shows, and what its download button saves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dashboards._files import curve, layers, rule, thinned
from dashboards._points import Point, cost_axis, known_axes, points, primary, space_name
from dashboards._repeats import chance, difference
from nasx.axes import AXES
from nasx.quantity import amount, heading
from nasx.study import Study
from nasx.trial import Final, Snapshot, State

DETAILED = 200  # trials with curves and layers in the page, the front first
EXACT = ("params", "macs", "adds", "shifts", "bit_ops", "lookups")
STATES = {
    "front": "on the front",
    "dominated": "dominated",
    "infeasible": "over a limit",
    "stopped": "stopped early",
    "unfinished": "not finished",
    "failed": "failed",
}


def page_data(record: Snapshot, study: Study) -> dict[str, Any]:
    """Return everything the page's script needs, and the record behind it."""
    found = points(record, study)
    scored = [p for p in found if p.role != "stopped"]
    x, y = cost_axis(study), primary(study)
    usable = [a for a in known_axes(scored) if a in (x, y) or _varies(scored, a)]
    ranked = sorted(found, key=lambda p: (p.role != "front", p.trial.state is not State.COMPLETE))
    detailed = {p.number for p in ranked[:DETAILED] if p.trial.rungs}
    return {
        "study": study.resolved(),
        "x": x,
        "y": y,
        "axes": {
            a: {
                "label": AXES[a].label,
                "heading": heading(a),
                "direction": AXES[a].direction,
                "kind": AXES[a].kind,
                "standing": standing(a),
            }
            for a in known_axes(found)
        },
        "usable": usable,
        "trials": [_trial(p, record, p.number in detailed) for p in found],
        "replicates": [
            {"name": t.name, "of": t.replicate_of, "seed": t.seed, "state": t.state,
             "samples": t.samples, "values": t.values, "reason": t.reason}
            for t in record.trials if t.replicate_of is not None
        ],
        "controls": [
            {"name": t.name, "of": t.control_of, "seed": t.seed, "state": t.state,
             "candidate": t.candidate, "samples": t.samples, "values": t.values,
             "reason": t.reason}
            for t in record.trials if t.control_of is not None
        ],
        "rejections": [
            {"space": r.space, "candidate": r.candidate, "constraint": r.constraint,
             "limit": r.limit, "value": r.value, "after": r.after}
            for r in record.rejections
        ],
        "duplicates": record.duplicates,
        "rule": rule(record),
        "provenance": record.provenance,
    }  # fmt: skip


def standing(axis: str, *, measured: bool = True) -> str:
    """Return how a value came about: scored, counted, modelled, measured or provisional."""
    if axis == "energy_uj":
        return "modelled"
    kind = AXES[axis].kind
    if kind == "measured":
        return "measured" if measured else "provisional"
    return "counted" if kind == "static" else "scored"


def _trial(point: Point, record: Snapshot, detailed: bool) -> dict[str, Any]:
    trial = point.trial
    final = record.finals.get(trial.number)
    row: dict[str, Any] = {
        "number": trial.number,
        "name": trial.name,
        "space": space_name(trial.space),
        "state": trial.state,
        "role": point.role,
        "stands": STATES[point.role],
        "origin": trial.origin,
        "seed": trial.seed,
        "key": trial.key,
        "candidate": trial.candidate,
        "samples": trial.samples,
        "seconds": trial.seconds,
        "reason": trial.reason,
        "values": point.values,
        "shown": {axis: amount(axis, v) for axis, v in point.values.items() if axis in AXES},
        "spread": {axis: list(pair) for axis, pair in point.spread.items()},
        "membership": point.membership,
        "again": _again(point, record.study),
        "control": point.control,
        "test": point.test,
        "test_shown": {axis: amount(axis, v) for axis, v in point.test.items()},
        "measured": point.measured,
        "latency": final.latency if final else None,
        "unpriced": list(trial.card.get("unpriced") or ()),
        "notes": [*(trial.card.get("notes") or ()), *_of_latency(final)],
        "rungs": [{"samples": r.samples, "values": r.values} for r in trial.rungs],
        "diagnosis": trial.diagnosis,
    }
    if detailed:
        row["curve"] = [
            {k: float(f"{v:.5g}") for k, v in r.items()} for r in thinned(curve(record, trial), 60)
        ]
        row["layers"] = [
            {"name": str(layer.get("name", "")), "kind": str(layer.get("kind", ""))}
            | {k: layer[k] for k in EXACT if layer.get(k)}
            for layer in layers(record, trial)
        ]
    return row


def _of_latency(final: Final | None) -> Iterator[str]:
    """Yield what the quiet pass has to say of one trial beside its value."""
    if final is None:
        return
    latency = final.latency or {}
    if final.fault:
        yield f"Its latency could not be measured: {final.fault}"
    if latency.get("contended"):
        yield "Other work disturbed the measurement of its latency."
    if latency.get("same_as"):
        yield f"Its latency cannot be told from that of {', '.join(latency['same_as'])}."


def _again(point: Point, study: Study) -> list[str]:
    """Return sentences on what was trained again: how sure its place is, what failed."""
    said = []
    if point.membership is not None and point.role in ("front", "dominated"):
        seeds = f"{point.seeds} seed{'s' if point.seeds > 1 else ''}"
        said.append(f"On the front with a probability of {chance(point.membership)}, from {seeds}.")
    for t in point.lost:
        reason = t.reason or "no reason recorded"
        said.append(f"Its replicate {t.name} (seed {t.seed}) failed: {reason}.")
    if point.lost:
        mean = f"the mean of {point.seeds}" if point.seeds > 1 else "one training alone"
        said.append(f"Its values are {mean}, not of {point.seeds + len(point.lost)}.")
    if point.control is not None:
        axis = primary(study)
        score = point.control["scores"].get(axis)
        if score is not None:
            pairs = f"{point.control['n']} pair{'s' if point.control['n'] > 1 else ''} of seeds"
            said.append(f"Against its control: {difference(score, axis)}, from {pairs}.")
        elif point.control["reason"]:
            said.append(f"No comparison with a control: {point.control['reason']}.")
    return said


def _varies(found: list[Point], axis: str) -> bool:
    return len({p.values[axis] for p in found if axis in p.values}) > 1
