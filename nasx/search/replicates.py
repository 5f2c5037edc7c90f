"""Replicates: members of the front trained again with other seeds (`final.seeds`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nasx.trial import Snapshot, State, Trial

if TYPE_CHECKING:
    from nasx.record import Record


def missing_replicate(record: Record) -> tuple[Trial, int] | None:
    """Return a front member that lacks a replicate, and the seed it lacks; or None.

    The front is that of the single trainings, so that a replicate cannot move its own target.
    """
    seeds = record.study.final.seeds
    if seeds <= 1:
        return None
    from nasx.results.front import front

    study, trials = record.study, record.trials
    once = tuple(t for t in trials if t.replicate_of is None)
    snapshot = Snapshot(study.name, record.path, study, once)
    made = {(t.replicate_of, t.seed) for t in trials if t.replicate_of is not None}
    for entry in front(snapshot, latency="provisional"):
        member = next(t for t in once if t.name == entry["trial"])
        if member.state is not State.COMPLETE:
            continue
        for more in range(1, seeds):
            if (member.number, member.seed + more) not in made:
                return member, member.seed + more
    return None
