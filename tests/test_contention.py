"""Other work on the machine is seen by the measurement that it disturbs."""

import contextlib
import json
import os
import subprocess
import sys

import pytest
from torch import nn

from nasx.cost.contention import contended, room
from nasx.cost.latency import time_networks
from nasx.cost.samples import Samples
from nasx.study import Measure

LINUX = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity (Linux)"
)


@contextlib.contextmanager
def burner():
    """Pin this process to one core, and keep that core busy from another process."""
    mine = os.sched_getaffinity(0)
    cpu = min(mine)
    code = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # it burns
            os.sched_setaffinity(0, {cpu})
            yield
        finally:
            os.sched_setaffinity(0, mine)
            process.kill()


@LINUX
@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_a_burner_is_detected_however_short_the_networks_are(runtime, tmp_path):
    """Their runs take microseconds and may all fit between two slices of the scheduler."""
    networks = {"a": (nn.Conv2d(1, 1, 1), (1, 4, 4)), "b": (nn.ReLU(), (4,))}
    raw = tmp_path / "latency.jsonl"
    with burner():
        for seed in range(3):
            timed = time_networks(networks, Measure(runtime=runtime), seed=seed, passes=5, raw=raw)
            assert all(record.contended for record in timed.values())
            assert all(record.median_ms < 0.2 for record in timed.values())
    heads = [json.loads(line) for line in raw.read_text().splitlines() if "measurement" in line]
    assert [head["contended"] for head in heads] == [True] * 3


@LINUX
def test_a_burner_is_detected_beside_several_threads():
    networks = {"a": (nn.Conv2d(16, 16, 3), (16, 16, 16))}
    with burner():
        timed = time_networks(networks, Measure(threads=2), passes=2, runs=2)
    assert timed["a"].contended


def judged(measure, share=1.0, exclusive=None, **block):
    samples = Samples([], {"cpu": "x", "cores": 4}, block, exclusive=exclusive)
    return contended(samples, room(samples, measure, share))


@pytest.mark.parametrize(
    ("share", "cpu_ms", "waited_ms", "expected"),
    [
        (1.0, 99.0, 0.5, False),
        (0.89, 99.0, 0.5, True),  # the network's own runs waited
        (1.0, 89.0, 0.5, True),  # something else of the block did
        (1.0, 99.0, 11.0, True),
        (1.0, 99.0, None, False),  # a system that does not tell
    ],
)
def test_one_thread_is_judged_by_its_runs_its_block_and_its_waiting(
    share, cpu_ms, waited_ms, expected
):
    block = {"wall_ms": 100.0, "cpu_ms": cpu_ms, "waited_ms": waited_ms, "others": 3.0}
    assert judged(Measure(), share, **block) is expected


@pytest.mark.parametrize(
    ("others", "waited_ms", "expected"),
    [(0.0, 0.0, False), (1.5, 0.0, False), (3.0, 0.0, True), (None, 0.0, False), (0.0, 20.0, True)],
)
def test_several_threads_are_judged_by_the_cores_left_free(others, waited_ms, expected):
    block = {"wall_ms": 100.0, "cpu_ms": 40.0, "waited_ms": waited_ms, "others": others}
    assert judged(Measure(threads=2), 0.5, **block) is expected


def test_a_gpu_is_judged_by_the_thread_that_launches_and_by_its_lease():
    gpu = Measure(runtime="cuda", device="cuda")
    assert not judged(gpu, 0.4, exclusive=True, wall_ms=100.0, cpu_ms=30.0, waited_ms=1.0)
    assert judged(gpu, 1.0, exclusive=True, wall_ms=100.0, cpu_ms=90.0, waited_ms=11.0)
    assert judged(gpu, 1.0, exclusive=False, wall_ms=100.0, cpu_ms=90.0, waited_ms=0.0)
