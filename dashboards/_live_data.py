"""What the live page shows, as JSON values."""

from __future__ import annotations

import json
from typing import Any

from dashboards import hypervolume, pareto
from dashboards._files import reached
from dashboards._points import primary
from nasx.quantity import amount, brief, duration
from nasx.trial import Snapshot, State, Trial

LATEST = 12  # rows of results and failures
WORDS = {
    State.RUNNING: "running",
    State.COMPLETE: "fully trained",
    State.STOPPED: "stopped",
    State.FAILED: "failed",
    State.INTERRUPTED: "interrupted",
}
ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


def live_data(record: Snapshot) -> dict[str, Any]:
    """Return counts, tables and figures; `version` changes when a figure may."""
    study = record.study
    originals = [t for t in record.trials if t.searched]
    done = sum(t.state in ENDED for t in originals)
    states = [(word, sum(t.state is s for t in record.trials)) for s, word in WORDS.items()]
    states = [(word, n) for word, n in states if n]
    if record.rejections:
        states.append(("refused", len(record.rejections)))
    full = [t for t in record.trials if t.state is State.COMPLETE]
    scored = [t for t in record.trials if t.state in ENDED and t.rungs]
    failed = [t for t in record.trials if t.state is State.FAILED]
    return {
        "outcome": _outcome(record, done),
        "states": states or [("trials", 0)],
        "done": done,
        "trials": study.search.trials,
        "running": [_progress(t, record) for t in record.trials if t.state is State.RUNNING],
        "events": [_result(t, record) for t in reversed(scored[-LATEST:])],
        "failures": [
            [t.name, t.reason or "no reason recorded"] for t in reversed(failed[-LATEST:])
        ],
        "version": f"{len(full)}-{len(record.finals)}",
        "front": json.loads(pareto.figure(record, study).to_json()),
        "growth": json.loads(hypervolume.figure(record, study).to_json()),
    }


def _outcome(record: Snapshot, done: int) -> str:
    states = {t.state for t in record.trials}
    head = f"{done} of {record.study.search.trials} trials have ended"
    seconds = record.provenance.get("seconds")
    if isinstance(seconds, int | float) and seconds:
        head += f", {duration(float(seconds))} of earlier work"
    if State.RUNNING in states:
        return f"{head}; the search goes on, or was cut off in the middle."
    if State.INTERRUPTED in states:
        return f"{head}; the search was interrupted and can be continued."
    return f"{head}."


def _progress(trial: Trial, record: Snapshot) -> list[str]:
    full = record.study.fidelity.full
    seen = reached(record, trial)
    text = f"{brief(seen)} of {brief(full)} samples ({100 * seen / full:.0f} %)"
    return [trial.name, text if seen else "starting", trial.origin]


def _result(trial: Trial, record: Snapshot) -> list[str]:
    axis = primary(record.study)
    return [trial.name, WORDS[trial.state], f"{brief(trial.samples)} samples",
            amount(axis, trial.values.get(axis))]  # fmt: skip
