"""The runtimes in this process: what they time, what they refuse, and that they leave no trace."""

import typing

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from nasx.commands_look import RUNTIMES as OFFERED
from nasx.cost.latency import time_each, time_networks
from nasx.cost.runtimes import RUNTIMES
from nasx.errors import NasxError
from nasx.study import Measure


class Misfit(nn.Module):
    """Takes what no image is."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(7, 3)

    def forward(self, x):
        return self.linear(x)


class Deaf(nn.Module):
    """Runs, and cannot be exported: what it does depends on the values it sees."""

    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


def net(width):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU()).train()


def test_study_command_and_table_know_the_same_runtimes():
    assert typing.get_args(Measure.model_fields["runtime"].annotation) == tuple(RUNTIMES)
    assert tuple(RUNTIMES) == OFFERED


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["aot", "compile"])
def test_compiled_networks_are_timed_and_left_as_they_were(runtime):
    small = net(4)
    before = {k: v.clone() for k, v in small.state_dict().items()}
    graphs = counters["stats"]["unique_graphs"]
    networks = {"bad": (Misfit(), (3, 8, 8)), "small": (small, (3, 32, 32))}
    if runtime == "compile":  # a second package would take aot another 5 s
        networks["large"] = (net(64), (3, 32, 32))
    # Past its limit torch.compile runs further networks of a class as they are and only logs it.
    with torch._dynamo.config.patch(recompile_limit=1):
        timed = time_each(networks, Measure(runtime=runtime), passes=3)
    if runtime == "compile":
        assert counters["stats"]["unique_graphs"] == graphs + 2
        # The least of the runs: calls take .2 ms here, and other work doubles single ones.
        assert timed.latencies["small"].min_ms < timed.latencies["large"].min_ms
    assert timed.latencies["small"].runtime == runtime
    assert set(timed.faults) == {"bad"}
    assert "Misfit: cannot run on an input of 1 x 3 x 8 x 8: mat1" in timed.faults["bad"]
    assert type(small) is nn.Sequential
    assert all(m.training for m in small.modules())
    assert all(torch.equal(v, before[k]) for k, v in small.state_dict().items())


@pytest.mark.parametrize("runtime", ["aot", "compile"])
def test_a_missing_compiler_is_one_clear_line(runtime, monkeypatch):
    networks = {"net": (net(4), (3, 8, 8))}
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NasxError, match=f"{runtime} needs a C\\+\\+ compiler .*'g\\+\\+'.*CXX$"):
        time_networks(networks, Measure(runtime=runtime))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NasxError, match="there is no 'no-such-compiler'"):
        time_networks(networks, Measure(runtime=runtime))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_cuda_is_refused_in_one_clear_line():
    networks = {"net": (net(4), (3, 8, 8))}
    with pytest.raises(NasxError, match=r"no GPU that torch can use; choose another runtime"):
        time_networks(networks, Measure(runtime="cuda", device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_by_its_events_and_held_alone(tmp_path):
    networks = {f"x{k}": (nn.Conv2d(16 * k, 16 * k, 3), (16 * k, 128, 128)) for k in (1, 16)}
    timed = time_networks(networks, Measure(runtime="cuda", device="cuda"), passes=4)
    assert timed["x1"].median_ms < timed["x16"].median_ms
    assert timed["x1"].machine == torch.cuda.get_device_name(0)
    assert all(p.device.type == "cpu" for model, _ in networks.values() for p in model.parameters())
    with pytest.raises(NasxError, match="valid are cuda:0 to"):
        time_networks(networks, Measure(runtime="cuda", device="cuda:99"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime": "cuda"}, "cuda times on a GPU: set measure.device: cuda"),
        ({"runtime": "eager", "device": "cuda"}, "'cuda': eager times on a CPU; set measure.devi"),
        ({"runtime": "eager", "via": "python3 -"}, "measure.via needs measure.runtime: onnxrunti"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(change, message):
    with pytest.raises(NasxError, match=message):
        time_networks({"net": (net(4), (3, 8, 8))}, Measure(**change))


def test_an_unknown_runtime_is_refused_with_those_there_are():
    unchecked = Measure.model_construct(runtime="tvm", device="cpu", batch=1, threads=1, via=None)
    with pytest.raises(NasxError, match="unknown runtime 'tvm'; known: onnxruntime, aot, eager, "):
        time_networks({"net": (net(4), (3, 8, 8))}, unchecked)


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_one_network_that_cannot_be_timed_costs_the_others_nothing(runtime):
    networks = {"bad": (Misfit(), (3, 8, 8)), "good": (net(4), (3, 8, 8))}
    if runtime == "onnxruntime":
        networks["deaf"] = (Deaf(), (3, 8, 8))  # traced as the example goes: timed all the same
    timed = time_each(networks, Measure(runtime=runtime), passes=2, runs=2)
    assert set(timed.latencies) == set(networks) - {"bad"}
    assert timed.faults == {"bad": "Misfit: cannot run on an input of 1 x 3 x 8 x 8: mat1 and mat2 "
                                   "shapes cannot be multiplied (24x8 and 7x3)"}  # fmt: skip
    with pytest.raises(NasxError, match="bad cannot be timed: Misfit: cannot run on an input of"):
        time_networks(networks, Measure(runtime=runtime), passes=1, runs=1)
    only = time_each({"bad": networks["bad"]}, Measure(runtime=runtime))
    assert (only.latencies, set(only.faults)) == ({}, {"bad"})
