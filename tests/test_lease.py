"""Exclusive use of a device among processes: who waits for whom, and for how long."""

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch import nn

from nasx.cost import lease as leases
from nasx.cost.latency import time_networks
from nasx.cost.lease import LIFE, Lease, Presence, lives, own_folder
from nasx.errors import NasxError
from nasx.files import read_json_lines
from nasx.search.evaluate import Report, Ticket, run_ticket
from nasx.study import Measure
from nasx.training import Training
from tiny import Tiny, TinyDigits

CHILD = """
import sys, time
from pathlib import Path
from nasx.cost.lease import Lease, Presence
folder, life = Path(sys.argv[2]), float(sys.argv[3])
if sys.argv[1] == "measure":
    with Lease("cpu", folder=folder, life=life) as lease:
        print("held", flush=True)
        time.sleep(float(sys.argv[4]))
    print(lease.undisturbed, flush=True)
else:
    presence, steps = Presence(("cpu",), folder=folder, life=life), 0
    while True:
        if presence.may_go():
            steps += 1
        if steps == 1:
            print("steps", flush=True)
        time.sleep(0.005)
"""


@contextlib.contextmanager
def child(*given, started=True):
    """Run a process of its own that measures or trains, and wait until it does."""
    asked = [sys.executable, "-c", CHILD, *map(str, given)]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as process:
        try:
            if started:
                process.stdout.readline()
            yield process
        finally:
            process.kill()


def seconds_until(done, limit=20.0):
    start = time.monotonic()
    while not done():
        assert time.monotonic() - start < limit, "it never happened"
        time.sleep(0.01)
    return time.monotonic() - start


def test_a_training_pauses_while_another_process_measures_and_then_goes_on(tmp_path):
    presence = Presence(("cpu",), folder=tmp_path)
    assert presence.may_go()
    with child("measure", tmp_path, LIFE, 0.3, started=False) as process:
        seconds_until(lambda: not presence.may_go())
        assert process.stdout.readline() == "held\n"  # it waited for the training
        assert seconds_until(presence.may_go) > 0.1
        assert process.stdout.readline() == "True\n"
    assert 0.2 < presence.paused < 5
    presence.leave()


def test_a_measurement_begins_when_every_training_has_paused(tmp_path):
    with child("train", tmp_path, LIFE), child("train", tmp_path, LIFE):
        start = time.monotonic()
        with Lease("cpu", folder=tmp_path) as lease:
            pass
        assert time.monotonic() - start < 10
        assert lease.undisturbed
    assert not (tmp_path / "cpu.lease").exists()


def test_a_holder_that_is_killed_or_stopped_keeps_nobody_longer_than_its_life(tmp_path):
    life = 1.0
    for way in (signal.SIGKILL, signal.SIGSTOP):
        presence = Presence(("cpu",), folder=tmp_path, life=life)
        with child("measure", tmp_path, life, 60) as process:
            time.sleep(1.5 * life)  # its heartbeat keeps it alive
            assert not presence.may_go()
            process.send_signal(way)
            assert seconds_until(presence.may_go) < life + 3  # of the 60 that it asked for
            presence.leave()
            with Lease("cpu", folder=tmp_path, life=life, patience=0):  # free to take
                assert json.loads((tmp_path / "cpu.lease").read_text())["pid"] == os.getpid()


def test_a_holder_that_slept_through_its_lease_knows_it(tmp_path):
    with child("measure", tmp_path, 0.6, 1.2) as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "False\n"


def test_a_training_that_is_killed_or_stopped_in_a_step_ends_no_measurement(tmp_path):
    for way, alone in ((signal.SIGKILL, True), (signal.SIGSTOP, False)):
        with child("train", tmp_path, LIFE) as process:
            process.send_signal(way)
            start = time.monotonic()
            with Lease("cpu", folder=tmp_path, life=0.5) as lease:
                pass
            assert time.monotonic() - start < 5
            # One that was killed holds nothing; one that is stopped may sit on the device.
            assert lease.undisturbed is alone


