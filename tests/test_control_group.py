"""The control phase: features mixed with those of knockoffs, and coefficients that alone learn."""

from pathlib import Path

import pytest
import torch
from torch import nn

from nasx import registry
from nasx.assets import load_assets
from nasx.training import Training
from search_spaces._channel_scores import best, competing_scores
from search_spaces._control_group import Betas, mixing, spread
from search_spaces._coupling import Channels
from search_spaces.scop import Scop

TASK = registry.task("digits")
SMALL = {"source": "dense", "mode": "scatter", "ratio": 0.5, "width": 0.5, "dense_samples": 400}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("assets")


def begun(folder: Path, until: int, **fields: object) -> Training:
    candidate = Scop.from_json({**SMALL, **fields})
    assets = load_assets(candidate.needs(TASK.shape), {}, folder, TASK)
    training = Training(candidate, TASK, full=640, seed=0, assets=assets)
    for _ in training.run(until):
        pass
    return training


def test_the_first_half_is_mixed_and_the_second_passes_as_it_is():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1))
    betas = Betas([3, 2])
    for beta in betas.values:
        nn.init.uniform_(beta)
    real, fake = torch.randn(2, 4, 2, 6, 6)
    first, second = (beta[:, None, None] for beta in betas.values)
    a, b = model[0](real), model[0](fake)
    a = first * a + (1 - first) * b
    a, b = model[2](a.relu()), model[2](b.relu())
    with mixing(model, ["0", "2"], betas):
        outputs = model(torch.cat([real, fake]))
    assert torch.allclose(outputs, torch.cat([second * a + (1 - second) * b, b]), atol=1e-6)
    assert torch.equal(model(real), model[2](model[0](real).relu()))  # no hook is left
    outputs.sum().backward()
    assert all(beta.grad is not None for beta in betas.values)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_hooks_go_when_the_forward_raises():
    model = nn.Sequential(nn.Conv2d(1, 1, 1))
    with pytest.raises(RuntimeError), mixing(model, ["0"], Betas([1])):
        model(torch.zeros(2, 5, 4, 4))
    assert not model[0]._forward_hooks
    assert model[0].weight.requires_grad


def test_coefficients_stay_in_range_and_rest_when_they_are_done():
    betas = Betas([2, 2], stop=0.7)
    with torch.no_grad():
        betas.values[0].copy_(torch.tensor([1.5, -0.5]))
    betas.settle()
    assert betas.values[0].tolist() == [1, 0]
    assert spread(betas) == {
        "beta_mean": 0.5,
        "beta_sd": pytest.approx(0.125**0.5),
        "beta_above_half": 0.25,
    }
    assert not betas.done
    with torch.no_grad():
        betas.values[1].fill_(0.95)
    betas.settle()
    assert betas.done
    with torch.no_grad():
        betas.values[1].fill_(0.2)  # as momentum would
    betas.settle()
    assert betas.all().tolist() == pytest.approx([1, 0, 0.95, 0.95])


def test_only_the_coefficients_learn(folder):
    training = begun(folder, 96, control_share=0.2)
    betas = training.state.companions["betas"]
    assert float(betas.all().mean()) > 0.5
    assert float(betas.all().std()) > 0
    dense = dict(training.state.assets["dense"].named_parameters())
    for name, parameter in training.model.named_parameters():
        assert torch.equal(parameter, dense[name])
    assert "kept" not in training.state.decisions
    assert training.state.decisions["knockoffs"]["holds"] is False  # a permuted batch
    assert 0.5 < training.state.notes["beta_mean"] <= float(betas.all().mean())


def test_scores_are_gamma_times_the_lead_of_beta_and_sets_are_cut_by_them():
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    betas = Betas([3, 3])
    with torch.no_grad():
        betas.values[0].copy_(torch.tensor([0.9, 0.6, 0.5]))
        betas.values[1].copy_(torch.tensor([0.5, 0.5, 1.0]))
    one = Channels("one", 3, 0, ("0", "2"), ("1", ""))
    scop = competing_scores("scop", model, [one], betas)["one"]
    assert scop.tolist() == pytest.approx([0.4, 0.2, 0.5])  # means of [.8, .4, 0] and [0, 0, 1]
    beta = competing_scores("beta", model, [one], betas)["one"]
    assert beta.tolist() == pytest.approx([0.4, 0.1, 0.5])
    assert best({"one": scop}, {"one": 2}) == {"one": [0, 2]}
    assert best({"one": torch.zeros(3)}, {"one": 2}) == {"one": [0, 1]}
