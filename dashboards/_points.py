"""The trials of a record as points of a plot: every axis known, and where each one stands."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from statistics import stdev
from typing import Any, Literal

from nasx.axes import AXES
from nasx.study import Study
from nasx.trial import Snapshot, State, Trial

Role = Literal["front", "dominated", "infeasible", "stopped", "unfinished", "failed"]


@dataclass(frozen=True)
class Point:
    """One trial to draw. `values` has the quiet pass' latency where there is one."""

    trial: Trial
    role: Role
    values: dict[str, float]
    test: dict[str, float] = field(default_factory=dict)
    measured: bool = False  # latency_ms comes from the quiet pass
    spread: dict[str, tuple[float, int]] = field(default_factory=dict)  # (sd, seeds) by score
    membership: float | None = None  # probability of standing on the front
    seeds: int = 1  # complete trainings that the values are a mean of
    lost: tuple[Trial, ...] = ()  # replicates that failed
    control: dict[str, Any] | None = None  # a member against its control

    @property
    def number(self) -> int:
        """Return the trial's number."""
        return self.trial.number

    @property
    def baseline(self) -> bool:
        """Return whether this is the candidate that the study started from."""
        return self.trial.origin == "start:baseline"


def points(record: Snapshot, study: Study) -> list[Point]:
    """Return one point for each trial of the search, in order of number."""
    from nasx.results.observed import observations, timing
    from nasx.results.repeats import memberships

    controls = {trial_number(e): e.get("control") for e in entries(record)}
    observed = observations(record, timing(record))
    seen = {o.trial.number: o for o in observed}
    chances = memberships(observed, study)
    twins: dict[int, list[Trial]] = {}
    for trial in record.trials:
        if trial.replicate_of is not None:
            twins.setdefault(trial.replicate_of, []).append(trial)
    found = []
    for trial in record.trials:
        if trial.searched:
            known, same = seen.get(trial.number), twins.get(trial.number, [])
            point = _point(trial, same, known.values if known else None, record, study, controls)
            point = replace(
                point,
                membership=chances.get(trial.number),
                seeds=len(known.trials) if known else 1,
                lost=tuple(t for t in same if t.state is State.FAILED),
                control=controls.get(trial.number),
            )
            found.append(point)
    return found


def front_numbers(record: Snapshot) -> set[int]:
    """Return the numbers of the trials on the front of all objectives."""
    return {trial_number(entry) for entry in entries(record)}


def entries(record: Snapshot) -> list[dict[str, Any]]:
    """Return the front as the record gives it."""
    from nasx.results.front import front

    return front(record)


def space_name(reference: str) -> str:
    """Return a space in few words: a user's file without its folders."""
    return reference.rpartition("/")[2]


def trial_number(entry: dict[str, Any]) -> int:
    """Return the number of a front's entry, written as 7 or as t0007."""
    return int(str(entry["trial"]).removeprefix("t"))


def knee_number(record: Snapshot) -> int | None:
    """Return the number of the front's knee, or None on an empty front."""
    from nasx.results.front import knee

    members = entries(record)
    return trial_number(knee(members)) if members else None


def _point(
    trial: Trial,
    twins: list[Trial],
    seen: dict[str, float] | None,
    record: Snapshot,
    study: Study,
    members: Collection[int],
) -> Point:
    """Return one trial; `seen` is what the front knows of it (means over its replicates)."""
    card = {axis: trial.card[axis] for axis in AXES if axis in trial.card}
    values = {k: float(v) for k, v in {**card, **trial.values}.items() if _finite(v)}
    final = record.finals.get(trial.number)
    if final and final.latency:
        values["latency_ms"] = float(final.latency["median_ms"])
    values.update(seen or {})
    if "macs" in values:
        values["flops"] = 2 * values["macs"]
    spread = {}
    seeds = [trial, *twins]
    for axis in values:
        if axis in AXES and AXES[axis].kind == "score":
            same = [t.values[axis] for t in seeds if _like(t, trial) and axis in t.values]
            if len(same) > 1:
                spread[axis] = (stdev(same), len(same))
    return Point(
        trial, _role(trial, values, study, members), values,
        dict(final.test) if final else {}, bool(final and final.latency), spread,
    )  # fmt: skip


def _like(twin: Trial, trial: Trial) -> bool:
    return twin.samples == trial.samples and twin.state is trial.state


def _role(trial: Trial, values: dict[str, float], study: Study, members: Collection[int]) -> Role:
    if trial.number in members:
        return "front"
    if trial.state is State.FAILED:
        return "failed"
    if trial.state is State.STOPPED:
        return "stopped"
    if trial.state is not State.COMPLETE:
        return "unfinished"
    return "dominated" if meets(trial, values, study) else "infeasible"


def meets(trial: Trial, values: dict[str, float], study: Study) -> bool:
    """Return whether every constraint holds and the whole cost is known."""
    if trial.card.get("unpriced"):
        return False
    for axis, (operator, limit) in study.limits().items():
        value = values.get(axis)
        if value is None or (value > limit if operator == "<=" else value < limit):
            return False
    return True


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def primary(study: Study) -> str:
    """Return the score that the study is about: its first objective known after training."""
    scores = [axis for axis in study.objectives if AXES[axis].kind == "score"]
    return (scores or list(study.objectives))[0]


def cost_axis(study: Study) -> str:
    """Return the cost to draw it against: the first other objective, else MACs."""
    costs = [axis for axis in study.objectives if AXES[axis].kind != "score"]
    return (costs or ["macs"])[0]


def known_axes(found: Sequence[Point]) -> list[str]:
    """Return the axes with a value on at least one point, in the order of the table."""
    return [axis for axis in AXES if any(axis in p.values for p in found)]


def staircase(found: Sequence[Point], x: str, y: str) -> list[Point]:
    """Return the points that no other beats in both of two axes, by x.

    Measured and provisional latencies are never compared: once any is measured, only those count.
    """
    from nasx.results.front import nondominated_rank

    usable = [p for p in found if x in p.values and y in p.values]
    if "latency_ms" in (x, y) and any(p.measured for p in usable):
        usable = [p for p in usable if p.measured]
    if not usable:
        return []
    ranks = nondominated_rank(
        [[p.values[x], p.values[y]] for p in usable], [AXES[x].direction, AXES[y].direction]
    )
    best = [p for p, rank in zip(usable, ranks, strict=True) if rank == 0]
    return sorted(best, key=lambda p: (p.values[x], p.values[y]))
