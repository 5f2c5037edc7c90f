"""Start-up: `nasx --help`, and the first result of a search of no-op trials on Ray Tune.

    python benchmarks/startup.py

Each run is a fresh process. CPU is user + system of the process and its children; the first result
is wall time from the start of the process to the first trial told.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NASX = [str(Path(sys.executable).with_name("nasx")), "--help"]
FIRST = """
import os, sys, time
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:1])
from orchestration import Clock, Simulated, search, study
from pathlib import Path
class First(Clock):
    def trial(self, trial, progress):
        if not self.told:
            print(time.time(), flush=True)
        super().trial(trial, progress)
search(study(4, "random"), Path(sys.argv[1]), evaluate=Simulated(imports=True), display=First())
"""


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def help_cpu() -> float:
    """Return the CPU seconds of one `nasx --help`."""
    before = children_cpu()
    subprocess.run(NASX, check=True, stdout=subprocess.DEVNULL)
    return children_cpu() - before


def first_result(folder: Path) -> float:
    """Return the seconds from the start of a process to the first no-op trial told."""
    paths = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    began = time.time()
    command = [sys.executable, "-c", FIRST, str(folder)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[0]) - began


def said(what: str, unit: str, found: list[float], target: float) -> str:
    low, middle, high = min(found), statistics.median(found), max(found)
    return (
        f"{what}: median {middle:.3f} {unit} (min {low:.3f}, max {high:.3f}, n = {len(found)}); "
        f"{target / middle:.1f} x below the target of {target} {unit}"
    )


def main() -> None:
    import tempfile

    help_cpu()
    print(said("nasx --help", "s CPU", [help_cpu() for _ in range(20)], 0.15), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        times = [first_result(Path(folder) / str(i)) for i in range(5)]
    print(said("first no-op result", "s", times, 10.0))


if __name__ == "__main__":
    main()
