"""One driver at a time: its tenure of a record that several machines could write.

A thread renews the tenure, so that it outlives any trial. Times are the database's: the clocks of
two machines may disagree by more than a driver may be silent.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nasx.errors import NasxError

HEARTBEAT = 15.0  # seconds between a driver's signs of life
SILENT = 60.0  # seconds after which a driver counts as dead


class Notes(Protocol):
    """What a tenure needs of a record's database."""

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return a study attribute."""

    def set_attribute(self, name: str, value: Any) -> None:
        """Write a study attribute."""

    def clock(self) -> float:
        """Return the database's time in seconds."""

    def leave(self) -> None:
        """Give back this thread's connection."""


class Tenure:
    """This driver's hold on a record; `demand` refuses once another driver has taken it."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._token = notes, uuid.uuid4().hex
        self._end, self._turn = threading.Event(), threading.Lock()
        self._renewed, self._thief = 0.0, ""
        name = _thread_name(self._token)
        self._thread = threading.Thread(target=self._beat, name=name, daemon=True)

    def take(self) -> None:
        """Take the record; refuse while another driver gives signs of life."""
        holder = self._notes.attribute("driver")
        if holder and self._notes.clock() - holder["time"] < SILENT and not _gone(holder):
            raise NasxError(
                f"the record is in use by another nasx search on {_name(holder)}; "
                "wait for it or stop it"
            )
        self._write()
        time.sleep(0.2)  # two drivers that take at once: the later write wins, the other sees it
        self._renew()
        self.demand()
        self._thread.start()

    def demand(self) -> None:
        """Refuse to go on with a record that another driver has taken.

        A driver that slept (a suspended laptop) asks the database before it writes again.
        """
        if time.time() - self._renewed > SILENT:
            self._renew()
        if self._thief:
            raise NasxError(
                f"the record was taken by another nasx search on {self._thief}, because this one "
                "gave no sign of life; let that one finish"
            )

    def release(self) -> None:
        """Give the record back, where it is still ours."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._renewed and not self._thief:
            with contextlib.suppress(NasxError):  # unreachable: it is free when we count as dead
                self._notes.set_attribute("driver", None)

    def _beat(self) -> None:
        while not self._end.wait(HEARTBEAT):
            with contextlib.suppress(NasxError):  # the search itself meets an unreachable database
                self._renew()
        self._notes.leave()

    def _renew(self) -> None:
        with self._turn:
            holder = self._notes.attribute("driver") or {}
            if holder.get("token") == self._token:
                self._write()
            else:
                self._thief = _name(holder) if holder else "another machine"

    def _write(self) -> None:
        who = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        self._notes.set_attribute("driver", {**who, "time": self._notes.clock()})
        self._renewed = time.time()


def _name(holder: Mapping[str, Any]) -> str:
    return f"{holder['host']} (process {holder['pid']})"


def _gone(holder: Mapping[str, Any]) -> bool:
    """Return whether a driver of this very machine is known to be dead."""
    if holder["host"] != socket.gethostname():
        return False
    if holder["pid"] == os.getpid():  # an earlier search of ours, which may not have got to say so
        return all(t.name != _thread_name(holder["token"]) for t in threading.enumerate())
    return not Path(f"/proc/{holder['pid']}").exists()


def _thread_name(token: str) -> str:
    return f"nasx-tenure-{token}"
