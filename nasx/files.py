"""Durable files: a reader sees the old content or the new, never half of one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nasx.errors import NasxError

LEAST_FREE = 500 * 2**20  # bytes a run folder must have left before a trial is dispatched


def cache_folder() -> Path:
    """Return the folder of what can be made again: $NASX_CACHE, or ~/.cache/nasx."""
    named = os.environ.get("NASX_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "nasx"


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write a file atomically, and durably unless said otherwise (fsync of file and folder)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON atomically, and durably unless said otherwise."""
    write_text(path, json.dumps(value, indent=1) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """Return the JSON in a file, or None where there is none or it is torn."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def append_json(path: Path, value: Any) -> None:
    """Append one JSON line; a torn line left by a kill is closed first."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        torn = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(value).encode() + b"\n")


def read_json_lines(path: Path) -> list[Any]:
    """Return every whole JSON line of a file."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[IO[str]]:
    """Hold an exclusive lock on a file; NasxError(`busy`) where another process holds it."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NasxError(busy) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that holds `folder`."""
    return shutil.disk_usage(folder).free


def demand_space(folder: Path, needed: int = LEAST_FREE) -> None:
    """Refuse to go on when the disk is nearly full."""
    free = free_bytes(folder)
    if free < needed:
        raise NasxError(
            f"{folder}: the disk is nearly full ({free / 2**20:.0f} MiB left, "
            f"{needed / 2**20:.0f} needed); make room and run the same command to continue"
        )
