"""Finished candidates with every cost their record knows; latency only where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nasx.results.alike import at_pace
from nasx.results.front import SLACK
from nasx.results.observed import LATENCY, Observation, observations
from nasx.trial import Snapshot


def priced(run: Snapshot, pace: float | None, *, latency: bool = True) -> list[Observation]:
    """Return the feasible candidates of a run, with measured latencies at a calibrator's `pace`.

    A candidate that the quiet pass timed keeps a limit on latency by that time, any other by its
    provisional one. Without `latency` that axis is left out.
    """
    timed = {o.trial.number: o for o in at_pace(observations(run, "measured"), run, pace)}
    visited = {number for number, final in run.finals.items() if final.latency}
    limited = LATENCY in run.study.constraints
    met = {o.trial.number for o in observations(run, "provisional")}
    found = []
    for o in observations(run, "provisional", slack=SLACK):
        number = o.trial.number
        if limited and number not in (timed if number in visited else met):
            continue
        values = {name: value for name, value in o.values.items() if name != LATENCY}
        if latency and number in timed and LATENCY in timed[number].values:
            values[LATENCY] = timed[number].values[LATENCY]
        found.append(replace(o, values=values))
    return found


def by_space(run: Snapshot, found: Sequence[Observation]) -> dict[str, list[Observation]]:
    """Return candidates by space, those of the study that completed nothing with an empty list."""
    tried = {Path(trial.space).name: trial.space for trial in run.trials}
    groups: dict[str, list[Observation]] = {}
    for reference in run.study.spaces:
        # A run folder or a file may have moved: the trials' own spelling stands.
        groups[tried.get(Path(reference).name, reference)] = []
    for o in found:
        groups.setdefault(o.trial.space, []).append(o)
    return groups
