"""What a finished search trains again: replicates of the front and its near neighbours.

Rows of their own, after the last new trial: never counted as trials, never told to a sampler. What
is trained again is settled by the single trainings, so that a replicate cannot move its own target.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nasx.files import write_json
from nasx.search.controls import Controls
from nasx.search.tickets import known_costs
from nasx.trial import Snapshot, State, Trial

if TYPE_CHECKING:
    from nasx.record import Record
    from nasx.search.evaluate import Evaluator
    from nasx.study import Study


@dataclass(frozen=True)
class Repeat:
    """A training still to do, its row not committed yet.

    `fault` is why it cannot be done: the row fails at once with that reason. `card` is the whole
    cost card of a network that the search never counted.
    """

    trial: Trial
    known: dict[str, float] = field(default_factory=dict)
    fault: str | None = None
    card: dict[str, Any] | None = None


class Repeats:
    """Replicates first; then, once the front of their means stands, its controls."""

    def __init__(self, record: Record, evaluator: Evaluator) -> None:
        self.record = record
        self.controls = Controls(record.study, evaluator)

    def next(self) -> Repeat | None:
        """Return a row to commit, or None where nothing is left to train again."""
        return self._replicate() or self._control()

    def commit(self, repeat: Repeat) -> Trial:
        """Commit a row and make its folder, with the cost of a network not counted before."""
        trial = self.record.add(repeat.trial, {}, {}, repeat.known)
        folder = self.record.path / "trials" / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        if repeat.card is not None:
            write_json(folder / "cost.json", repeat.card, durable=False)
        return trial

    def fault(self, trial: Trial) -> str | None:
        """Return why a row that is open may not be trained: its control was refused."""
        if trial.control_of is None:
            return None
        control = self.controls.of(self.record.trial(trial.control_of))
        return None if control is None else control.fault

    def _replicate(self) -> Repeat | None:
        """Return a replicate that is missing; one that failed is not tried again."""
        study, trials = self.record.study, self.record.trials
        made = {(t.replicate_of, t.seed) for t in trials}
        for original in repeated(self._snapshot()) if study.final.seeds > 1 else ():
            for more in range(1, study.final.seeds):
                seed = original.seed + more
                if (original.number, seed) not in made:
                    again = again_of(original, study, seed, "replicate")
                    again = replace(again, replicate_of=original.number)
                    return Repeat(again, known_costs(original))
        return None

    def _control(self) -> Repeat | None:
        """Return a control that is missing, with a seed that its member completed."""
        from nasx.results.observed import observations, on_front

        study, trials = self.record.study, self.record.trials
        waiting = any(t.replicate_of is not None for t in trials if self._open(t))
        if study.final.controls == "none" or waiting:
            return None
        for found in on_front(observations(self._snapshot(), "provisional"), study):
            member = found.trial
            made = {t.seed for t in trials if t.control_of == member.number}
            left = [t.seed for t in found.trials if t.seed not in made]
            control = self.controls.of(member) if left else None
            if control is None or (control.fault is not None and made):
                continue
            again = again_of(member, study, left[0], f"control:{member.name}")
            again = replace(
                again,
                candidate=control.candidate,
                key=control.key,
                card={**control.card, "by_layer": []} if control.card else {},
                replicate_of=None,
                control_of=member.number,
            )
            return Repeat(again, known_costs(again), control.fault, control.card)
        return None

    def _open(self, trial: Trial) -> bool:
        return trial.number in self.record.unfinished

    def _snapshot(self) -> Snapshot:
        record = self.record
        return Snapshot(record.study.name, record.path, record.study, record.trials)


def repeated(snapshot: Snapshot) -> list[Trial]:
    """Return the trials that get replicates: the front of the single trainings, then the nearest.

    Latencies are provisional here: the quiet pass comes after the replicates.
    """
    from nasx.results.front import near_front
    from nasx.results.observed import observations, on_front

    study = snapshot.study
    once = replace(snapshot, trials=tuple(t for t in snapshot.trials if t.searched))
    members = [o.trial for o in on_front(observations(once, "provisional"), study)]
    near = near_front(once, study.final.neighbours) if members else []
    return [*members, *(snapshot.trial(number) for number in near)]


def again_of(original: Trial, study: Study, seed: int, origin: str) -> Trial:
    """Return a row that trains a network anew, fully and in one segment, with this seed."""
    return replace(
        original,
        state=State.RUNNING,
        rungs=(),
        origin=origin,
        seed=seed,
        first_rung=study.fidelity.rungs - 1,
        reason=None,
        seconds=0.0,
        diagnosis={},
    )
