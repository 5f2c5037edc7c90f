"""Choosing from a front: its knee, its best, its smallest, or a trial by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nasx.axes import AXES, Direction
from nasx.errors import NasxError
from nasx.results.dominance import Floats, losses

Entry = dict[str, Any]  # one element of `front` (INTERFACES: trial, space, candidate, ...)


def knee(entries: Sequence[Entry], objectives: Mapping[str, Direction] | None = None) -> Entry:
    """Return the front's knee with a sentence in "chosen" that says how it was found.

    The entry farthest from the line through the front's ends, on the side of the ideal, with
    costs on logarithmic axes and every axis scaled to the front's range; the plane through the
    ends with more than two objectives. With fewer than 3 entries, or nothing to trade, it is the
    most accurate one, and says so. `objectives` gives the directions (default: nasx.axes).
    Raises NasxError for an empty front.
    """
    _demand(entries)
    if len(entries) < 3 or len(entries[0]["objectives"]) < 2:
        few = f"the front has {len(entries)} point" + ("s" if len(entries) > 1 else "")
        why = few if len(entries) < 3 else "there is one objective"
        return {**best(entries), "chosen": f"the most accurate point: {why}, a knee needs more"}
    scaled = scaled_losses(entries, objectives)
    # In 2-D the ends sit at (0, 1) and (1, 0), so the distance from their line falls with the
    # sum of the coordinates; the same holds for the plane through the ends in any dimension.
    sums = scaled.sum(axis=1)
    inner = (scaled > 0).all(axis=1)  # an end has the best value of some objective
    if inner.any():
        sums[~inner] = np.inf
    chosen = entries[int(np.argmin(sums))]
    return {**chosen, "chosen": "the knee: farthest from the line through the front's ends"}


def best(entries: Sequence[Entry]) -> Entry:
    """Return the entry with the best primary score; ties go to the cheapest."""
    _demand(entries)
    score = primary(entries[0]["objectives"])
    sign = -1.0 if AXES[score].direction == "maximize" else 1.0
    return min(entries, key=lambda e: (sign * e["objectives"][score], _cost(e), e["trial"]))


def smallest(entries: Sequence[Entry]) -> Entry:
    """Return the entry with the least cost: the first cost objective, or else MACs."""
    _demand(entries)
    return min(entries, key=lambda e: (_cost(e), e["trial"]))


def select(
    entries: Sequence[Entry], which: str, objectives: Mapping[str, Direction] | None = None
) -> Entry:
    """Return the entry named "knee", "best", "smallest" or a trial such as "t0007".

    Its "chosen" says in words what was taken. Raises NasxError with what there is.
    """
    _demand(entries)
    if which == "knee":
        return knee(entries, objectives)
    if which == "best":
        return {**best(entries), "chosen": "the most accurate point of the front"}
    if which == "smallest":
        return {**smallest(entries), "chosen": "the smallest point of the front"}
    for entry in entries:
        if entry["trial"] == which:
            return {**entry, "chosen": f"trial {which}"}
    there = ", ".join(entry["trial"] for entry in entries)
    raise NasxError(f"no '{which}' on the front; say knee, best, smallest or one of {there}")


def primary(objectives: Mapping[str, Any]) -> str:
    """Return the first objective that is a score, or else the first."""
    return next((name for name in objectives if AXES[name].kind == "score"), next(iter(objectives)))


def scaled_losses(
    entries: Sequence[Entry], objectives: Mapping[str, Direction] | None = None
) -> Floats:
    """Return entries (n, m) on axes from 0 (best here) to 1 (worst), costs as logarithms."""
    names = list(entries[0]["objectives"])
    raw = np.array([[e["objectives"][name] for name in names] for e in entries], dtype=np.float64)
    directions = [(objectives or {}).get(name, AXES[name].direction) for name in names]
    loss = losses(log_costs(raw, names), directions)
    low, span = loss.min(axis=0), np.ptp(loss, axis=0)
    scaled: Floats = (loss - low) / np.where(span > 0, span, 1.0)
    return scaled


def log_costs(raw: Floats, names: Sequence[str]) -> Floats:
    """Return (n, m) values with every cost column as its logarithm (unless one is <= 0)."""
    logged = raw.copy()
    for i, name in enumerate(names):
        if AXES[name].kind != "score" and (raw[:, i] > 0).all():
            logged[:, i] = np.log(raw[:, i])
    return logged


def _cost(entry: Entry) -> float:
    costs = [n for n in entry["objectives"] if AXES[n].kind != "score"]
    if costs:
        return float(entry["objectives"][costs[0]])
    return float(entry["card"].get("macs", 0))


def _demand(entries: Sequence[Entry]) -> None:
    if not entries:
        raise NasxError(
            "the front is empty: no trial completed at full fidelity within the constraints; "
            "see `nasx status`, then continue the search or loosen a constraint"
        )
