"""Joining a Ray cluster: is there one, and does it want a token? Asked before Ray is imported.

Ray reads its settings when it is imported, tries an address for minutes where nobody answers, and
fails every trial where driver and cluster disagree about tokens. So another process asks first.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys

from nasx.errors import NasxError

ANSWER = 15.0  # seconds for a cluster's first answer
MODE = "RAY_AUTH_MODE"
DASHBOARD = ("aiohttp", "aiohttp_cors", "opencensus", "prometheus_client")
HOW = "the head node's `ray start --head` prints HOST:PORT"


def prepare_joining(address: str) -> None:
    """Refuse an address where no cluster answers; set Ray's token mode to the cluster's own."""
    if "://" in address:
        raise NasxError(f"--address {address}: give HOST:PORT or auto; {HOW}")
    host, _, port = address.rpartition(":")
    problem = silence(host, int(port)) if host and port.isdigit() else ""
    if problem:
        raise NasxError(f"no Ray cluster answers at {address} ({problem}); {HOW}")
    if MODE in os.environ or "ray" in sys.modules:
        refused = _refused(address, os.environ.get(MODE, "token"))
    else:
        os.environ[MODE] = "disabled"
        refused = _refused(address, "disabled")
        if _about_tokens(refused):
            os.environ[MODE] = "token"
            refused = _refused(address, "token")
    if _about_tokens(refused):
        raise NasxError(
            f"the Ray cluster at {address} has another token than this machine; "
            "copy ~/.ray/auth_token from its head node"
        )
    if refused:
        raise NasxError(f"cannot join Ray at {address}: {_last_line(refused)}; {HOW}")


def missing_for_dashboard() -> list[str]:
    """Return the packages that Ray's dashboard lacks here."""
    return [m for m in DASHBOARD if importlib.util.find_spec(m) is None]


def silence(host: str, port: int) -> str:
    """Return why nobody can be reached there, or nothing where somebody listens."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _refused(address: str, mode: str) -> str:
    """Return what a cluster's health check said, or nothing where all is well."""
    asked = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    environment = {**os.environ, MODE: mode}
    try:
        done = subprocess.run(
            asked, env=environment, capture_output=True, text=True, timeout=ANSWER
        )
    except subprocess.TimeoutExpired as error:
        raise NasxError(f"what answers at {address} is no Ray cluster; {HOW}") from error
    return (done.stderr.strip() or "no reason given") if done.returncode else ""


def _about_tokens(said: str) -> bool:
    return "uthentication" in said


def _last_line(said: str) -> str:
    return said.splitlines()[-1][:300].rstrip(".")
