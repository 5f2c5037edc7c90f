"""Joining a running Ray cluster by its address, from another process and another folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasx.errors import NasxError
from nasx.run import Run, status
from nasx.search.joining import prepare_joining
from test_engine import ran, study

HERE = Path(__file__).parent

DRIVER = """
import sys
from pathlib import Path
from test_engine import study
from simulated import Simulated
from nasx.search.search import search
search(study(3, rungs=1, resources={"executor": "ray"}), "run", address=sys.argv[1],
       evaluate=Simulated())
"""


def free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_search_joins_a_running_cluster(tmp_path: Path) -> None:
    """The cluster has no token, as Ray starts it where there is none; nasx finds that out."""
    address = f"127.0.0.1:{free_port()}"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"HOME": str(tmp_path), "RAY_DISABLE_MEMORY_MONITOR": "1"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
             "--node-ip-address=127.0.0.1", "--port", address.rpartition(":")[2], "--num-cpus=2",
             "--include-dashboard=false", "--disable-usage-stats",
             "--object-store-memory=100000000"]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        head = subprocess.Popen(start, env=environment, stdout=log, stderr=log)
    try:
        while head.poll() is None and "Ray runtime started" not in (tmp_path / "log").read_text():
            time.sleep(0.05)
        (tmp_path / "away").mkdir()
        search = subprocess.run(
            [sys.executable, "-c", DRIVER, address],
            env=environment, cwd=tmp_path / "away", capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    finally:
        head.send_signal(signal.SIGTERM)
        head.wait(30)
    assert search.returncode == 0, search.stderr
    assert status(Run(tmp_path / "away" / "run"))["states"]["COMPLETE"] == 3


def test_an_address_nobody_listens_at_is_refused(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(NasxError, match=f"no Ray cluster answers at {address} .Connection refused"):
        ran(tmp_path, study(2, resources={"executor": "ray"}), address=address)


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(NasxError, match="give HOST:PORT or auto"):
        prepare_joining("ray://127.0.0.1:10001")


@pytest.mark.parametrize("option", [{"address": "auto"}, {"dashboard": True}])
def test_an_inline_study_has_no_use_for_a_cluster(
    tmp_path: Path, option: dict[str, object]
) -> None:
    with pytest.raises(NasxError, match=r"need `resources: {executor: ray}`"):
        ran(tmp_path, study(2), **option)
