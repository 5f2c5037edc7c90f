import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

import nasx
from nasx.cost.runtimes import RUNTIMES
from nasx.doctor import Finding, clock, compiler, examine_machine
from nasx.doctor_probes import examine_probes
from nasx.doctor_run import examine_run
from nasx.errors import NasxError
from nasx.files import locked
from nasx.provenance import FLAGS
from nasx.study import Study
from simulated import Simulated

BEFORE = os.sched_getaffinity(0)


@pytest.fixture
def run(tmp_path):
    study = Study.model_validate(
        {
            "name": "hill", "desc": "d", "task": "none",
            "space": f"{Path(__file__).parent}/simulated.py:Hill",
            "objectives": {"top1": "maximize", "macs": "minimize"},
            "fidelity": {"full": 90, "rungs": 1},
            "search": {"trials": 4, "sampler": "random"},
            "resources": {"executor": "inline"},
        }
    )  # fmt: skip
    return nasx.search(study, tmp_path / "run", evaluate=Simulated(faults={2: "raise"})).path


def states(run):
    return {f.what: f for f in examine_run(run)}


def test_this_machine_is_described_and_its_probes_are_tested():
    findings = examine_machine()
    found = {f.what: f for f in findings}
    assert found["torch"].state.startswith("2.")
    assert "GiB free" in found["memory"].state
    assert "tinynet" in found["spaces"].state
    told = set(Path("/proc/cpuinfo").read_text().replace("\n", " ").split())
    assert set(found["isa"].state.split()) == {f for f in FLAGS if f in told}
    assert found["cores"].state.startswith(f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} ")
    assert found["counting"].state.startswith("right (18,944 MACs")
    assert set(RUNTIMES) <= set(found)
    for name in ("onnxruntime", "eager"):
        assert "times tiny networks at" in found[name].state, found[name]
    assert found["contention"].state == "a second process on the same CPU is seen"
    assert "us, wall time of" in found["clock"].state
    busy = {"cores", "memory", "disk"}  # this machine's passing troubles
    assert {f.what for f in findings if f.remedy} <= busy
    assert os.sched_getaffinity(0) == BEFORE


@pytest.mark.parametrize(
    ("cpu", "remedy"),
    [
        (lambda: 0.0, "CPU time does not follow work"),
        (lambda: int(time.thread_time() * 100) / 100, "too coarse|CPU time does not follow"),
        (time.perf_counter, "the clocks do not tell work from rest"),
        (time.thread_time, "^$"),
    ],
    ids=["stands", "coarse", "never rests", "sound"],
)
def test_a_clock_that_cannot_time_is_told(cpu, remedy):
    assert re.search(remedy, clock(cpu, time.perf_counter).remedy)


def test_the_compiler_is_the_one_that_would_be_used(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    if shutil.which("g++"):
        assert shutil.which("g++") in compiler().state
    fake = tmp_path / "clang++"
    fake.write_text("#!/bin/sh\necho clang version 99\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiler() == Finding("compiler", f"clang version 99 ({fake}); to use it: CXX=clang++")
    fake.write_text('#!/bin/sh\necho "$@"\n')
    monkeypatch.setenv("CXX", "clang++ -Qunused-arguments")
    assert compiler().state == f"-Qunused-arguments --version ({fake})"
    monkeypatch.delenv("CXX")
    fake.write_text("#!/bin/sh\nexit 3\n")
    assert compiler().state == f"{fake} ends with code 3"
    monkeypatch.setenv("CXX", "icpx")
    assert compiler().state == "CXX is icpx, which is not there"
    assert compiler().remedy
    monkeypatch.delenv("CXX")
    fake.unlink()
    assert compiler().state.startswith("none (g++, clang++): without one, the runtimes aot")
    assert not compiler().remedy  # nobody needs one for a study as it comes


def test_a_probe_that_fails_is_told_with_its_reason(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    broken = {f.what: f for f in examine_probes()}["onnxruntime"]
    assert broken.state.endswith("times nothing")
    assert "the latency probe: no samples came back (exit 1" in broken.remedy
    assert "\n" not in broken.text()


def test_a_run_is_looked_over(run):
    found = states(run)
    assert found["lock"].state == "free"
    assert found["trials"].state == "complete 3, failed 1"
    assert "RuntimeError" in found["failed"].state
    assert "missing for 3 (t0000" in found["weights"].state  # a simulation trains nothing


def test_a_held_lock_is_seen_and_left_alone(run):
    with locked(run / "lock", "busy"):
        assert states(run)["lock"].state.startswith("held: a search is running (process ")
    assert states(run)["lock"].state == "free"


def test_missing_files_and_records_are_told(run, tmp_path):
    assert "latency steps" not in states(run)
    (run / "steps.json").write_text("{")
    assert states(run)["latency steps"].state == "steps.json cannot be read"
    (run / "provenance.json").unlink()
    assert "missing provenance.json" in states(run)["files"].state
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "record.sqlite3").write_bytes(b"not a database at all" * 100)
    assert states(copy)["record"].state == "cannot be read"
    assert "is not a database" in states(copy)["record"].remedy
    (copy / "record.sqlite3").unlink()
    assert "the record is not here" in states(copy)["record"].remedy
    with pytest.raises(NasxError, match="no run here"):
        examine_run(tmp_path)
