"""A real training evaluator that believes its own machine to be of another model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import ray

from nasx.files import append_json
from nasx.search.evaluate import Ticket
from nasx.search.timing import Place
from nasx.search.trained import Trained


class Elsewhere(Trained):
    """Notes on which node every candidate is timed and trained."""

    def __init__(self, study, run: Path, base: Path, nodes: tuple[str, ...]) -> None:
        self.elsewhere = nodes
        super().__init__(study, run, base)

    @property
    def place(self) -> Place:
        return Place("a model that is not here", self.elsewhere)

    @place.setter
    def place(self, settled: Place | None) -> None:
        """Keep to the other model, whatever the search settles on."""

    def latency(self, candidate, raw: Path | None = None) -> float:
        self.note("timed")
        return super().latency(candidate, raw)

    def run(self, ticket: Ticket):
        self.note("trained")
        yield from super().run(ticket)

    def note(self, what: str) -> None:
        here = ray.get_runtime_context().get_node_id()
        append_json(self.run_folder / "where.jsonl", [what, here, os.getpid()])

    def noted(self, what: str) -> list[tuple[str, int]]:
        lines = (self.run_folder / "where.jsonl").read_text().splitlines()
        return [(node, pid) for said, node, pid in map(json.loads, lines) if said == what]
