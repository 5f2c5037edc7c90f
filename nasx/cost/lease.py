"""Exclusive use of a device for as long as a measurement takes, among one user's processes.

A measurement takes a `Lease`; trainings hold a `Presence` and pause between two steps while
somebody else's lease lives. In the folder `nasx-UID` of the system's temporary files:

    cpu.lease      whose lease it is; its modification time is the heartbeat
    cpu.training   every training that steps holds a shared lock on it
    cpu.guard      locked for the moment in which a lease is taken

A heartbeat is the monotonic clock, which all processes share and nobody sets: a lease without one
for 30 s is void, so a holder that was killed or stopped keeps nobody longer. Locks die with their
process. A training locks first and looks second, a holder writes first and waits for the lock
second: whichever way they meet, one of the two sees the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from nasx.errors import NasxError
from nasx.files import read_json

if TYPE_CHECKING:
    import torch

LIFE = 30.0  # seconds after its last heartbeat that a lease is void
PATIENCE = 600.0  # seconds to wait for somebody else's measurement
LOOK = 0.05  # seconds between two looks at what is waited for

Clock = Callable[[], float]


def own_folder() -> Path:
    """Return the folder of this user's leases, made on first use and closed to others."""
    folder = Path(tempfile.gettempdir()) / f"nasx-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise NasxError(f"{folder} belongs to somebody else: remove it, or set TMPDIR")
    return folder


def lives(lease: Path, life: float, clock: Clock) -> bool:
    """Say whether a lease exists and had a heartbeat in the last `life` seconds."""
    try:
        beat = lease.stat().st_mtime
    except FileNotFoundError:
        return False
    # Clocks that began anew with the machine leave a beat in the future: void as well.
    return -1 < clock() - beat < life


class Lease:
    """Hold a device alone: `with Lease("cpu") as lease: ...`.

    Waits until no other lease lives (NasxError after `patience` seconds), then until trainings
    have paused, at most `life` seconds: one that is stopped in the middle of a step ends no wait.
    """

    def __init__(
        self,
        device: str,
        *,
        folder: Path | None = None,
        life: float = LIFE,
        patience: float = PATIENCE,
        clock: Clock = time.monotonic,
    ) -> None:
        self.device, self.life, self.patience, self.clock = device, life, patience, clock
        self.folder = folder or own_folder()
        self.file = self.folder / f"{device}.lease"
        self.token = uuid.uuid4().hex
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat = 0.0
        self._alone = self._broken = False

    def __enter__(self) -> Lease:
        """Take the lease, keep it alive from a thread, wait until trainings have paused."""
        self._until(self._taken, self.patience, self._busy)
        self._thread = threading.Thread(target=self._keep_alive, daemon=True)
        self._thread.start()
        try:
            self._alone = self._until(self._paused, self.life)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give the device back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._renew()  # finds out whether it was ours to the end
        if self._mine():
            self.file.unlink(missing_ok=True)

    @property
    def undisturbed(self) -> bool:
        """Say whether every training paused and the lease was never void."""
        return self._alone and not self._broken

    # -- parts ------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool], seconds: float, late: str = "") -> bool:
        """Wait until `done()`; after `seconds` return False, or refuse where `late` says why."""
        start = time.monotonic()
        while not done():
            if time.monotonic() - start > seconds:
                if late:
                    raise NasxError(late)
                return False
            time.sleep(LOOK)
        return True

    @property
    def _busy(self) -> str:
        return (
            f"another measurement has held '{self.device}' for {self.patience:.0f} s "
            f"({self.file} names its process): wait for it, or end it"
        )

    def _taken(self) -> bool:
        """Take the lease unless another one lives, in one go."""
        with (self.folder / f"{self.device}.guard").open("a") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            if lives(self.file, self.life, self.clock):
                return False
            new = self.folder / f".{self.device}.{self.token}"
            new.write_text(json.dumps({"token": self.token, **_who()}))
            self._beat = self.clock()
            os.utime(new, (self._beat, self._beat))
            new.replace(self.file)
        return True

    def _paused(self) -> bool:
        with (self.folder / f"{self.device}.training").open("a") as presence:
            return _lock(presence, fcntl.LOCK_EX)

    def _keep_alive(self) -> None:
        while not self._ended.wait(self.life / 6):
            self._renew()

    def _renew(self) -> None:
        """Give a heartbeat, unless the lease was void before it came."""
        now = self.clock()
        if self._broken or now - self._beat >= self.life or not self._mine():
            self._broken = True
            return
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.file, (now, now))
        self._beat = now

    def _mine(self) -> bool:
        return (read_json(self.file) or {}).get("token") == self.token


class Presence:
    """What a training shows while it steps; one object, used by one thread.

    `may_go` is asked before every step, `leave` is called when the training ends or does nothing.
    `paused` is how many seconds it rested.
    """

    def __init__(
        self,
        devices: tuple[str, ...],
        *,
        folder: Path | None = None,
        life: float = LIFE,
        clock: Clock = time.monotonic,
    ) -> None:
        folder = folder or own_folder()
        self.life, self.clock = life, clock
        self._leases = [folder / f"{device}.lease" for device in devices]
        self._files = [folder / f"{device}.training" for device in devices]
        self.paused = 0.0
        self._locks: list[IO[str]] = []

    def may_go(self) -> bool:
        """Say whether the next step may be taken; where not, count as paused and rest a moment."""
        if len(self._locks) < len(self._files):
            self._arrive()
        for lease in self._leases:
            if lives(lease, self.life, self.clock) and not _own(lease):
                self.leave()
                start = time.monotonic()
                time.sleep(LOOK)
                self.paused += time.monotonic() - start
                return False
        return True

    def leave(self) -> None:
        """Count as paused."""
        for file in self._locks:
            file.close()
        self._locks.clear()

    def _arrive(self) -> None:
        self.leave()
        for path in self._files:
            file = path.open("a")
            # Refused only in the moment in which a holder looks who is there. If that holder was
            # stopped just then, its lease is void soon and the training goes on without a lock.
            if _lock(file, fcntl.LOCK_SH):
                self._locks.append(file)
            else:
                file.close()


def _lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _who() -> dict[str, int]:
    return {"pid": os.getpid(), "thread": threading.get_ident()}


def _own(lease: Path) -> bool:
    """Say whether this very thread measures, and so must not wait for its own lease.

    A training in another thread of the process (a search in one process draws ahead) does wait.
    """
    holder = read_json(lease) or {}
    return all(holder.get(name) == value for name, value in _who().items())


@contextlib.contextmanager
def exclusive(lease: Lease | None) -> Iterator[Callable[[], bool | None]]:
    """Hold a lease, if one is needed; yield what says afterwards whether the device was free."""
    if lease is None:
        yield lambda: None
        return
    with lease:
        yield lambda: lease.undisturbed


def devices_of(device: torch.device) -> tuple[str, ...]:
    """Return the devices that work on `device` keeps busy, as leases name them."""
    return ("cpu",) if device.type == "cpu" else ("cpu", gpu_name(device.index or 0))


def gpu_name(index: int) -> str:
    """Return the name of a GPU that stays the same whatever CUDA_VISIBLE_DEVICES shows of it."""
    import torch

    return f"cuda-{torch.cuda.get_device_properties(index).uuid}"
