"""The seam between the search and what it searches: one segment of one trial.

A ticket asks for one trial up to one rung. An evaluator answers with progress and, at the end,
scores: training is one evaluator, a table and a sleep are others. `run_ticket` never raises for the
candidate's own faults: it returns them, so that the worker stays alive for the next ticket.
"""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nasx.errors import NasxError, NoDevice
from nasx.files import read_json, write_json

if TYPE_CHECKING:
    from nasx.cost.card import CostCard
    from nasx.shape import TaskShape
    from nasx.space import Space

Kind = Literal["scored", "failed", "interrupted", "no_space", "no_device", "died"]
CHECK = 0.25  # seconds between looks at the clock, the memory and the stop file
CROWDED = 0.94  # share of the machine's memory above which the largest trial gives up


@dataclass(frozen=True)
class Ticket:
    """One segment: trial `number` from `samples` already seen up to `until`."""

    number: int
    space: str
    candidate: Mapping[str, Any]
    key: str
    seed: int
    rung: int
    until: int
    full: int
    folder: str
    attempt: str
    known: Mapping[str, float] = field(default_factory=dict)  # static costs, earlier latency
    minutes: float | None = None  # for the whole trial
    spent: float = 0.0  # seconds of its earlier segments
    memory: int | None = None  # bytes

    @property
    def final(self) -> bool:
        """Return whether this segment ends at full fidelity."""
        return self.until >= self.full


@dataclass(frozen=True)
class Outcome:
    """What came of a ticket."""

    number: int
    key: str
    attempt: str
    rung: int
    kind: Kind
    values: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    reason: str | None = None
    seconds: float = 0.0  # wall, without pauses
    cpu_seconds: float = 0.0
    diagnosis: dict[str, float] = field(default_factory=dict)
    worker: int = 0


@dataclass(frozen=True)
class Report:
    """What an evaluator yields: samples seen, and at the end of a segment its scores.

    `paused` is how many seconds of the segment it rested while others measured.
    """

    samples: int
    values: Mapping[str, float] | None = None
    diagnosis: Mapping[str, float] = field(default_factory=dict)
    paused: float = 0.0


class Evaluator(Protocol):
    """What a search evaluates candidates with; travels to the workers by pickle."""

    cheap: bool  # answers at once: evaluated in the driver, never sent to a worker

    @property
    def shape(self) -> TaskShape:
        """Return the shape of the task candidates are built for."""

    def fingerprint(self) -> str:
        """Return a hash of the data, part of the study's identity."""

    def prepare(self) -> None:
        """Import and load what every ticket needs; called once per worker."""

    def price(self, candidate: Space) -> CostCard:
        """Return the cost card of the untrained deployed network."""

    def comparable_from(self, candidate: Space) -> float:
        """Return the progress in [0, 1] before which the candidate's scores mean nothing."""

    def latency(self, candidate: Space) -> float:
        """Return the provisional latency in ms (asked only where a study limits it)."""

    def run(self, ticket: Ticket) -> Iterator[Report]:
        """Go on from the ticket's checkpoint; yield progress, then the scores at `until`."""

    def pause(self, ticket: Ticket) -> None:
        """Write a checkpoint in the middle of a segment."""


class OutOfMemory(Exception):
    """Raised between steps when a trial's memory is past its limit."""


class OutOfTime(Exception):
    """Raised between steps when a trial has used its minutes."""


