"""Time ONNX models wherever a Python with numpy and onnxruntime can be reached.

This file stands alone: its text, followed by a call of `main`, is piped to an interpreter
(`python3 -`), on this machine or through any command such as ssh. It prints one JSON line.
The protocol (`take`, `collect`) serves every other runtime too.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Run = Callable[[], Any]
SHORTEST = 0.1  # seconds of a block: some slices of the scheduler, so that other work is seen


class EachInTurn:
    """Runs that count as one: their times are divided by how many they are (`collect`)."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.calls = len(runs)

    def __call__(self) -> None:
        """Run each once."""
        for run in self.runs:
            run()


class Clock(NamedTuple):
    """How a run is timed: `timed` does it once and returns wall ms and the ms of clock `name`."""

    name: str
    timed: Callable[[Run], tuple[float, float]]


def cpu_clock(threads: int) -> Clock:
    """Return the CPU time of the calling thread, or of the process where it has helpers."""
    now = time.thread_time if threads == 1 else time.process_time

    def timed(run: Run) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), now()
        run()
        cpu = now() - cpu
        return (time.perf_counter() - wall) * 1e3, cpu * 1e3

    return Clock("cpu", timed)


def take(
    runners: Mapping[str, Run], calibrate: Run, clock: Clock, passes: int, runs: int, seed: int
) -> dict[str, Any]:
    """Time runners as one block; return its rows, what else ran meanwhile, and the machine."""
    before = usage()
    rows = collect(runners, calibrate, clock, passes, runs, seed)
    while time.perf_counter() - before["wall"] < SHORTEST:
        calibrate()
    return {"rows": rows, "block": between(before, usage()), "machine": machine()}


def collect(
    runners: Mapping[str, Run], calibrate: Run, clock: Clock, passes: int, runs: int, seed: int
) -> list[dict[str, Any]]:
    """Visit every runner once per pass, in an order drawn anew; return one row per visit.

    A visit: one warm run thrown away, the calibrator, then `runs` timed runs. The calibrator has
    no warm run of its own: with one, calibrated values fell by 17 % when four trainings ran beside,
    without it by 2 % (it then meets the same caches as the networks do). With few runners it runs
    more often, so that a pass has at least six samples of it. A row holds
    "wall_ms" and the clock's "NAME_ms" of each run, and the same of the calibrator. A run of
    several inputs (`EachInTurn`) counts with its mean; "calls" says over how many.
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    names = list(runners)
    times = -(-6 // len(names))
    rows = []
    for turn in range(passes):
        for i in generator.permutation(len(names)):
            run = runners[names[i]]
            run()
            calibrator = [clock.timed(calibrate) for _ in range(times)]
            samples = [clock.timed(run) for _ in range(runs)]
            calls = getattr(run, "calls", 1)
            rows.append(
                {
                    "network": names[i],
                    "pass": turn,
                    "calls": calls,
                    "wall_ms": [wall / calls for wall, _ in samples],
                    f"{clock.name}_ms": [own / calls for _, own in samples],
                    "calibrator_wall_ms": [wall for wall, _ in calibrator],
                    f"calibrator_{clock.name}_ms": [own for _, own in calibrator],
                    "load": load(),
                }
            )
    return rows


def usage() -> dict[str, Any]:
    """Return seconds by this moment: wall, CPU of this thread, of this process and of all
    processes, and how long this thread was ready and had no CPU. None where unknown.
    """
    busy = waited = None
    try:
        with Path("/proc/stat").open() as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        with Path("/proc/thread-self/schedstat").open() as file:
            waited = int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        pass
    return {
        "wall": time.perf_counter(),
        "thread": time.thread_time(),
        "process": time.process_time(),
        "all": busy,
        "waited": waited,
    }


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what happened between two usages.

    "wall_ms"; "cpu_ms" of the calling thread; "waited_ms" that it was ready and had no CPU;
    "others", the number of cores that other processes kept busy.
    """
    spent: dict[str, Any] = {k: None if before[k] is None else after[k] - before[k] for k in before}
    others = None
    if spent["all"] is not None:
        others = max(0.0, (spent["all"] - spent["process"]) / spent["wall"])
    return {
        "wall_ms": spent["wall"] * 1e3,
        "cpu_ms": spent["thread"] * 1e3,
        "waited_ms": None if spent["waited"] is None else spent["waited"] * 1e3,
        "others": others,
    }


