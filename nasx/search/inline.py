"""The inline executor: the same loop in this process, one ticket at a time."""

from __future__ import annotations

from pathlib import Path

from nasx.search.engine import Engine
from nasx.search.evaluate import Evaluator, run_ticket
from nasx.search.signals import stop_on_signal


def run_inline(engine: Engine, evaluator: Evaluator, stop: Path) -> None:
    """Run tickets until the engine has none left."""
    evaluator.prepare()
    with stop_on_signal(engine, stop):
        while not engine.finished:
            ticket = engine.next()
            if ticket is None:
                continue
            engine.done(run_ticket(evaluator, ticket, stop))
