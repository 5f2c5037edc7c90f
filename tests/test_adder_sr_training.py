"""Super-resolution by additions in training, and the files it leaves as."""

import copy
import json

import pytest
import torch

import nasx
from nasx import registry
from nasx.bundle import bundle
from nasx.modelcard import About
from nasx.operators import kernels_of
from nasx.search.opening import _cautions
from nasx.training import Training
from search_spaces._layers.adder import AdderConv2d
from search_spaces._layers.power import Power
from search_spaces.adder_sr import AdderSr
from tiny import finish

SMALL = {"width": 8, "depth": 1, "operators": ("adder",) * 3}


@pytest.fixture(scope="module")
def task():
    return registry.task({"name": "photos", "patch": 16, "patches": 400})


def weights(training):
    return [p.detach().clone() for p in training.model.parameters()]


def test_every_parameter_is_moved_once_and_no_exponent_decays(task):
    candidate = AdderSr(**SMALL, activation="relu_power", rate=0.01, adder_rate=10.0)
    run = finish(Training(candidate, task, full=16, seed=0), 8)
    groups = run.steps[0].optimizer.param_groups
    place = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(place)
    assert len(place) == len(list(run.model.parameters()))
    for layer in run.model.modules():
        if isinstance(layer, AdderConv2d):
            assert place[id(layer.weight)]["initial_lr"] == pytest.approx(0.1)
        if isinstance(layer, Power):
            assert place[id(layer.logit)]["initial_lr"] == 0.01
            assert place[id(layer.logit)]["weight_decay"] == 0
    # Without a gradient a decayed exponent would move, though no value asks for it.
    (power,) = (m for m in run.model.modules() if isinstance(m, Power))
    before = power.logit.detach().clone()
    for p in run.model.parameters():
        p.grad = torch.zeros_like(p)
    for group in groups:
        group["betas"] = (0.0, 0.0)
    run.steps[0].optimizer.step()
    assert torch.equal(power.logit, before)


def test_an_adder_network_comes_to_beat_bicubic(task):
    candidate = AdderSr(**SMALL, activation="relu_power", rate=0.01)
    run = finish(Training(candidate, task, full=8 * 200, seed=0))
    assert run.score("valid")["psnr"] > task.without_net("valid")["psnr"] + 0.1
    told = candidate.diagnose(run.model, task)
    assert 50 < told["adder_taps_percent"] < 100
    assert 0.3 < told["alpha_least"] <= told["alpha_most"] < 3
    assert "alpha_least" not in AdderSr(**SMALL).diagnose(AdderSr().build(task.shape), task)


def test_a_resumed_training_equals_the_uninterrupted_one(task, tmp_path):
    candidate = AdderSr(**SMALL, activation="relu_power", norm="sum")
    whole = finish(Training(candidate, task, full=48, seed=0))
    first = finish(Training(candidate, task, full=48, seed=0), 24)
    first.save(tmp_path / "checkpoint")
    second = Training(candidate, task, full=48, seed=0)
    second.load(tmp_path / "checkpoint")
    finish(second)
    for one, other in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(one, other)
    assert whole.score("valid") == second.score("valid")


def test_adders_are_not_ranked_before_their_time():
    for fields in ({}, SMALL):
        shape = registry.task("photos").shape
        assert AdderSr(**fields).recipe(shape).comparable_from == 0.5


def test_a_search_notes_what_the_energy_leaves_out():
    (sentence,) = _cautions(nasx.load("adder_sr"))["adder_sr"]
    assert "lose latency" in sentence


def test_it_leaves_as_files_that_compute_the_same(task, tmp_path):
    """The power and the shortcut, with no operator of ours where the files are run."""
    candidate = AdderSr(
        width=8, depth=1, operators=("conv", "conv", "adder"), norm="sum",
        activation="power", alpha_grain="channel", alpha_start=0.7,
    )  # fmt: skip
    network = finish(Training(candidate, task, full=40, seed=0)).deployed()
    inputs = next(iter(task.batches("valid", task.shape.input, 12))).inputs
    # A power of values at and below the bend is a part of what is held to parity.
    least: list[float] = []
    watched = copy.deepcopy(network)
    watched.body[0].act.register_forward_hook(
        lambda _, args, out: least.append(float(args[0].detach().abs().min()))
    )
    watched(inputs)
    assert least[0] < 1e-4
    about = About("s", "t0000", "a space", {}, "k", kernels=kernels_of(network))
    made = bundle(network, about, tmp_path / "bundle", inputs)
    parity = json.loads((made / "parity.json").read_text())
    assert set(parity["files"]) == {"model.onnx", "model.pt2", "model.py"}
    assert all(row["pass"] for row in parity["files"].values())
    assert "adder_conv2d" in (made / "model.py").read_text()
