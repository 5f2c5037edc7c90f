"""A self-test of every probe: counting, each runtime that can run here, seeing contention."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator

import torch
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.device import GPU_RUNTIMES
from nasx.cost.latency import Latency, time_networks
from nasx.cost.runtimes import RUNTIMES
from nasx.doctor import Finding, compiler
from nasx.errors import NasxError
from nasx.study import Measure

COMPILE = frozenset({"aot", "compile"})  # seconds to a minute: only when asked for
TESTED = "install the versions of constraints.txt, which nasx is tested with"
WIDE = (16, 16, 16)
TIMES = 16  # as much work has the larger of two networks


def examine_probes(deep: bool = False) -> list[Finding]:
    """Return what a test of every probe said."""
    with torch.random.fork_rng(devices=[]):
        runtimes = [_runtime(name, deep) for name in RUNTIMES]
        return [_counting(), *runtimes, _contention()]


def _counting() -> Finding:
    """Count a network whose cost is known by hand."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(512, 10))
    wanted = {"macs": 8 * 8 * 8 * 27 + 5120, "params": 216 + 5130}
    try:
        card = card_of(net, (3, 8, 8))
    except NasxError as error:
        return Finding("counting", "fails", f"{error}; {TESTED}")
    found = {name: getattr(card, name) for name in wanted}
    if found != wanted:
        return Finding("counting", f"{found} where it should be {wanted}", TESTED)
    return Finding("counting", f"right ({found['macs']:,} MACs of a tiny network)")


def _runtime(name: str, deep: bool) -> Finding:
    """Time two networks of which one works 16 times as much."""
    version, lacking = _offered(name)
    if lacking:
        return Finding(name, f"not here: {lacking}")
    if name in COMPILE and not deep:
        return Finding(name, f"{version}, not tested (nasx doctor --deep does)")
    networks = {f"x{k}": (nn.Conv2d(16, 16 * k, 3, padding=1), WIDE) for k in (1, TIMES)}
    device = "cuda" if name in GPU_RUNTIMES else "cpu"
    try:
        measure = Measure.model_validate({"runtime": name, "device": device})
        timed = time_networks(networks, measure, passes=2, runs=5)
    except (NasxError, ValueError) as error:
        return Finding(name, f"{version}, times nothing", " ".join(str(error).split()))
    small, large = timed["x1"].min_ms, timed[f"x{TIMES}"].min_ms
    state = f"{version}, times tiny networks at {small:.3g} and {large:.3g} ms"
    if not 0 < small < large and name not in GPU_RUNTIMES:  # launches hide it on a GPU
        remedy = f"the second has {TIMES} times the work: close other programs and try again"
        return Finding(name, state, remedy)
    return Finding(name, state)


def _offered(name: str) -> tuple[str, str]:
    """Return the version of a runtime, and what it lacks to run here."""
    if name == "onnxruntime":
        try:
            return importlib.metadata.version(name), ""
        except importlib.metadata.PackageNotFoundError:
            return "", "pip install onnxruntime, or time with measure.runtime: eager"
    if name in GPU_RUNTIMES:
        gpu = torch.cuda.is_available()
        return f"CUDA {torch.version.cuda}", "" if gpu else "no GPU that torch can use"
    if name in COMPILE and not _compiles():
        return "", "no C++ compiler"
    return f"torch {torch.__version__}", ""


def _compiles() -> bool:
    found = compiler()
    return not (found.remedy or found.state.startswith("none"))


def _contention() -> Finding:
    """Time a network while another process wants the same CPU: it must be marked as contended."""
    if not hasattr(os, "sched_setaffinity"):
        return Finding("contention", "not tested: this system does not pin processes")
    if _timed_beside_another().contended:
        return Finding("contention", "a second process on the same CPU is seen")
    remedy = "a busy CPU goes unseen here: measure while nothing else runs"
    return Finding("contention", "a second process on the same CPU is not seen", remedy)


def _timed_beside_another() -> Latency:
    network = {"it": (nn.Conv2d(16, 64, 3, padding=1), (16, 24, 24))}
    with _sharing_a_cpu():
        return time_networks(network, Measure(runtime="eager"), passes=20, runs=10)["it"]


@contextlib.contextmanager
def _sharing_a_cpu() -> Iterator[None]:
    """Pin this thread and a process that never rests to one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        spin = "print(flush=True)\nwhile True: pass"
        with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as other:
            try:
                assert other.stdout is not None
                other.stdout.readline()  # it runs
                yield
            finally:
                other.kill()
    finally:
        os.sched_setaffinity(0, before)
