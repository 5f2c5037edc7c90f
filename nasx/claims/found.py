"""What came of a claim: every arm, the paired differences, the verdict and all its reasons."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasx.claims.model import Claim
from nasx.claims.pairs import Pair, Row, compared
from nasx.claims.plan import Planned
from nasx.claims.protocol import kept
from nasx.claims.told import told
from nasx.results.verdict import Side
from nasx.run import Run, status
from nasx.shape import TaskShape
from nasx.trial import Snapshot, State, Trial


@dataclass(frozen=True)
class Found:
    """A claim's result; the claim's own verdict is that of `total`, over all conditions.

    `also` are the further pairs: told beside the claim, no part of its verdict.
    """

    claim: Claim
    protocol: str
    protocols: list[dict[str, Any]]
    arms: list[dict[str, Any]]
    main: Pair
    also: tuple[Pair, ...]
    cpu_hours: float
    provenance: Mapping[str, Any]
    command: str
    front: Mapping[str, Any] | None = None  # what a search's front says of the space's axes

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the claim's own comparison, condition by condition."""
        return self.main.rows

    @property
    def total(self) -> Row:
        """Return the claim's own comparison over all conditions."""
        return self.main.total

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        claim = self.claim
        return {
            "claim": claim.name, "desc": claim.desc, "hypothesis": claim.hypothesis,
            "verdict": self.total.verdict, "reasons": list(self.total.reasons),
            "compare": list(claim.compare), "primary": claim.primary, "split": claim.split,
            "differ": list(claim.differ),
            "samples": {name: claim.samples(name) for name in claim.conditions},
            "rows": [row.to_json() for row in self.rows], "total": self.total.to_json(),
            "also": [pair.to_json() for pair in self.also],
            "arms": self.arms, "protocol": self.protocol, "protocols": self.protocols,
            "hours": {"stated": claim.hours, "used": self.cpu_hours},
            "machine": self.provenance.get("machine", {}),
            "versions": self.provenance.get("versions", {}),
            "nasx_commit": self.provenance.get("nasx_commit", {}),
            "started": self.provenance.get("started"), "command": self.command,
            "front": self.front,
        }  # fmt: skip


def find(
    claim: Claim,
    planned: Sequence[Planned],
    shape: TaskShape,
    folder: Path,
    protocol: str,
    command: str = "",
) -> Found:
    """Return the result of the trials in a claim's folder under one protocol."""
    snapshot = Run(folder / protocol).snapshot()
    by_place = {(p.arm, p.condition): p for p in planned}
    sides = {place: _side(p, claim, snapshot) for place, p in by_place.items()}
    # A failed replicate or a broken check of an arm spoils no comparison of two others.
    return Found(
        claim=claim,
        protocol=protocol,
        protocols=_protocols(folder, protocol, snapshot),
        arms=[_arm(p, sides[p.arm, p.condition], claim, snapshot) for p in planned],
        main=compared(claim, claim.compare, by_place, sides, shape),
        also=tuple(compared(claim, pair, by_place, sides, shape) for pair in claim.also),
        cpu_hours=sum(r.seconds for t in snapshot.trials for r in t.rungs) / 3600,
        provenance=snapshot.provenance,
        command=command,
    )


def _trials(planned: Planned, claim: Claim, snapshot: Snapshot) -> dict[int, Trial]:
    """Return the trials of one arm under one condition by seed."""
    return {t.seed: t for t in snapshot.trials if t.key == planned.key and t.seed in claim.seeds}


def _side(planned: Planned, claim: Claim, snapshot: Snapshot) -> Side:
    trials = _trials(planned, claim, snapshot)
    scores, faults = {}, {}
    for seed in claim.seeds:
        trial = trials.get(seed)
        if trial is None:
            faults[seed] = "was not run"
        elif trial.state is not State.COMPLETE:
            faults[seed] = trial.reason or f"is {trial.state.lower()}"
        else:
            scores[seed] = trial.values[claim.primary]
    complete = [t for t in trials.values() if t.state is State.COMPLETE]
    known = [{**t.diagnosis, **t.values} for t in complete]
    names = set.intersection(*(set(v) for v in known)) if known else set()
    values = {name: statistics.fmean(v[name] for v in known) for name in sorted(names)}
    return Side(planned.arm, scores, faults, values)


def _arm(planned: Planned, side: Side, claim: Claim, snapshot: Snapshot) -> dict[str, Any]:
    scores = list(side.scores.values())
    trials = _trials(planned, claim, snapshot)
    return {
        **planned.to_json(),
        "samples": claim.samples(planned.condition),
        "n": len(scores),
        "mean": statistics.fmean(scores) if scores else None,
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "scores": {str(seed): score for seed, score in side.scores.items()},
        "failed": {str(seed): why for seed, why in side.faults.items()},
        "values": dict(side.values),
        **({"told": told(claim.tell, trials)} if claim.tell else {}),
        "trials": {str(seed): trial.name for seed, trial in sorted(trials.items())},
    }


def _protocols(folder: Path, current: str, snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return every protocol begun in a folder, with the states of its trials."""
    found = []
    for row in kept(folder):
        run = folder / row["protocol"]
        states: dict[str, int] = {}
        if (run / "resolved.yaml").is_file():
            counted = status(snapshot if row["protocol"] == current else run)["states"]
            states = {state: n for state, n in counted.items() if n}
        found.append(
            {
                "protocol": row["protocol"],
                "time": row["time"],
                "nasx": row["content"]["nasx"],
                "commit": row.get("commit"),
                "trials": sum(states.values()),
                "states": states,
                "current": row["protocol"] == current,
            }
        )
    return found
