"""A real PostgreSQL server on loopback, for the length of a test module."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

PASSWORD = "pw-that-must-not-leak"


def binaries() -> Path | None:
    """Return the folder of the newest initdb on this machine."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=str)
    return Path(on_path).parent if on_path else found[-1].parent if found else None


class Postgres:
    """One server in a folder of its own; it refuses root, so root runs it as `postgres`."""

    def __init__(self, bin: Path) -> None:
        self.bin, self.folder = bin, Path(tempfile.mkdtemp(prefix="nasx-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        secret = self.folder / "secret"
        secret.write_text(PASSWORD)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret.chmod(0o644)
        data = str(self.folder / "data")
        self._run(["initdb", "-D", data, "-U", "nasx", "-A", "scram-sha-256", "-N",
                   f"--pwfile={secret}", "--no-instructions"])  # fmt: skip

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, password: str = PASSWORD, database: str = "postgres") -> str:
        return f"postgresql+psycopg://nasx:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-F -p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = str(self.folder / "log")
        self._control("start", "-l", log, "-o", options)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, what: str, *options: str) -> None:
        self._run(["pg_ctl", "-D", str(self.folder / "data"), "-w", *options, what])

    def _run(self, command: Sequence[str]) -> None:
        program = [str(self.bin / command[0]), *command[1:]]
        done = subprocess.run(
            program, cwd=self.folder, user=self.user, stdout=subprocess.DEVNULL, text=True,
            stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
