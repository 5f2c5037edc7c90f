"""The Ray cluster: started here or joined, looked at before anything is asked of it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.search.joining import missing_for_dashboard, silence

EARLY = {  # before the first import of ray: its parts read them at different times
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_usage_stats_enabled": "0",
}
QUIET = {  # read by Tune at each run
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # snapshots are never read, and cost 30 ms each
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


for _name, _value in (QUIET if "ray" in sys.modules else EARLY | QUIET).items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402 - after the settings that keep it quiet
from ray import tune  # noqa: E402

__all__ = [
    "dashboard_lines",
    "leave_ray",
    "name_process",
    "ray",
    "ray_runs",
    "start_ray",
    "tune",
    "watched",
]

LOOK = 5.0  # seconds between looks at the cluster
GONE = 30.0  # seconds of silence after which it has gone; Ray aborts the process after 60


def ray_runs() -> bool:
    """Return whether this process has started or joined Ray already."""
    return bool(ray.is_initialized())


def name_process(name: str) -> None:
    """Show in `ps` and `top` what this worker does just now."""
    # Ray puts its own name back by itself.
    ray._raylet.setproctitle(f"ray::{name}")  # type: ignore[attr-defined]


def leave_ray() -> None:
    """Leave the cluster; a local one ends."""
    ray.shutdown()


def _init(address: str | None, options: dict[str, Any]) -> None:
    """Start or join Ray; a busy machine may miss Ray's own start-up deadline, so try twice."""
    # Ray shows this command line to everyone on the cluster, and a storage password with it.
    ray._private.utils.get_entrypoint_name = lambda: "nasx search"
    for last in (False, True):
        try:
            ray.init(**options)
            return
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            ray.shutdown()
            if last or address is not None:
                where = f"the Ray cluster at {address}" if address else "Ray on this machine"
                reason = str(error).strip().splitlines()[0]
                raise NasxError(f"cannot start {where}: {reason}") from error


def start_ray(address: str | None, cpu: float, gpu: float, dashboard: bool) -> int:
    """Start or join Ray; return the slots. NasxError where the cluster lacks what a trial asks.

    Tune waits for ever, silently, for resources that no node has: so nodes are looked at first.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            if dashboard:
                _demand_dashboard()
            options |= {"address": "local", "include_dashboard": dashboard}
            options |= {"object_store_memory": 200 * 2**20}
            options |= {"_temp_dir": str(Path(tempfile.gettempdir()) / f"nasx-ray-{os.getuid()}")}
        else:
            options |= {"address": address}
        _init(address, options)
    # On a worker's death Ray prints a paragraph on stdout, which would break --json.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    nodes = [
        n["Resources"]
        for n in ray.nodes()  # type: ignore[no-untyped-call]
        if n["Alive"]
    ]
    slots = 0
    for node in nodes:
        fits = node.get("CPU", 0) / cpu
        slots += int(min(fits, node.get("GPU", 0) / gpu) if gpu else fits)
    if slots < 1:
        best = max((n.get("CPU", 0) for n in nodes), default=0)
        gpus = max((n.get("GPU", 0) for n in nodes), default=0)
        raise NasxError(
            f"a trial asks for {cpu:g} CPU and {gpu:g} GPU, but the largest of {len(nodes)} "
            f"node(s) has {best:g} CPU and {gpus:g} GPU; lower `resources` in the study"
        )
    return slots


def dashboard_lines() -> str:
    """Return where Ray's dashboard is and which command prints its token."""
    node = ray._private.worker.global_worker.node  # no public name outside ray.init
    url = node.webui_url if node else None
    if not url:
        return "Ray dashboard: not running on this cluster"
    return f"Ray dashboard: http://{url} (token: ray get-auth-token)"


def _demand_dashboard() -> None:
    missing = missing_for_dashboard()
    if missing:
        raise NasxError(
            f"Ray's dashboard needs {', '.join(missing)}; pip install 'nasx[dashboard]'"
        )


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """End this process with one line when the cluster has gone.

    Ray would abort it a minute after the loss, in its own words, and until then answers nothing,
    not even a request to leave. The record needs no farewell: this is a kill like any other.
    """
    address = ray.get_runtime_context().gcs_address
    host, _, port = address.rpartition(":")
    over = threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not over.wait(LOOK):
            if not silence(host, int(port)):
                heard = time.monotonic()
            elif time.monotonic() - heard > GONE:
                sys.stderr.write(
                    f"\nnasx: the Ray cluster at {address} has gone; nothing finished is lost: "
                    "start it again, and the same command continues\n"
                )
                sys.stderr.flush()
                os._exit(1)

    threading.Thread(target=watch, name="nasx-cluster", daemon=True).start()
    try:
        yield
    finally:
        over.set()
