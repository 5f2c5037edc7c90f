"""What a search shows while it runs: one calm live block, or plain lines. Always on stderr."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from nasx.axes import AXES
from nasx.quantity import amount, count, duration, sparkline
from nasx.trial import State

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from nasx.study import Study
    from nasx.trial import Trial

ROWS = 5  # front rows in the live block
COUNTED = (  # (state, word) in the order of the status line
    (State.RUNNING, "running"),
    (State.COMPLETE, "full"),
    (State.STOPPED, "stopped"),
    (State.FAILED, "failed"),
    (State.INTERRUPTED, "interrupted"),
)
ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass
class Progress:
    """A search at one moment. `front` pairs each member with its objectives, in any order."""

    trials: int  # the budget
    counts: dict[State, int] = field(default_factory=dict)
    rejected: int = 0
    front: list[tuple[Trial, dict[str, float]]] = field(default_factory=list)
    hypervolume: list[float] = field(default_factory=list)  # one value for each finished trial
    seconds: float = 0.0  # wall time of this invocation
    remaining: float | None = None  # estimated seconds; None while unknown

    @property
    def done(self) -> int:
        """Return how many trials have ended."""
        return sum(self.counts.get(state, 0) for state in ENDED)


class Display(Protocol):
    """Where the engine says what happens."""

    def begin(self, study: Study, run: Path, resumed: int) -> None:
        """Say what starts, and how many earlier invocations the record holds."""

    def trial(self, trial: Trial, progress: Progress) -> None:
        """Show a trial after a rung, a failure or its completion."""

    def note(self, text: str) -> None:
        """Say one thing that is not a trial."""

    def end(self, outcome: str) -> None:
        """Say how the search ended; an empty text where an error will say it."""


def status(progress: Progress) -> str:
    """Return the one line of counts, time left and hypervolume."""
    counts = [
        f"{progress.counts[state]} {word}" for state, word in COUNTED if progress.counts.get(state)
    ]
    if progress.rejected:
        counts.append(f"{progress.rejected} rejected")
    parts = [" · ".join([f"trials {progress.done}/{progress.trials}", *counts])]
    if progress.remaining is not None:
        parts.append(f"ETA {duration(progress.remaining)}")
    if progress.hypervolume and progress.hypervolume[-1] > 0:  # 0 until a trial is complete
        bars = sparkline(progress.hypervolume)
        parts.append(f"HV {count(progress.hypervolume[-1])} {bars}")
    return " | ".join(parts)


def opening(study: Study, run: Path, resumed: int) -> str:
    """Return the first line: the study, its objectives and its folder."""
    goals = ", ".join(f"{way} {axis}" for axis, way in study.objectives.items())
    again = f", continued ({resumed} earlier start{'s' if resumed > 1 else ''})" if resumed else ""
    return f"{study.name}: {goals}; record in {run}{again}"


def line(trial: Trial, study: Study | None) -> str:
    """Return one trial as one line: name, state, fidelity, the objectives or the reason."""
    word = {State.RUNNING: "rung", State.COMPLETE: "full"}.get(trial.state, trial.state.lower())
    parts = [f"{trial.name} {word:<8}"]
    if trial.replicate_of is not None:
        parts.append(f"t{trial.replicate_of:04d} again, seed {trial.seed}")
    if trial.control_of is not None:
        parts.append(f"control of t{trial.control_of:04d}, seed {trial.seed}")
    if trial.rungs:
        parts.append(f"{trial.samples} samples")
    axes = study.objectives if study else trial.values
    parts += [f"{axis} {amount(axis, trial.values[axis])}" for axis in axes if axis in trial.values]
    if trial.reason:
        parts.append(trial.reason)
    return "  ".join(parts)


class SilentDisplay:
    """Show nothing."""

    def begin(self, study: Study, run: Path, resumed: int) -> None:
        """Show nothing."""

    def trial(self, trial: Trial, progress: Progress) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def end(self, outcome: str) -> None:
        """Show nothing."""


class PlainDisplay:
    """Write one line for every rung, failure and completion; for logs, pipes and CI."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.study: Study | None = None
        self.last: Progress | None = None

    def begin(self, study: Study, run: Path, resumed: int) -> None:
        """Write the opening line."""
        self.study = study
        self._write(opening(study, run, resumed))

    def trial(self, trial: Trial, progress: Progress) -> None:
        """Write the trial and how many have ended."""
        self.last = progress
        self._write(f"[{progress.done}/{progress.trials}] {line(trial, self.study)}")

    def note(self, text: str) -> None:
        """Write the text."""
        self._write(text)

    def end(self, outcome: str) -> None:
        """Write the last counts and the outcome."""
        if self.last:
            self._write(status(self.last))
        if outcome:
            self._write(outcome)

    def _write(self, text: str) -> None:
        # A trial's reason may carry control characters from an exception: a log stays one line.
        clean = "".join(c if c.isprintable() else " " for c in text)
        print(clean, file=self.stream, flush=True)