def test_a_second_measurement_waits_for_the_first_or_says_who_has_the_device(tmp_path):
    with child("measure", tmp_path, LIFE, 0.5):
        start = time.monotonic()
        with Lease("cpu", folder=tmp_path):
            assert time.monotonic() - start > 0.2
    with (
        Lease("cpu", folder=tmp_path),
        pytest.raises(NasxError, match=r"another measurement has held 'cpu' for 0 s \(.*cpu.lease"),
        Lease("cpu", folder=tmp_path, patience=0),
    ):
        pass
    with Lease("cpu", folder=tmp_path), Lease("cuda-1", folder=tmp_path, patience=0):
        pass  # another device


def test_a_lease_is_void_30_seconds_after_its_last_heartbeat(tmp_path):
    now = [1000.0]
    holder = Lease("cpu", folder=tmp_path, clock=lambda: now[0])
    file = tmp_path / "cpu.lease"
    with holder:
        now[0] += LIFE - 0.01
        assert lives(file, LIFE, lambda: now[0])
        now[0] += 0.02
        assert not lives(file, LIFE, lambda: now[0])
        with Lease("cpu", folder=tmp_path, patience=0, clock=lambda: now[0]) as other:
            token = json.loads(file.read_text())["token"]
            holder._renew()  # too late: it must not revive it, nor end the other's
            assert token == other.token
        assert not file.exists()
    assert not holder.undisturbed
    # A beat of before the machine started anew lies in the future.
    file.write_text("{}")
    os.utime(file, (5000, 5000))
    assert not lives(file, LIFE, lambda: 100.0)


def test_a_thread_does_not_wait_for_itself_but_for_another_one(tmp_path):
    presence = Presence(("cpu",), folder=tmp_path)
    with Lease("cpu", folder=tmp_path), ThreadPoolExecutor(1) as other:
        assert presence.may_go()
        presence.leave()
        assert not other.submit(presence.may_go).result()


def test_the_folder_is_the_users_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = own_folder()
    assert folder.parent == tmp_path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    folder.rename(tmp_path / f"nasx-{uid + 1}")
    with pytest.raises(NasxError, match="belongs to somebody else"):
        own_folder()


def test_a_training_rests_between_steps_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "own_folder", lambda: tmp_path)
    task = TinyDigits()
    expected = [*Training(Tiny(), task, full=128, seed=0).run(128)]
    training = Training(Tiny(), task, full=128, seed=0)
    with child("measure", tmp_path, LIFE, 1.0):
        seen = [*training.run(128)]
    assert seen[:3] == [0, 0, 0]  # it rests, and says so
    assert sorted(set(seen) - {0}) == expected
    assert 0.5 < training.presence.paused < 5
    with child("measure", tmp_path, LIFE, 0.3):
        before = training.presence.paused
        training.score("valid")
        assert training.presence.paused > before  # scoring keeps the device busy too
    # Neither left a lock behind that a measurement would wait for.
    with Lease("cpu", folder=tmp_path, life=0.1) as lease:
        pass
    assert lease.undisturbed


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_several_threads_are_timed_alone_and_one_thread_needs_no_lease(
    runtime, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    networks, raw = {"net": (nn.Conv2d(3, 8, 3), (3, 16, 16))}, tmp_path / "latency.jsonl"
    with child("train", own_folder(), LIFE):
        for threads in (1, 2):
            setting = Measure(runtime=runtime, threads=threads)
            time_networks(networks, setting, passes=2, runs=2, raw=raw)
    heads = [line for line in read_json_lines(raw) if "measurement" in line]
    assert [head["exclusive"] for head in heads] == [None, True]
    assert not (own_folder() / "cpu.lease").exists()


def test_pauses_count_neither_as_minutes_nor_as_seconds_of_a_trial(tmp_path):
    class Resting:
        cheap = False

        def run(self, ticket):
            start = time.monotonic()
            while time.monotonic() - start < 0.6:
                time.sleep(0.02)
                yield Report(0, paused=time.monotonic() - start)
            yield Report(8, {"top1": 1.0}, paused=time.monotonic() - start)

    ticket = Ticket(0, "s", {}, "key", 0, 0, 8, 8, str(tmp_path), "a", minutes=0.3 / 60)
    outcome = run_ticket(Resting(), ticket)
    assert outcome.kind == "scored"
    assert outcome.seconds < 0.3
