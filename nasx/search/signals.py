"""Ctrl-C and SIGTERM: the first asks every trial to save and stop, the second leaves at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from nasx.search.engine import Engine

EXIT_INTERRUPTED = 130


@contextlib.contextmanager
def stop_on_signal(engine: Engine, stop: Path) -> Iterator[None]:
    """Turn the first INT or TERM into a stop file that workers look for between steps.

    The record is safe either way: a trial that could not save goes on from its last checkpoint.
    """
    stop.unlink(missing_ok=True)
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread; the caller stops the search another way
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if engine.stopping:
            engine.showing.end("left at once: the same command continues from the record")
            os._exit(EXIT_INTERRUPTED)
        engine.stopping = True
        stop.touch()
        engine.showing.note("stopping: the running trials are being saved (again: leave at once)")

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.unlink(missing_ok=True)
