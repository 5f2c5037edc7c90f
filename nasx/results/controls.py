"""A front member against its control: the same network with the technique off, at like cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nasx.axes import AXES
from nasx.cost.matched import unmatched
from nasx.results.observed import Observation, known
from nasx.trial import Snapshot, State, Trial

CONFIDENCE = 0.95


def against_control(observed: Observation, snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the member's difference from its control, or None where no control was asked for.

    "scores" has, for each score among the objectives, both means over the `n` seeds that both
    completed, the mean difference (member - control, in the score's unit) and its 95 % interval by
    the paired t, None for a single pair. "failed" lists control trainings that failed, with
    their reason. "reason" says why there is no difference at all, else it is None.
    """
    member = observed.trial
    rows = [t for t in snapshot.trials if t.control_of == member.number]
    if not rows and snapshot.study.final.controls == "none":
        return None
    full = snapshot.study.fidelity.full
    complete = [t for t in rows if t.state is State.COMPLETE and t.samples == full]
    lost = [t for t in rows if t.state is State.FAILED]
    found: dict[str, Any] = {
        "trials": [t.name for t in complete],
        "candidate": next((t.candidate for t in rows if t.candidate), None),
        "macs": {"member": member.card.get("macs"), "control": _macs(rows)},
        "n": 0,
        "seeds": [],
        "scores": {},
        "failed": [
            {"trial": t.name, "seed": t.seed, "reason": t.reason or "no reason recorded"}
            for t in lost
        ],
        "reason": None,
    }
    pairs = _pairs(observed, complete)
    wrong = next((w for t in complete if (w := unmatched(member.card, t.card, member.name))), None)
    if wrong or not pairs:
        found["reason"] = wrong or _why(rows, lost, member, snapshot)
        return found
    found["n"], found["seeds"] = len(pairs), [mine.seed for mine, _ in pairs]
    for axis in snapshot.study.objectives:
        if AXES[axis].kind == "score":
            found["scores"][axis] = _difference(pairs, axis)
    return found


def _pairs(observed: Observation, controls: list[Trial]) -> list[tuple[Trial, Trial]]:
    by_seed = {t.seed: t for t in controls}
    return [(t, by_seed[t.seed]) for t in observed.trials if t.seed in by_seed]


def _difference(pairs: list[tuple[Trial, Trial]], axis: str) -> dict[str, float | None]:
    mine = np.array([known(member)[axis] for member, _ in pairs])
    its = np.array([known(control)[axis] for _, control in pairs])
    apart = mine - its
    found: dict[str, float | None] = {
        "member": float(mine.mean()),
        "control": float(its.mean()),
        "difference": float(apart.mean()),
        "low": None,
        "high": None,
    }
    if len(apart) > 1:
        from scipy.special import stdtrit

        quantile = float(stdtrit(len(apart) - 1, 0.5 + CONFIDENCE / 2))
        half = quantile * float(apart.std(ddof=1)) / math.sqrt(len(apart))
        found["low"], found["high"] = float(apart.mean()) - half, float(apart.mean()) + half
    return found


def _macs(rows: list[Trial]) -> int | None:
    return next((t.card["macs"] for t in rows if t.card.get("macs") is not None), None)


def _why(rows: list[Trial], lost: list[Trial], member: Trial, snapshot: Snapshot) -> str:
    """Say why a member has no difference from a control."""
    if lost:
        return lost[0].reason or "its control failed and left no reason"
    if rows:
        return "its control is not trained yet"
    without = snapshot.provenance.get("without_control") or {}
    return str(without.get(member.name, "no control has been trained for it"))
