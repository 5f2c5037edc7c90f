"""A space and an evaluator that cost nothing: the engine under test without training."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nasx.cost.card import CostCard
from nasx.search.evaluate import Report, Ticket
from nasx.shape import TaskShape
from nasx.space import Space, choice, integer, real

SHAPE = TaskShape("classify", (3, 32, 32), 10)


class Hill(Space):
    """Four fields whose score and cost are known in closed form."""

    name = "hill"
    depth: int = integer(1, 8, default=4)
    width: float = real(0.25, 2.0, log=True, default=1.0)
    side: int = integer(16, 64, step=8, default=32)
    operator: str = choice("conv", "dw", "shift", default="conv")

    def macs(self) -> int:
        share = {"conv": 1.0, "dw": 0.3, "shift": 0.2}[self.operator]
        return int(1e4 * share * self.depth * self.width**2 * (self.side / 16) ** 2) + 1

    def top1(self, progress: float) -> float:
        quality = {"conv": 1.0, "dw": 0.95, "shift": 0.9}[self.operator]
        value = (self.depth / 8) ** 0.3 * min(1.0, self.side / 48) * (self.width / 2) ** 0.2
        return 100 * quality * value * (1 - 0.5 * np.exp(-4 * progress))


class Simulated:
    """Scores Hill in `seconds` of sleep per full trial; `faults` by trial number.

    Every start and finish is appended to `journal`, apart from the record.
    """

    cheap = False
    shape = SHAPE

    def __init__(
        self,
        seconds: float = 0.0,
        faults: dict[int, str] | None = None,
        journal: Path | None = None,
        imports: bool = False,
        comparable: float = 0.0,
    ) -> None:
        self.seconds, self.faults, self.journal = seconds, faults or {}, journal
        self.imports, self.comparable = imports, comparable

    def fingerprint(self) -> str:
        return "simulated"

    def prepare(self) -> None:
        if self.imports:
            import torch

            torch.set_num_threads(1)

    def price(self, candidate: Hill) -> CostCard:
        macs = candidate.macs()
        return CostCard(
            params=macs // 10, params_trained=macs // 10, bytes=4, macs=macs, macs_max=macs
        )

    def comparable_from(self, candidate: Hill) -> float:
        return self.comparable

    def latency(self, candidate: Hill) -> float:
        return candidate.macs() / 1e6

    def run(self, ticket: Ticket) -> Iterator[Report]:
        candidate = Hill.from_json(ticket.candidate)
        checkpoint = Path(ticket.folder) / "checkpoint.json"
        done = json.loads(checkpoint.read_text())["samples"] if checkpoint.exists() else 0
        self.note("start", ticket, done)
        fault = self.faults.get(ticket.number)
        if fault == "raise":
            raise RuntimeError("the layer\ndoes not fit")
        if fault == "kill":
            os.kill(os.getpid(), 9)
        if fault == "kill once" and not (Path(ticket.folder) / "killed").exists():
            (Path(ticket.folder) / "killed").touch()
            os.kill(os.getpid(), 9)
        if fault == "memory":
            raise MemoryError
        steps = 5
        for step in range(1, steps + 1):
            samples = ticket.until * step // steps
            if samples <= done:
                continue
            time.sleep(self.seconds * ticket.until / ticket.full / steps)
            self.samples = samples
            yield Report(samples)
        top1 = float("nan") if fault == "nan" else candidate.top1(ticket.until / ticket.full)
        self.pause(ticket)
        self.note("finish", ticket, ticket.until)
        yield Report(ticket.until, {**ticket.known, "top1": top1})

    def pause(self, ticket: Ticket) -> None:
        """Keep the samples reached."""
        path = Path(ticket.folder) / "checkpoint.json"
        new = path.with_suffix(f".{os.getpid()}.tmp")
        new.write_text(json.dumps({"samples": getattr(self, "samples", 0)}))
        new.replace(path)

    def note(self, what: str, ticket: Ticket, samples: int) -> None:
        if self.journal:
            line = f"{what} {ticket.number} {ticket.rung} {samples} {ticket.attempt}\n"
            file = os.open(self.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, line.encode())
            os.close(file)
