"""Checks of the options that a study gives to a task: one sentence for each fault."""

from __future__ import annotations

from pathlib import Path

from nasx.errors import MissingData, NasxError


def whole(task: str, option: str, value: object, low: int, high: int) -> int:
    """Return an option that must be a whole number within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise NasxError(
            f"task '{task}': {option} must be a whole number from {low} to {high}, not {value!r}"
        )
    return value


def truth(task: str, option: str, value: object) -> bool:
    """Return an option that must be true or false."""
    if not isinstance(value, bool):
        raise NasxError(f"task '{task}': {option} must be true or false, not {value!r}")
    return value


def place(task: str, value: object) -> Path:
    """Return the existing file or folder that the option `path` names."""
    if not isinstance(value, str | Path) or not str(value):
        raise NasxError(f"task '{task}': path must be a file or folder, not {value!r}")
    path = Path(value).expanduser()
    if not path.exists():
        raise MissingData(
            f"task '{task}': there is nothing at {path.absolute()}; "
            "set path to where the data are (relative to the working directory)"
        )
    return path