def run_ticket(evaluator: Evaluator, ticket: Ticket, stop: Path | None = None) -> Outcome:
    """Run one segment; write result.json before returning. `stop` is the file that ends a run."""
    watch = Watch(ticket, stop)
    folder = Path(ticket.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outcome = _run(evaluator, ticket, watch)
        if outcome.kind in ("scored", "failed"):
            _remember(folder, outcome)
        return outcome
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return watch.outcome("no_space", reason=f"the disk of {folder} is full")
        raise


def _run(evaluator: Evaluator, ticket: Ticket, watch: Watch) -> Outcome:
    last = Report(0)
    try:
        for last in evaluator.run(ticket):
            watch.paused = last.paused
            if watch.due() and last.values is None and watch.stopping():
                evaluator.pause(ticket)
                return watch.outcome("interrupted", samples=last.samples)
    except OutOfTime:
        return watch.outcome(
            "failed", reason=f"took longer than {ticket.minutes:g} min ({last.samples} samples)"
        )
    except (OutOfMemory, MemoryError) as error:
        return watch.outcome("failed", reason=f"out of memory: {error or 'allocation refused'}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return watch.outcome("failed", reason=one_line(error))
    except NoDevice as error:
        return watch.outcome("no_device", reason=one_line(error))
    except Exception as error:
        return watch.outcome("failed", reason=one_line(error))
    if last.values is None:
        return watch.outcome("failed", reason="the evaluator ended without scores")
    for name, value in last.values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            return watch.outcome("failed", reason=f"{name} is {value} at {last.samples} samples")
    return watch.outcome(
        "scored", values=dict(last.values), samples=last.samples, diagnosis=dict(last.diagnosis)
    )


def one_line(error: Exception) -> str:
    """Return the reason that a fault of a candidate is filed under."""
    text = " ".join(str(error).split()) or "no message"
    if "not enough memory" in text or "out of memory" in text:  # torch raises RuntimeError
        return f"out of memory: {text[:300]}"
    if isinstance(error, NasxError):
        return text[:400]  # says by itself what is wrong
    return f"{type(error).__name__}: {text[:400]}"


def _remember(folder: Path, outcome: Outcome) -> None:
    """Add an outcome to result.json: one entry per rung, the newest attempt's."""
    kept = read_json(folder / "result.json") or {"key": outcome.key, "outcomes": []}
    others = [o for o in kept["outcomes"] if o["rung"] != outcome.rung]
    everything = sorted([*others, asdict(outcome)], key=lambda o: o["rung"])
    write_json(folder / "result.json", {"key": outcome.key, "outcomes": everything})


def remembered(folder: Path, key: str) -> list[Outcome]:
    """Return the outcomes on disk of the trial with this candidate key, by rung."""
    kept = read_json(folder / "result.json")
    if not kept or kept.get("key") != key:
        return []
    return [Outcome(**o) for o in kept["outcomes"]]


class Watch:
    """Watches one segment's time, memory and the run's stop file."""

    def __init__(self, ticket: Ticket, stop: Path | None) -> None:
        self.ticket, self.stop = ticket, stop
        self.started, self.cpu = time.monotonic(), time.process_time()
        self.looked = 0.0
        self.paused = 0.0  # seconds that do not count

    def due(self) -> bool:
        """Look at the limits a few times a second; raise when one is passed."""
        now = time.monotonic()
        if now - self.looked < CHECK:
            return False
        self.looked = now
        spent = self.ticket.spent + now - self.started - self.paused
        if self.ticket.minutes and spent > self.ticket.minutes * 60:
            raise OutOfTime
        used = resident_bytes()
        if self.ticket.memory and used > self.ticket.memory:
            raise OutOfMemory(
                f"{used / 2**20:.0f} MiB used, {self.ticket.memory / 2**20:.0f} allowed"
            )
        if used > 2**30 and machine_memory_share() > CROWDED:
            raise OutOfMemory(f"the machine is nearly full and this trial holds {used >> 20} MiB")
        return True

    def stopping(self) -> bool:
        """Return whether the run was asked to stop."""
        return self.stop is not None and self.stop.exists()

    def outcome(
        self,
        kind: Kind,
        *,
        values: dict[str, float] | None = None,
        samples: int = 0,
        reason: str | None = None,
        diagnosis: dict[str, float] | None = None,
    ) -> Outcome:
        """Return an outcome of this segment with the time it took."""
        ticket = self.ticket
        return Outcome(
            number=ticket.number,
            key=ticket.key,
            attempt=ticket.attempt,
            rung=ticket.rung,
            kind=kind,
            values=values or {},
            samples=samples,
            reason=reason,
            seconds=time.monotonic() - self.started - self.paused,
            cpu_seconds=time.process_time() - self.cpu,
            diagnosis=diagnosis or {},
            worker=os.getpid(),
        )


def resident_bytes() -> int:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def machine_memory_share() -> float:
    """Return the share of the machine's memory in use."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (li.partition(":") for li in lines)}
    return 1.0 - kib["MemAvailable"] / kib["MemTotal"]
