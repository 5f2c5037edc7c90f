"""The record: the one truth about a run, in an Optuna database beside a folder of files.

A row is written before its trial is dispatched and told after its result is on disk, so a kill at
any moment loses nothing: `Record.open` finds every row that is not finished and gives it back.
Two attributes hold what Optuna has no column for: `nasx` (candidate, key, card, seed, origin;
written once) and `progress` (rung scores, attempts, reason; rewritten at each event).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.axes import AXES
from nasx.files import append_json, read_json_lines
from nasx.rows import Progress, trial_of, with_progress
from nasx.storage import StudyStore
from nasx.study import Study
from nasx.trial import Rejection, RungScore, State, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Record:
    """The writer: one per run, held by the driver."""

    def __init__(self, path: Path, study: Study, store: StudyStore) -> None:
        self.path, self.study, self.store = path, study, store
        self._ids: dict[int, int] = {}
        self._trials: dict[int, Trial] = {}
        self._progress: dict[int, Progress] = {}
        self._open: set[int] = set()
        for row in store.rows():
            self._ids[row.number] = row._trial_id
            self._progress[row.number] = Progress.from_json(row.user_attrs.get("progress"))
            self._trials[row.number] = trial_of(row)
            if not row.state.is_finished():
                self._open.add(row.number)
        self.rejections = [Rejection(**r) for r in read_json_lines(path / "rejected.jsonl")]
        self.duplicates = int(store.attribute("duplicates", 0))

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Return every trial by number."""
        return tuple(self._trials[n] for n in sorted(self._trials))

    def trial(self, number: int) -> Trial:
        """Return one trial."""
        return self._trials[number]

    @property
    def unfinished(self) -> list[int]:
        """Return the numbers whose rows are still RUNNING in the database."""
        return sorted(self._open)

    def progress(self, number: int) -> Progress:
        """Return the changing part of one trial."""
        return self._progress[number]

    def add(
        self,
        trial: Trial,
        params: Mapping[str, Any],
        domains: Mapping[str, BaseDistribution],
        known: Mapping[str, float],
    ) -> Trial:
        """Commit a new trial before it is dispatched; `known` are its costs by axis."""
        fixed = {
            "space": trial.space,
            "candidate": trial.candidate,
            "key": trial.key,
            "seed": trial.seed,
            "card": trial.card,
            "origin": trial.origin,
            "replicate_of": trial.replicate_of,
            "control_of": trial.control_of,
            "first_rung": trial.first_rung,
            "full": trial.full,
        }
        number = len(self._ids)  # one driver writes, so rows are numbered in their order
        excess = self._excesses(known, static=True)
        trial_id = self.store.create(params, domains, excess, {"nasx": fixed})
        new = Trial(**{**vars(trial), "number": number, "state": State.RUNNING})
        self._ids[number], self._trials[number] = trial_id, new
        self._progress[number] = Progress()
        self._open.add(number)
        return new

    def dispatched(self, number: int) -> int:
        """Note that a segment of a trial goes out; return how many times it was tried."""
        progress = self._progress[number]
        progress.phase = "running"
        progress.attempts += 1
        return progress.attempts

    def rung(self, number: int, score: RungScore, seconds: float, phase: str) -> Trial:
        """Keep one rung's score; `phase` is 'paused' or 'running'."""
        progress = self._progress[number]
        progress.rungs = [r for r in progress.rungs if r.rung != score.rung] + [score]
        progress.seconds += seconds
        progress.phase, progress.attempts = phase, 0
        return self._keep(number)

    def mark(self, number: int, phase: str) -> Trial:
        """Note that a trial waits at a rung or was interrupted."""
        self._progress[number].phase = phase
        return self._keep(number)

    def complete(self, number: int, score: RungScore, seconds: float, diagnosis: Any) -> Trial:
        """Tell a trial that reached full fidelity."""
        progress = self._progress[number]
        progress.rungs = [r for r in progress.rungs if r.rung != score.rung] + [score]
        progress.seconds += seconds
        progress.diagnosis = dict(diagnosis or {})
        return self._finish(number, State.COMPLETE)

    def stop(self, number: int) -> Trial:
        """Tell a trial that ends at the rung it reached."""
        return self._finish(number, State.STOPPED)

    def fail(self, number: int, reason: str, seconds: float = 0.0) -> Trial:
        """Tell a trial that failed, with its reason."""
        self._progress[number].reason = reason
        self._progress[number].seconds += seconds
        return self._finish(number, State.FAILED)

    def settle(self, number: int) -> bool:
        """Finish a row whose driver died between its last progress and its final state."""
        progress = self._progress[number]
        if number not in self._open or progress.phase != "done":
            return False
        if progress.reason is not None:
            self._finish(number, State.FAILED)
        elif progress.rungs and progress.rungs[-1].samples >= self._full(number):
            self._finish(number, State.COMPLETE)
        else:
            self._finish(number, State.STOPPED)
        return True

    def _full(self, number: int) -> int:
        return self._trials[number].full or self.study.fidelity.full

    def reject(self, rejection: Rejection) -> None:
        """Keep a candidate refused before training; it takes no number."""
        self.rejections.append(rejection)
        append_json(self.path / "rejected.jsonl", asdict(rejection))

    def count_duplicates(self, more: int) -> None:
        """Keep how many proposals were networks already seen."""
        if more:
            self.duplicates += more
            self.store.set_attribute("duplicates", self.duplicates)

    def _keep(self, number: int) -> Trial:
        self.store.set_progress(self._ids[number], asdict(self._progress[number]))
        return self._refresh(number, None)

    def _finish(self, number: int, state: State) -> Trial:
        progress = self._progress[number]
        progress.phase = "done"
        values = progress.rungs[-1].values if progress.rungs else {}
        told = [values[a] for a in self.study.objectives] if state is State.COMPLETE else None
        excess = self._excesses(values, static=False)
        self.store.finish(self._ids[number], asdict(progress), excess, state, told)
        self._open.discard(number)
        return self._refresh(number, state)

    def _excesses(self, values: Mapping[str, float], *, static: bool) -> dict[str, float]:
        """Return how far values are past their limits (<= 0 is feasible), static axes or others."""
        return {
            axis: values[axis] - limit if operator == "<=" else limit - values[axis]
            for axis, (operator, limit) in self.study.limits().items()
            if axis in values and (AXES[axis].kind == "static") is static
        }

    def _refresh(self, number: int, state: State | None) -> Trial:
        progress = self._progress[number]
        new = with_progress(self._trials[number], progress, state)
        self._trials[number] = new
        return new
