"""What came of a claim: every arm, the paired differences, the verdict and all its reasons."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasx.claims.differences import differing
from nasx.claims.model import Claim
from nasx.claims.plan import Planned
from nasx.claims.protocol import kept
from nasx.results.paired import Paired, paired, pooled
from nasx.results.verdict import (
    Side,
    Verdict,
    cost_gap,
    failed,
    too_few,
    unmatched,
    unmet,
    verdict,
)
from nasx.run import Run, status
from nasx.shape import TaskShape
from nasx.trial import Snapshot, State, Trial

POOLED = "all conditions"


@dataclass(frozen=True)
class Row:
    """The comparison under one condition, or over all of them."""

    condition: str
    found: Paired
    reasons: tuple[str, ...]
    costs: Mapping[str, tuple[float | None, float | None]]  # by matched axis: first, second

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on this comparison alone."""
        return verdict(self.found, self.reasons)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        costs = {
            axis: {
                "first": a,
                "second": b,
                "apart": None if a is None or b is None else cost_gap(a, b),
            }
            for axis, (a, b) in self.costs.items()
        }
        return {
            "condition": self.condition, "n": self.found.n, **asdict(self.found), "costs": costs,
            "verdict": self.verdict, "reasons": list(self.reasons),
        }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A claim's result; the claim's own verdict is that of `total`, over all conditions."""

    claim: Claim
    protocol: str
    protocols: list[dict[str, Any]]
    arms: list[dict[str, Any]]
    rows: list[Row]
    total: Row
    cpu_hours: float
    provenance: Mapping[str, Any]
    command: str
    front: Mapping[str, Any] | None = None  # what a search's front says of the space's axes

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        claim = self.claim
        return {
            "claim": claim.name, "desc": claim.desc, "hypothesis": claim.hypothesis,
            "verdict": self.total.verdict, "reasons": list(self.total.reasons),
            "compare": list(claim.compare), "primary": claim.primary, "split": claim.split,
            "differ": list(claim.differ), "samples": claim.fidelity.full,
            "rows": [row.to_json() for row in self.rows], "total": self.total.to_json(),
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
    sides = {(p.arm, p.condition): _side(p, claim, snapshot) for p in planned}
    by_place = {(p.arm, p.condition): p for p in planned}
    first, second = claim.compare
    rows, scores = [], {}
    for condition in claim.conditions:
        a, b = sides[first, condition], sides[second, condition]
        told = undeclared(by_place[first, condition], by_place[second, condition], claim, shape)
        scores[condition] = (a.scores, b.scores)
        rows.append(_row(condition, paired(a.scores, b.scores), a, b, told, claim))
    # A failed replicate or a broken check of a further arm spoils no comparison of these two.
    whole = pooled(scores)
    named = len(rows) > 1
    reasons = [f"{r.condition}: {why}" if named else why for r in rows for why in r.reasons]
    if named and not any(too_few(r.found) for r in rows):
        reasons += too_few(whole)
    total = Row(POOLED, whole, tuple(reasons), {})
    return Found(
        claim=claim,
        protocol=protocol,
        protocols=_protocols(folder, protocol, snapshot),
        arms=[_arm(p, sides[p.arm, p.condition], claim, snapshot) for p in planned],
        rows=rows,
        total=total if named else Row(POOLED, whole, rows[0].reasons, rows[0].costs),
        cpu_hours=sum(r.seconds for t in snapshot.trials for r in t.rungs) / 3600,
        provenance=snapshot.provenance,
        command=command,
    )


def _row(condition: str, found: Paired, a: Side, b: Side, told: list[str], claim: Claim) -> Row:
    reasons = [
        *told,
        *failed([a, b]),
        *too_few(found),
        *unmatched(a, b, claim.matched),
        *unmet([a, b], claim.limits()),
    ]
    costs = {axis: (a.values.get(axis), b.values.get(axis)) for axis in claim.matched}
    return Row(condition, found, tuple(reasons), costs)


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
    known = [t.values for t in trials.values() if t.state is State.COMPLETE]
    names = set.intersection(*(set(v) for v in known)) if known else set()
    values = {name: statistics.fmean(v[name] for v in known) for name in sorted(names)}
    return Side(planned.arm, scores, faults, values)


def undeclared(a: Planned, b: Planned, claim: Claim, shape: TaskShape) -> list[str]:
    """Say in what more than declared two arms differ, or that they do not differ at all."""
    if a.key == b.key:
        return [f"{a.arm} and {b.arm} are the same network with the same recipe"]
    more = {n: v for n, v in differing(a, b, shape).items() if n not in claim.differ}
    if not more:
        return []
    listed = "; ".join(f"{n} ({x!r} against {y!r})" for n, (x, y) in more.items())
    return [f"{a.arm} and {b.arm} differ in more than declared: {listed}"]


def _arm(planned: Planned, side: Side, claim: Claim, snapshot: Snapshot) -> dict[str, Any]:
    scores = list(side.scores.values())
    trials = _trials(planned, claim, snapshot)
    return {
        **planned.to_json(),
        "n": len(scores),
        "mean": statistics.fmean(scores) if scores else None,
        "sd": statistics.stdev(scores) if len(scores) > 1 else None,
        "scores": {str(seed): score for seed, score in side.scores.items()},
        "failed": {str(seed): why for seed, why in side.faults.items()},
        "values": dict(side.values),
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
