"""What a run folder holds beside the record: curves, costs by layer, the fitted rule.

A run may be copied, cut short or still being written: what cannot be read is left out.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from nasx.trial import Snapshot, Trial


def folder(record: Snapshot, trial: Trial) -> Path:
    """Return where a trial's files lie."""
    return record.path / "trials" / trial.name


def curve(record: Snapshot, trial: Trial) -> list[dict[str, float]]:
    """Return the rows of curve.csv with a finite loss: samples, loss, lr."""
    rows = []
    try:
        with (folder(record, trial) / "curve.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                kept = {k: _number(v) for k, v in row.items() if k and isinstance(v, str)}
                good = {k: v for k, v in kept.items() if v is not None}
                if "samples" in good and "loss" in good:
                    rows.append(good)
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return rows


def thinned(rows: list[dict[str, float]], most: int = 120) -> list[dict[str, float]]:
    """Return at most `most` rows, evenly chosen, ends kept."""
    if len(rows) <= most:
        return rows
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


def layers(record: Snapshot, trial: Trial) -> list[dict[str, Any]]:
    """Return the cost by layer from cost.json, layers without any cost left out."""
    card = _json(folder(record, trial) / "cost.json")
    found = card.get("by_layer") if isinstance(card, dict) else None
    if not isinstance(found, list):
        return []
    costs = ("params", "macs", "adds", "shifts", "bit_ops", "lookups")
    return [x for x in found if isinstance(x, dict) and any(x.get(c) for c in costs)]


def reached(record: Snapshot, trial: Trial) -> int:
    """Return the samples a running trial has seen, as far as its last checkpoint or rung says."""
    state = _json(folder(record, trial) / "checkpoint" / "state.json")
    seen = state.get("samples") if isinstance(state, dict) else None
    return max(seen if isinstance(seen, int) else 0, trial.samples)


def rule(record: Snapshot) -> dict[str, Any] | None:
    """Return the scaling rule kept in rule.json, or None."""
    found = _json(record.path / "rule.json")
    return found if isinstance(found, dict) else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
