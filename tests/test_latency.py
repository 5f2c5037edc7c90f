"""The timing protocol, the runtimes behind it, and the ONNX files it times."""

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from torch import nn

from nasx.cost import latency, piped, probe
from nasx.cost.latency import Latency, comparable, time_models, time_networks
from nasx.cost.onnxfile import timing_onnx, write_onnx
from nasx.cost.piped import script_of
from nasx.cost.samples import Plan, Samples
from nasx.errors import NasxError
from nasx.study import Measure

SHAPE = (3, 16, 16)
WIDE = (16, 24, 24)


class Squeeze(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        return x * torch.sigmoid(self.gate(x))


def small_net(width=8):
    """Return a small classifier whose statistics are not the initial ones."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.SiLU(),
        Squeeze(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
    return net.train()


def conv(times):
    """Return a convolution with `times` the smallest one's work."""
    return nn.Conv2d(16, 16 * times, 3, padding=1)


def run_onnx(model, x):
    session = probe.session_of(model, 1)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_the_written_file_computes_what_the_network_does(tmp_path, capfd):
    net, path = small_net(), tmp_path / "model.onnx"
    write_onnx(net, SHAPE, path)
    assert probe.session_of(path.read_bytes(), 1).get_inputs()[0].shape == ["batch", *SHAPE]
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert all(m.training for m in net.modules())
    assert logging.root.manager.disable == logging.NOTSET
    for batch in (1, 7):
        x = torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            expected = net.eval()(x)
        assert torch.allclose(run_onnx(path.read_bytes(), x), expected, atol=1e-5)
    # what is timed computes the same
    assert torch.allclose(run_onnx(timing_onnx(net, SHAPE, 7), x), expected, atol=1e-5)


def test_a_network_that_cannot_be_exported_is_refused_and_leaves_no_file(tmp_path, capfd):
    class Branch(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(NasxError, match="Branch: cannot be written as ONNX"):
        write_onnx(Branch(), SHAPE, path)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_networks_four_times_apart_come_in_order(runtime, tmp_path):
    nets = {f"x{k}": (conv(k), WIDE) for k in (16, 1, 4)}
    raw = tmp_path / "trial" / "latency.jsonl"
    timed = time_networks(nets, Measure(runtime=runtime), passes=4, runs=3, raw=raw)
    assert timed["x1"].median_ms < timed["x4"].median_ms < timed["x16"].median_ms
    assert timed["x1"].min_ms < timed["x4"].min_ms < timed["x16"].min_ms
    for record in timed.values():
        assert 0 < record.q1_ms <= record.median_ms <= record.q3_ms
        assert (record.samples, record.runtime, record.threads) == (12, runtime, 1)
        assert record.calibrator_ms > 0
        assert json.loads(json.dumps(record.to_json())) == record.to_json()
    head, *visits = [json.loads(line) for line in raw.read_text().splitlines()]
    assert head["measurement"]["runtime"] == runtime
    machine = head["machine"]
    assert machine["affinity"] == sorted(os.sched_getaffinity(0))
    assert machine["cores"] == len(machine["affinity"])
    assert machine["cpu"]
    assert machine["load"] >= 0
    assert machine["torch" if runtime == "eager" else "onnxruntime"]
    assert head["measurement"]["threads"] == 1
    assert head["block"]["wall_ms"] >= 100
    assert head["contended"] == any(record.contended for record in timed.values())
    assert Counter(v["network"] for v in visits) == {"x1": 4, "x4": 4, "x16": 4}
    assert all(len(v["cpu_ms"]) == len(v["wall_ms"]) == 3 for v in visits)
    assert all(len(v["calibrator_cpu_ms"]) == 2 for v in visits)


def test_timing_leaves_a_network_as_it_was():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    threads = torch.get_num_threads()
    time_networks({"net": (net, SHAPE)}, Measure(runtime="eager", threads=2), passes=1, runs=1)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training for m in net.modules())
    assert torch.get_num_threads() == threads


def order(seed):
    visited = []
    runners = {name: (lambda name=name: visited.append(name)) for name in "abcde"}
    probe.collect(runners, lambda: None, probe.cpu_clock(1), 6, 2, seed)
    return visited


def test_visits_are_interleaved_in_an_order_drawn_from_the_seed():
    one = order(1)
    passes = [one[i : i + 15] for i in range(0, 90, 15)]
    for turn in passes:  # per visit a warm run and two timed ones; everyone once per pass
        assert Counter(turn) == dict.fromkeys("abcde", 3)
        assert all(len(set(turn[i : i + 3])) == 1 for i in range(0, 15, 3))
    assert len({"".join(turn) for turn in passes}) > 1
    assert one == order(1)
    assert one != order(2)


def test_the_value_is_normalised_by_the_calibrators_of_each_pass(monkeypatch):
    """A machine that is slower by pass 1 and 2 gives one value for all passes."""

    def row(name, turn, ms):
        slow = 1 + turn
        return {
            "network": name,
            "pass": turn,
            "wall_ms": [ms * slow] * 3,
            "cpu_ms": [ms * slow] * 3,
            "calibrator_wall_ms": [0.5 * slow],
            "calibrator_cpu_ms": [0.5 * slow],
        }

    rows = [row(n, t, ms) for t in (0, 1, 2) for n, ms in (("a", 1.0), ("b", 3.0))]
    samples = Samples(rows, {"cpu": "x", "cores": 2}, {"others": 0.0})
    monkeypatch.setitem(latency.RUNTIMES, "eager", lambda networks, measure, plan: samples)
    timed = time_networks({"a": (small_net(), SHAPE)}, Measure(runtime="eager"))
    assert timed["a"].calibrator_ms == pytest.approx(1.0)
    assert timed["a"].q1_ms == pytest.approx(2.0)
    assert timed["a"].q3_ms == pytest.approx(2.0)
    assert timed["b"].median_ms == pytest.approx(6.0)
    assert timed["a"].min_ms == pytest.approx(1.0)
    assert not timed["a"].contended


def test_the_probe_runs_without_nasx_and_torch(tmp_path):
    models = {
        "small": timing_onnx(small_net(), SHAPE, 2),
        "large": timing_onnx(small_net(64), SHAPE, 2),
    }
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=script_of(models, Measure(batch=2), Plan(passes=3, runs=2)),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        check=True,
    )
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.stderr == ""
    assert {"numpy", "onnxruntime"} <= set(answer["modules"])
    assert not {"torch", "nasx", "ray", "optuna"} & set(answer["modules"])
    assert Counter(row["network"] for row in answer["rows"]) == {"small": 3, "large": 3}


