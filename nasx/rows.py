"""Rows: how a trial lies in the database, in two attributes that Optuna has no column for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nasx.axes import AXES
from nasx.trial import RungScore, State, Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass
class Progress:
    """What changes while a trial runs; kept as one attribute of its row."""

    rungs: list[RungScore] = field(default_factory=list)
    phase: str = "running"  # running | paused (waits at a rung) | interrupted | done
    attempts: int = 0
    reason: str | None = None
    seconds: float = 0.0
    diagnosis: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Progress:
        """Return the progress that `asdict` wrote."""
        if not data:
            return cls()
        return cls(**{**data, "rungs": [RungScore(**r) for r in data["rungs"]]})


def with_progress(trial: Trial, progress: Progress, state: State | None) -> Trial:
    """Return a trial with its changing part; `state` None means that its row is open."""
    if state is None:
        state = {"paused": State.STOPPED, "interrupted": State.INTERRUPTED}.get(
            progress.phase, State.RUNNING
        )
    values = progress.rungs[-1].values if progress.rungs else {}
    return Trial(
        **{
            **vars(trial),
            "card": _with_means(trial.card, values),
            "state": state,
            "rungs": tuple(progress.rungs),
            "reason": progress.reason,
            "seconds": progress.seconds,
            "diagnosis": progress.diagnosis,
        }
    )


def _with_means(card: dict[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """Return a card with the costs that a score found: means, where work depends on the input."""
    found = {k: values[k] for k in card if k in AXES and k in values and values[k] != card[k]}
    return {**card, **{k: int(v) if isinstance(card[k], int) else v for k, v in found.items()}}


def trial_of(row: FrozenTrial) -> Trial:
    """Return the trial that a database row holds."""
    fixed: dict[str, Any] = row.user_attrs.get("nasx", {})
    bare = Trial(
        number=row.number,
        space=fixed.get("space", ""),
        candidate=fixed.get("candidate", {}),
        key=fixed.get("key", ""),
        state=State.RUNNING,
        seed=fixed.get("seed", 0),
        card=fixed.get("card", {}),
        origin=fixed.get("origin", ""),
        replicate_of=fixed.get("replicate_of"),
        control_of=fixed.get("control_of"),
        first_rung=fixed.get("first_rung", 0),
        full=fixed.get("full"),
    )
    finished = {"COMPLETE": State.COMPLETE, "PRUNED": State.STOPPED, "FAIL": State.FAILED}
    progress = Progress.from_json(row.user_attrs.get("progress"))
    return with_progress(bare, progress, finished.get(row.state.name))