def load() -> float | None:
    """Return the load average of the last minute, where the system keeps one."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def machine() -> dict[str, Any]:
    """Return what the samples depend on: CPU model, cores that may be used, load, versions."""
    model = platform.processor()
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    affinity = getattr(os, "sched_getaffinity", None)
    cores = sorted(affinity(0)) if affinity else None
    return {
        "cpu": model,
        "cores": len(cores) if cores else os.cpu_count(),
        "affinity": cores,
        "load": load(),
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "interpreter": sys.executable,
    }


def session_of(model: bytes, threads: int) -> Any:
    """Open a model on `threads` threads of the CPU, silent and without spinning."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def feed_of(session: Any, batch: int, name: str) -> dict[str, Any]:
    """Return random inputs of batch size `batch` for a session; what cannot be made is refused."""
    import numpy

    generator = numpy.random.default_rng(0)
    feed = {}
    for put in session.get_inputs():
        shape = [batch if i == 0 and not isinstance(n, int) else n for i, n in enumerate(put.shape)]
        if put.type not in TYPES or not all(isinstance(n, int) for n in shape):
            raise ValueError(f"{name}: no input can be made for {put.type} {put.shape}")
        if shape[0] != batch:
            raise ValueError(f"{name} takes batches of {shape[0]} only, not {batch}")
        feed[put.name] = generator.standard_normal(shape).astype(TYPES[put.type])
    return feed


def runner_of(model: bytes, threads: int, batch: int, name: str, inputs: Any = None) -> Run:
    """Return a callable of no arguments that runs a model once, or once on each of `inputs`."""
    session = session_of(model, threads)
    if inputs is None:
        return _runner(session, feed_of(session, batch, name))
    put = session.get_inputs()[0].name
    return EachInTurn([_runner(session, {put: one}) for one in inputs])


def _runner(session: Any, feed: dict[str, Any]) -> Run:
    return lambda: session.run(None, feed)


def measure(
    header: Mapping[str, int],
    models: Mapping[str, bytes],
    calibrator: bytes,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Time models (bytes by name) as `header` says; return what `take` does, and more.

    `inputs` are the batches (calls, batch, ...) of models that are not timed on random ones.

    "faults" says why a model cannot run; "modules" are the packages that were loaded.
    """
    import numpy  # first: without it, onnxruntime's import says something else
    import onnxruntime

    threads = header["threads"]
    runners, faults = {}, {}
    for name, model in models.items():
        try:
            run = runner_of(model, threads, header["batch"], name, inputs.get(name))
            run()  # first runs allocate
        except Exception as error:
            faults[name] = said(error)
        else:
            runners[name] = run
    calibrate = runner_of(calibrator, 1, 2, "calibrator")  # always one thread
    taken: dict[str, Any] = {"rows": [], "block": {}, "machine": machine()}
    if runners:
        clock = cpu_clock(threads)
        taken = take(runners, calibrate, clock, header["passes"], header["runs"], header["seed"])
    taken["machine"] |= {"numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__}
    modules = sorted({name.split(".")[0] for name in sys.modules})
    return {**taken, "faults": faults, "modules": modules}


def floats(shape: list[int], data: str) -> Any:
    """Return the float32 numbers of a payload as an array."""
    import numpy

    return numpy.frombuffer(base64.b64decode(data), numpy.float32).reshape(shape)


def said(error: Exception) -> str:
    """Return an error in one line; of a package that is missing, where to install it."""
    if isinstance(error, ModuleNotFoundError):
        return f"{sys.executable} has no package {error.name}: pip install {error.name} there"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def main(payload: str) -> None:
    """Decode a payload, measure, print the answer; a fault becomes {"error": ...}."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        asked = json.loads(payload)
        models = {n: base64.b64decode(m) for n, m in asked["models"].items()}
        inputs = {n: floats(**given) for n, given in asked["inputs"].items()}
        answer = measure(asked["header"], models, base64.b64decode(asked["calibrator"]), inputs)
    except Exception as error:
        answer = {"error": said(error)}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
