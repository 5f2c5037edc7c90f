"""Latency of networks whose work depends on the input: on real samples, skipping for real."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from gatednets import Bright, images
from nasx.cost.latency import time_networks
from nasx.cost.onnxfile import timing_onnx
from nasx.cost.piped import script_of
from nasx.cost.samples import FED, Fed, Plan, fed, visit_of
from nasx.shape import TaskShape
from nasx.study import Measure
from nasx.toytask import ToyTask

SHAPE = (3, 32, 32)


def heavy() -> Bright:
    """Its gated block holds nearly all of its work."""
    torch.manual_seed(0)
    return Bright(width=16, middle=96, at=(0.0,)).eval()


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_a_network_takes_less_time_on_the_images_that_close_its_gate(runtime, tmp_path):
    net, noise = heavy(), images(6, 32) / 4
    networks = {"dark": Fed(net, SHAPE, noise - 4), "bright": Fed(net, SHAPE, noise + 4),
                "untrained": (net, SHAPE)}  # fmt: skip
    timed = time_networks(
        networks, Measure(runtime=runtime), passes=5, runs=2, raw=tmp_path / "raw.jsonl"
    )
    ms = {name: latency.median_ms for name, latency in timed.items()}
    assert 3 * ms["dark"] < ms["bright"]  # 50 times the work
    assert 3 * ms["dark"] < ms["untrained"]  # the widest form, whatever the made-up input is
    assert [timed[n].inputs for n in networks] == [6, 6, 1]
    rows = [json.loads(line) for line in (tmp_path / "raw.jsonl").read_text().splitlines()[1:]]
    assert {row["network"]: row["calls"] for row in rows} == {
        "dark": 6,
        "bright": 6,
        "untrained": 1,
    }


def test_the_timed_file_holds_the_condition_and_no_frozen_branch():
    model = onnx.load_from_string(timing_onnx(heavy(), SHAPE, 1, conditions=True))
    (condition,) = [n for n in model.graph.node if n.op_type == "If"]
    held = {i.name for a in condition.attribute for i in a.g.initializer}
    assert {"blocks.0.0.weight", "blocks.0.3.weight"} <= held  # inside, where they are packed ahead
    assert not {i.name for i in model.graph.initializer} & held
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_samples_are_visited_in_batches_and_travel_to_the_probe_as_they_are():
    net, x = heavy(), images(5, 32)
    visit = visit_of(Fed(net, SHAPE, x), 2)
    assert visit.model is net
    assert visit.real
    assert torch.equal(torch.stack([c for (c,) in visit.calls])[:, 0], x)
    assert torch.equal(visit.calls[4][0], torch.stack([x[4], x[0]]))
    plain = nn.Conv2d(3, 3, 1)
    assert visit_of((plain, SHAPE), 2).calls[0][0].shape == (2, *SHAPE)
    text = script_of({}, Measure(), Plan(), {"it": x})
    names: dict[str, object] = {"__name__": "probe"}
    exec(text.rpartition("\n\nmain(")[0], names)
    payload = json.loads(eval(text.rpartition("\n\nmain(")[2].rstrip(")\n")))
    assert np.array_equal(names["floats"](**payload["inputs"]["it"]), x.numpy())


def test_only_networks_whose_work_varies_are_given_real_samples():
    task = ToyTask(TaskShape("classify", SHAPE, 10))
    net, plain = heavy(), nn.Conv2d(3, 3, 1)
    assert fed(plain, SHAPE, task) == (plain, SHAPE)
    found = fed(net, SHAPE, task)
    assert isinstance(found, Fed)
    valid = next(task.batches("valid", SHAPE, task.size("valid"))).inputs
    wanted = torch.linspace(0, len(valid) - 1, FED).round().long()
    assert torch.equal(found.samples, valid[wanted])
