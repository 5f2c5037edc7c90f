"""Time ONNX models wherever a Python with numpy and onnxruntime can be reached.

This file stands alone: its text, followed by a call of `main`, is piped to an interpreter
(`python3 -`), on this machine or through any command such as ssh. It prints one JSON line.
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
from typing import Any

Run = Callable[[], Any]
Clock = Callable[[], float]


def collect(
    runners: Mapping[str, Run], calibrate: Run, clock: Clock, passes: int, runs: int, seed: int
) -> list[dict[str, Any]]:
    """Visit every runner once per pass, in an order drawn anew; return one row per visit.

    A visit: one warm run thrown away, the calibrator, then `runs` timed runs. With few runners
    the calibrator runs more often, so that a pass has at least six samples of it.
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    names = list(runners)
    times = -(-6 // len(names))

    def timed(run: Run) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), clock()
        run()
        cpu = clock() - cpu
        return (time.perf_counter() - wall) * 1e3, cpu * 1e3

    rows = []
    for turn in range(passes):
        for i in generator.permutation(len(names)):
            run = runners[names[i]]
            run()
            calibrate()
            calibrator = [timed(calibrate) for _ in range(times)]
            samples = [timed(run) for _ in range(runs)]
            rows.append(
                {
                    "network": names[i],
                    "pass": turn,
                    "wall_ms": [wall for wall, _ in samples],
                    "cpu_ms": [cpu for _, cpu in samples],
                    "calibrator_wall_ms": [wall for wall, _ in calibrator],
                    "calibrator_cpu_ms": [cpu for _, cpu in calibrator],
                    "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
                }
            )
    return rows


def clock_for(threads: int) -> Clock:
    """Return the CPU clock: of the calling thread, or of the process where it has helpers."""
    return time.thread_time if threads == 1 else time.process_time


def cpu_use() -> tuple[float, float, float] | None:
    """Return CPU seconds of all processes, of this one, and wall seconds; None where unknown."""
    try:
        with Path("/proc/stat").open() as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    return busy, time.process_time(), time.perf_counter()


def others_since(before: tuple[float, float, float] | None) -> float | None:
    """Return how many cores other processes kept busy since `before`."""
    now = cpu_use()
    if before is None or now is None:
        return None
    return max(0.0, (now[0] - before[0] - now[1] + before[1]) / (now[2] - before[2]))


def machine() -> dict[str, Any]:
    """Return what the samples depend on: CPU model, cores, affinity, versions."""
    model = platform.processor()
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": model,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "host": platform.node(),
        "python": platform.python_version(),
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


def runner_of(model: bytes, threads: int, batch: int, name: str) -> Run:
    """Return a callable of no arguments that runs a model once."""
    session = session_of(model, threads)
    feed = feed_of(session, batch, name)
    return lambda: session.run(None, feed)


def measure(
    header: Mapping[str, int], models: Mapping[str, bytes], calibrator: bytes
) -> dict[str, Any]:
    """Time models (bytes by name) as `header` says; return rows, machine and modules loaded."""
    import onnxruntime

    threads = header["threads"]
    runners = {n: runner_of(m, threads, header["batch"], n) for n, m in models.items()}
    calibrate = runner_of(calibrator, 1, 2, "calibrator")  # always one thread
    for run in runners.values():  # first runs allocate
        run()
    before = cpu_use()
    rows = collect(
        runners, calibrate, clock_for(threads), header["passes"], header["runs"], header["seed"]
    )
    return {
        "rows": rows,
        "machine": {**machine(), "onnxruntime": onnxruntime.__version__},
        "others": others_since(before),
        "modules": sorted({name.split(".")[0] for name in sys.modules}),
    }


def main(payload: str) -> None:
    """Decode a payload, measure, print the answer; a fault becomes {"error": ...}."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        asked = json.loads(payload)
        models = {n: base64.b64decode(m) for n, m in asked["models"].items()}
        answer = measure(asked["header"], models, base64.b64decode(asked["calibrator"]))
    except Exception as error:
        first = str(error).split("\n")[0]
        answer = {"error": f"{type(error).__name__}: {first}"}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
