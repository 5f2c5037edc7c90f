"""The cache: data decoded once into a memory-mapped uint8 .npy that processes share.

A file is named by a hash of everything that decides its content, and ends with the SHA-256 of its
data behind the array, so that a truncated or damaged file is seen at opening and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasx.errors import NasxError
from nasx.files import cache_folder

Bytes = npt.NDArray[np.uint8]
Fill = Callable[[Bytes], None]

RESERVE = 100 * 2**20  # bytes left free beside a new file
DIGEST = hashlib.sha256().digest_size
CHUNK = 16 * 2**20


@dataclass(frozen=True)
class Cached:
    """A read-only uint8 array and the SHA-256 of its data in hex."""

    array: Bytes
    sha256: str


def free_bytes(folder: Path) -> int:
    """Return the bytes that may still be written on the disk of `folder`."""
    return shutil.disk_usage(folder).free


def digest(*parts: Any) -> str:
    """Return 16 hex digits over the parts, each set apart by its length."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def cached(name: str, key: str, shape: tuple[int, ...], fill: Fill) -> Cached:
    """Open the array of this key, or make it: `fill` writes into a fresh uint8 array of `shape`.

    Two processes never write the same file: the second waits for the first. Raises NasxError when
    the folder cannot be written or the disk has too little room; no partial file stays behind.
    """
    if not re.fullmatch(r"[0-9a-z_-]+", f"{name}-{key}"):
        raise ValueError(f"not a cache file name: {name}-{key}")
    folder = cache_folder()
    path = folder / f"{name}-{key}.npy"
    found = _open(path, shape)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            found = _open(path, shape)  # another process may have made it while we waited
            if found is None:
                _write(path, shape, fill)
                found = _open(path, shape)
    except OSError as error:
        raise NasxError(
            f"cannot write the data cache {folder}: {error.strerror or error}; "
            "set NASX_CACHE to a folder with room that can be written"
        ) from error
    if found is None:
        raise NasxError(f"{path} reads back differently from what was written: check that disk")
    return found


def _open(path: Path, shape: tuple[int, ...]) -> Cached | None:
    """Return the file's array if it is whole, of this shape, and its data match its digest."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.memmap) or array.shape != shape or array.dtype != np.uint8:
            return None
        if path.stat().st_size != array.offset + array.nbytes + DIGEST:
            return None
        with path.open("rb") as file:
            file.seek(-DIGEST, os.SEEK_END)
            stored = file.read(DIGEST)
    except (OSError, ValueError, EOFError):  # absent, or its header is damaged
        return None
    actual = _sha256(array)
    return Cached(array, actual.hex()) if actual == stored else None


def _write(path: Path, shape: tuple[int, ...], fill: Fill) -> None:
    """Write array and digest beside `path`, then move them there in one step."""
    size = int(np.prod(shape))
    free = free_bytes(path.parent)
    if free < size + RESERVE:
        raise NasxError(
            f"the data cache {path.parent} needs {size / 2**20:.0f} MiB and its disk has "
            f"{max(0, free - RESERVE) / 2**20:.0f} MiB to spare; "
            "free some room or set NASX_CACHE to another disk"
        )
    fresh = path.with_suffix(".tmp")  # one name is enough: the lock is held
    try:
        array = np.lib.format.open_memmap(fresh, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # The file is sparse so far: writing into the map on a full disk would be a SIGBUS.
            with fresh.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, fresh.stat().st_size)
        fill(array)
        array.flush()
        with fresh.open("ab") as file:
            file.write(_sha256(array))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # The lock file stays: removing it would let a third process lock another file of that name.
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(array: Bytes) -> bytes:
    flat = array.reshape(-1)
    whole = hashlib.sha256()
    for start in range(0, flat.size, CHUNK):
        whole.update(flat[start : start + CHUNK].data)
    return whole.digest()
