"""What a display is told: every event of a search with the state of the whole."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nasx.errors import Interrupted
from nasx.trial import Snapshot, State, Trial

if TYPE_CHECKING:
    from nasx.record import Record
    from nasx.terminal import Display


class Showing:
    """Passes trials to a display, after the record has them.

    `samples` is the training of all trials together where these are a list and no search: then
    there is no front to show either.
    """

    def __init__(self, record: Record, resumed: int, samples: int | None = None) -> None:
        self.record, self.resumed, self.samples = record, resumed, samples
        self.display: Display | None = None
        self.started = time.monotonic()
        self._due = 0.0
        self._front: list[tuple[Trial, dict[str, float]]] = []
        self._hypervolume: list[float] = []

    def begin(self, display: Display | None) -> None:
        """Open the display."""
        self.display = display
        if display is not None:
            display.begin(self.record.study, self.record.path, self.resumed)

    def note(self, text: str) -> None:
        """Say one line."""
        if self.display is not None:
            self.display.note(text)

    def end(self, outcome: str) -> None:
        """Close the display."""
        if self.display is not None:
            self.display.end(outcome)

    def trial(self, trial: Trial) -> None:
        """Show one event."""
        if self.display is None:
            return
        from nasx.terminal import Progress

        record = self.record
        trials = record.trials
        begun = [t for t in trials if t.searched or t.state is State.RUNNING]
        self._look_again(trials)
        seconds = time.monotonic() - self.started
        self.display.trial(
            trial,
            Progress(
                trials=record.study.search.trials,
                counts={s: sum(t.state is s for t in begun) for s in State},
                rejected=len(record.rejections),
                front=self._front,
                hypervolume=self._hypervolume,
                seconds=seconds,
                remaining=self._remaining(seconds, trials),
            ),
        )

    def _look_again(self, trials: tuple[Trial, ...]) -> None:
        """Work out the front and its history, at most a twentieth of the time."""
        began = time.monotonic()
        if self.samples is not None or began < self._due:
            return
        from nasx.results.front import front, hypervolume_history

        record = self.record
        snapshot = Snapshot(record.study.name, record.path, record.study, trials)
        by_name = {t.name: t for t in trials}
        self._front = [(by_name[e["trial"]], e["objectives"]) for e in front(snapshot)]
        self._hypervolume = [volume for _, volume in hypervolume_history(snapshot)]
        now = time.monotonic()
        self._due = now + 20 * (now - began)

    def _remaining(self, seconds: float, trials: tuple[Trial, ...]) -> float | None:
        """Estimate the seconds left from the samples trained and still to train."""
        total = float(self._searched() if self.samples is None else self.samples)
        done = float(sum(t.samples for t in trials if t.searched))
        return None if done <= 0 or total <= 0 else max(0.0, seconds * (total - done) / done)

    def _searched(self) -> float:
        """Return the samples that a search of this study trains."""
        fidelity = self.record.study.fidelity
        budgets = fidelity.budgets()
        total, n = 0.0, float(self.record.study.search.trials)
        for rung, budget in enumerate(budgets):
            total += n * (budget - (budgets[rung - 1] if rung else 0))
            n //= fidelity.factor
        return total


@contextlib.contextmanager
def left_tidy(display: Display | None) -> Iterator[None]:
    """Give the terminal back however a search ends; a Ctrl-C while no trial runs goes on too."""
    try:
        yield
    except BaseException as error:
        if display is not None:
            display.end("")
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("stopped: every finished trial is in the record") from None
        raise
