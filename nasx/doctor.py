"""Look over this machine, and say what it offers, what is amiss and how to mend it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.files import LEAST_FREE, free_bytes

GIB = 2**30
LEAST_MEMORY = 2 * GIB
PACKAGES = {  # what is lost without them
    "torch": "nothing can be trained", "ray": "use resources.executor: inline",
    "optuna": "nothing can be searched", "onnx": "no export", "onnxscript": "no export",
    "plotly": "no report",
}  # fmt: skip
COARSE = 1e-4  # seconds: a CPU clock in larger steps cannot time a small network
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

Clock = Callable[[], float]


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` is empty where all is well."""

    what: str
    state: str
    remedy: str = ""

    def text(self) -> str:
        """Return the finding as one line."""
        mark = "!" if self.remedy else " "
        return f"{mark} {self.what:<12} {self.state}" + (f": {self.remedy}" if self.remedy else "")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def examine_machine(deep: bool = False) -> list[Finding]:
    """Return what this machine offers to a search, and whether every probe works here.

    `deep` also tests the runtimes that compile, which takes up to a minute.
    """
    from nasx.doctor_probes import examine_probes
    from nasx.provenance import machine

    version = ".".join(map(str, sys.version_info[:3]))
    here = machine()
    old = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    found = [
        Finding("python", f"{version} ({sys.executable})", old),
        Finding("processor", here["cpu"]),
        Finding("isa", " ".join(here["flags"]) or "no vector extension that nasx knows of"),
        _cores(),
        _memory(),
        disk(Path.cwd()),
        compiler(),
        Finding("gpu", _gpus()),
        clock(time.thread_time, time.perf_counter),
    ]
    found += [_package(name, lost) for name, lost in PACKAGES.items()]
    return [*found, _dashboards(), _packages_of_ours(), *examine_probes(deep)]


def disk(folder: Path) -> Finding:
    """Return the free space of the disk that holds a folder."""
    free = free_bytes(folder)
    remedy = "make room: searches pause below 0.5 GiB" if free < 2 * LEAST_FREE else ""
    return Finding("disk", f"{free / GIB:.1f} GiB free at {folder.resolve()}", remedy)


def compiler() -> Finding:
    """Return the C++ compiler that kernels and compiled networks are made with."""
    asked = os.environ.get("CXX")
    words = (asked or "").split() or [""]  # CXX may be a command with words: "ccache g++"
    names = words[:1] if asked else ["g++", "clang++"]
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        lost = "without one, the runtimes aot and compile and compiled kernels are not available"
        if asked:
            remedy = f"unset CXX or point it to a compiler; {lost}"
            return Finding("compiler", f"CXX is {asked}, which is not there", remedy)
        return Finding("compiler", f"none (g++, clang++): {lost}")
    try:
        asking = [path, *words[1:], "--version"]
        done = subprocess.run(asking, capture_output=True, text=True, timeout=10)
        said = (done.stdout or done.stderr).strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("compiler", f"{path} does not answer ({error})", "set CXX to one that does")
    if done.returncode or not said:
        remedy = "install it anew, or set CXX to another"
        return Finding("compiler", f"{path} ends with code {done.returncode}", remedy)
    found = f"{said[0]} ({path})"
    if not asked and path != shutil.which("g++"):
        found += "; to use it: CXX=clang++"
    return Finding("compiler", found)


def clock(cpu: Clock, wall: Clock, seconds: float = 0.02) -> Finding:
    """Return how finely the clocks go, and whether they tell work from rest.

    The CPU clock must go on while this thread works, and stand while it rests.
    """
    steps = max(_step(cpu), 1e-9), max(_step(wall), 1e-9)
    start, spent = wall(), cpu()
    while (worked := wall() - start) < seconds:
        pass
    spent = cpu() - spent
    start, idle = wall(), cpu()
    time.sleep(seconds)
    rested, idle = wall() - start, cpu() - idle
    state = f"CPU time in steps of {steps[0] * 1e6:.2g} us, wall time of {steps[1] * 1e6:.2g} us"
    if GOVERNOR.is_file():
        state += f", frequency governor {GOVERNOR.read_text().strip()}"
    elsewhere = "time on another machine with measure.via"
    if not 0 < spent <= 1.1 * worked + steps[0]:
        return Finding("clock", state, f"CPU time does not follow work: {elsewhere}")
    if steps[0] > COARSE:
        return Finding("clock", state, f"too coarse for networks under a millisecond: {elsewhere}")
    if rested < 0.9 * seconds or idle > 0.5 * rested:
        return Finding("clock", state, f"the clocks do not tell work from rest: {elsewhere}")
    return Finding("clock", state)


def _step(tick: Clock, turns: int = 20) -> float:
    """Return the smallest step seen of a clock."""
    least = float("inf")
    for _ in range(turns):
        before = now = tick()
        until = time.monotonic() + 0.05
        while now == before and time.monotonic() < until:
            now = tick()
        if now != before:
            least = min(least, now - before)
    return least


def _cores() -> Finding:
    usable = sorted(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    busy = "other programs keep it busy: latencies will be marked as contended"
    return Finding(
        "cores",
        f"{len(usable)} of {os.cpu_count()} usable ({_ranges(usable)}), load {load:.1f}",
        busy if load > 1.5 * len(usable) else "",
    )


def _ranges(numbers: list[int]) -> str:
    """Return sorted numbers as 0-3,6."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ",".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _memory() -> Finding:
    free = total = 0
    table = Path("/proc/meminfo")
    if not table.is_file():
        return Finding("memory", "unknown on this system")
    for line in table.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            total = int(rest.split()[0]) * 1024
        if name == "MemAvailable":
            free = int(rest.split()[0]) * 1024
    remedy = "close other programs, or run fewer slots" if free < LEAST_MEMORY else ""
    return Finding("memory", f"{free / GIB:.1f} of {total / GIB:.1f} GiB free", remedy)


def _gpus() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none"
    from nasx.cost.device import models_here

    return ", ".join(models_here(gpu=True)) or "present, but this torch cannot use it"


def _package(name: str, lost: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", f"install nasx again; until then {lost}")


def _dashboards() -> Finding:
    """Say whether Ray's and Optuna's dashboards can be opened; searches need neither."""
    from nasx.search.joining import missing_for_dashboard

    lacking = missing_for_dashboard()
    ray = f"Ray's lacks {', '.join(lacking)}" if lacking else "Ray's (--dashboard)"
    try:
        optuna = f"optuna-dashboard {importlib.metadata.version('optuna-dashboard')}"
    except importlib.metadata.PackageNotFoundError:
        optuna, lacking = "no optuna-dashboard", [*lacking, "optuna-dashboard"]
    more = "; for both: pip install 'nasx[dashboard]'" if lacking else ""
    return Finding("dashboards", f"{ray}; {optuna}{more}")


def _packages_of_ours() -> Finding:
    from nasx import registry

    try:
        names = ", ".join(registry.spaces())
    except NasxError as error:
        return Finding("spaces", "cannot be listed", str(error))
    return Finding("spaces", names or "none", "" if names else "install nasx again")
