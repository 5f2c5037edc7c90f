"""Faults of a space: collected, each told once, with the user's own line where code raised."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nasx.space import Space

HOME = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Fault:
    """One breach of the contract: which part, at which candidate, and what to mend."""

    part: str
    candidate: str
    message: str

    def __str__(self) -> str:
        at = f" at {self.candidate}" if self.candidate else ""
        return f"{self.part}{at}: {self.message}"


@dataclass
class Faults:
    """The faults found so far; the same message at another candidate is not told again."""

    found: list[Fault] = field(default_factory=list)

    def add(self, part: str, candidate: Space | None, message: str) -> None:
        """Note a fault."""
        if not any(f.part == part and f.message == message for f in self.found):
            self.found.append(Fault(part, spell(candidate) if candidate else "", message))

    def raised(self, part: str, candidate: Space | None, error: Exception) -> None:
        """Note that the space's code raised, with its own line that did, if there is one."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not Path(f.filename).resolve().is_relative_to(HOME)
               and "site-packages" not in f.filename]  # fmt: skip
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if own:  # a line in a library would send the user to mend what is not theirs
            said += f" ({own[-1].filename}:{own[-1].lineno}): mend that line"
        self.add(part, candidate, said)

    @contextlib.contextmanager
    def guard(self, part: str, candidate: Space | None) -> Iterator[None]:
        """Turn anything that the space's code raises here into a fault."""
        try:
            yield
        except Exception as error:
            self.raised(part, candidate, error)


def spell(candidate: Space) -> str:
    """Return a candidate as its fields that differ from the default, or 'the baseline'."""
    default = type(candidate)().values()
    differs = {k: v for k, v in candidate.values().items() if v != default[k]}
    return ", ".join(f"{k}={v}" for k, v in differs.items()) or "the baseline"
