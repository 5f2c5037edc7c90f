"""A trial as the record holds it: plain values, readable without torch, Ray or Optuna.

INFEASIBLE                          gated by cost; in rejected.jsonl, takes no number
RUNNING -> STOPPED                  ended at a rung, with its score there
        -> COMPLETE                 scored at full fidelity
        -> FAILED                   raised, not finite, out of memory or time; has its reason
        -> INTERRUPTED              not finished when the search ended; continues
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError

if TYPE_CHECKING:
    from nasx.study import Study


class State(StrEnum):
    """Where a trial stands; see the arrows above."""

    INFEASIBLE = "INFEASIBLE"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True)
class RungScore:
    """A score at one rung: the samples seen and every axis value known there."""

    rung: int
    samples: int
    values: dict[str, float]  # scores on valid, static costs, provisional latency_ms
    seconds: float = 0.0  # CPU seconds of the segment that ends here


@dataclass(frozen=True)
class Trial:
    """One evaluation of one candidate with one seed."""

    number: int
    space: str
    candidate: dict[str, Any]
    key: str
    state: State
    seed: int = 0
    rungs: tuple[RungScore, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)  # CostCard.to_json without by_layer
    reason: str | None = None
    # How it was proposed: start:baseline, gp, local, repaired, random; or replicate, control:t0007.
    origin: str = ""
    replicate_of: int | None = None  # the trial that this one trains again, with another seed
    control_of: int | None = None  # the trial whose technique is switched off here, at like cost
    first_rung: int = 0  # the lowest at which its recipe's scores may be compared
    full: int | None = None  # samples of its training, where these are not the study's
    seconds: float = 0.0  # wall seconds, all segments
    diagnosis: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the folder name, t0007."""
        return f"t{self.number:04d}"

    @property
    def searched(self) -> bool:
        """Return whether the search proposed it: it is neither a replicate nor a control."""
        return self.replicate_of is None and self.control_of is None

    @property
    def values(self) -> dict[str, float]:
        """Return the newest rung's values, or nothing."""
        return self.rungs[-1].values if self.rungs else {}

    @property
    def samples(self) -> int:
        """Return the fidelity of the newest score."""
        return self.rungs[-1].samples if self.rungs else 0


@dataclass(frozen=True)
class Rejection:
    """A candidate refused before training: the constraint, its limit and the value.

    `value` None: this cost of it is unknown. `limit` None: the axis is an objective, not limited.
    """

    space: str
    candidate: dict[str, Any]
    key: str
    constraint: str
    limit: float | None
    value: float | None
    after: int  # trial numbers given when it was refused
    values: dict[str, float] = field(default_factory=dict)  # static costs known


@dataclass(frozen=True)
class Final:
    """What the quiet pass found for one trial: test scores and calibrated latency.

    `latency` holds median_ms (calibrated), min_ms, q1_ms, q3_ms, cpu_share, contended, samples,
    runtime, device, batch, threads, and the trials in same_as, whose latencies cannot be told from
    this one's; and "whole" where it was cut from a whole network: that one's macs and ms, and how
    this one stands to it. `fault` says why it could not be timed.
    """

    number: int
    role: str  # "front" or "neighbour"
    test: dict[str, float] = field(default_factory=dict)
    latency: dict[str, Any] | None = None
    fault: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment as plain values: all that fronts, rules, figures and reports read."""

    name: str
    path: Path
    study: Study
    trials: tuple[Trial, ...]
    rejections: tuple[Rejection, ...] = ()
    finals: dict[int, Final] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    duplicates: int = 0

    def trial(self, number: int) -> Trial:
        """Return one trial; an unknown number is refused."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise NasxError(f"{self.path}: there is no trial t{number:04d} (it has {len(self.trials)})")