def test_one_thread_of_onnxruntime_computes_in_the_calling_thread():
    run = probe.runner_of(timing_onnx(conv(16), WIDE, 1), 1, 1, "conv")
    run()
    thread, process = time.thread_time(), time.process_time()
    for _ in range(30):
        run()
    thread, process = time.thread_time() - thread, time.process_time() - process
    assert thread > 0.9 * process


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"via": "cat > /dev/null; exit 7"}, r"'.* exit 7': no samples came back \(exit 7"),
        ({"via": "exit 7"}, r"measure.via 'exit 7': no samples came back \(exit 7"),
        ({"via": "cat > /dev/null; echo oops >&2; false"}, "exit 1: oops"),
        ({"device": "cuda"}, "'cuda': onnxruntime times on a CPU; set"),
        ({"batch": 4}, "takes batches of 1 only, not 4"),
        ({"runtime": "eager"}, "an ONNX file runs in onnxruntime, not in 'eager'"),
    ],
)
def test_a_measurement_that_cannot_be_had_is_refused(change, message):
    model = timing_onnx(small_net(), SHAPE, 1)
    with pytest.raises(NasxError, match=message):
        time_models({"net": model}, Measure(**change), passes=1, runs=1)


def test_a_command_that_hangs_is_ended_with_all_it_started(monkeypatch):
    monkeypatch.setattr(piped, "SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(NasxError, match=r"measure.via 'sleep 60.*': no answer within"):
        time_models({"net": b""}, Measure(via="sleep 60 | cat"))
    assert time.monotonic() - started < 10


def test_only_like_records_compare():
    one = Latency(1, 1, 1, 1, 1, False, 5, "onnxruntime", "cpu", 1, 1, 0.5, "this CPU")
    assert comparable(one, one.to_json())
    for change in ({"batch": 8}, {"threads": 2}, {"runtime": "eager"}, {"machine": "another"}):
        assert not comparable(one, {**one.to_json(), **change})