class LiveDisplay:
    """Keep one block up to date: counts, time left, hypervolume and the best of the front."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self.console: Console = Console(file=stream or sys.stderr, highlight=False)
        self.study: Study | None = None
        self.last: Progress | None = None
        self.live: Live | None = None

    def begin(self, study: Study, run: Path, resumed: int) -> None:
        """Print the opening line and open the block."""
        from rich.live import Live

        self.study = study
        self._print(opening(study, run, resumed))
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self.live.start()

    def trial(self, trial: Trial, progress: Progress) -> None:
        """Redraw the block; a failure also stays as a line above it."""
        self.last = progress
        if trial.state is State.FAILED:
            self._print(line(trial, self.study))
        if self.live:
            self.live.update(self.block(progress), refresh=True)

    def note(self, text: str) -> None:
        """Print the text above the block."""
        self._print(text)

    def end(self, outcome: str) -> None:
        """Close the block and print the outcome under it."""
        if self.live:
            self.live.stop()
            self.live = None
        if outcome:
            self._print(outcome)

    def block(self, progress: Progress) -> RenderableType:
        """Return the status line over a small table of the front."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        head = Text(status(progress), no_wrap=True, overflow="ellipsis")
        if not progress.front:
            return head
        axes = list(self.study.objectives) if self.study else list(progress.front[0][1])
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
        table.add_column("front")
        for axis in axes:
            table.add_column(axis, justify="right")
        for trial, values in spread(ranked(progress.front, axes), ROWS):
            table.add_row(trial.name, *(amount(axis, values.get(axis)) for axis in axes))
        return Group(head, table)

    def _print(self, text: str) -> None:
        from rich.text import Text

        self.console.print(Text(text), soft_wrap=True)


def ranked(
    front: list[tuple[Trial, dict[str, float]]], axes: list[str]
) -> list[tuple[Trial, dict[str, float]]]:
    """Return the members from the best to the worst in the first score among `axes`."""
    score = next((axis for axis in axes if AXES[axis].kind == "score"), axes[0])
    sign = -1.0 if AXES[score].direction == "maximize" else 1.0
    return sorted(front, key=lambda member: sign * member[1].get(score, 0.0))


def spread(
    front: list[tuple[Trial, dict[str, float]]], rows: int
) -> list[tuple[Trial, dict[str, float]]]:
    """Return at most `rows` members, from the first to the last, evenly chosen."""
    if len(front) <= rows:
        return front
    return [front[round(i * (len(front) - 1) / (rows - 1))] for i in range(rows)]


def display_for(stream: TextIO | None = None) -> Display:
    """Return the live block on a terminal, plain lines elsewhere and under CI=true."""
    stream = stream or sys.stderr
    under_ci = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    if stream.isatty() and not under_ci and os.environ.get("TERM") != "dumb":
        return LiveDisplay(stream)
    return PlainDisplay(stream)
