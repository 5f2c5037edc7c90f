"""How image processing transformers are trained: contrastive losses, phases, bodies, queries."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from nasx.assets import load_assets
from nasx.errors import SpaceError
from nasx.recipe import State
from nasx.shape import TaskShape
from nasx.tasks.base import Batch
from nasx.tasks.restore_options import photos
from nasx.toyrestore import ToyRestore
from nasx.training import Training
from search_spaces._ipt_nets import Ipt as Network
from search_spaces._ipt_nets import IptPlan
from search_spaces._ipt_training import contrastive, plain
from search_spaces._layers.contrast import between_images, contrast, supervised
from search_spaces.ipt import Ipt

TASK = ToyRestore(TaskShape("restore", (3, 12, 12), ("denoise50",)))
TINY: dict[str, Any] = {"features": 8, "encoder": 1, "decoder": 1, "heads": 2}
SOME = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)  # x2 and denoise30


def reference() -> Tensor:
    torch.manual_seed(0)
    return normalize(torch.randn(2, 3, 4), dim=2)


# -- losses -------------------------------------------------------------------------------------


def test_both_contrastive_forms_have_their_known_values():
    assert float(contrast(reference(), "released", 0.07)) == pytest.approx(10.878750, abs=1e-5)
    assert float(contrast(reference(), "paper", 1.0)) == pytest.approx(-0.221250, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_both_forms_are_their_sums(temperature):
    """Term by term, with loops, on three images of two patches."""
    f = normalize(torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(1)), dim=2).double()
    paper = []
    for i in range(3):
        for j in range(2):
            for m in range(2):
                others = sum(torch.exp(f[i, j] @ f[k, m] / temperature) for k in {0, 1, 2} - {i})
                paper.append(-torch.log(torch.exp(f[i, j] @ f[i, m] / temperature) / others))
    flat = f.flatten(0, 1)
    released = []
    for a in range(6):
        others = sum(torch.exp(flat[a] @ flat[b] / temperature) for b in range(6) if b != a)
        alike = torch.exp(flat[a] @ flat[a ^ 1] / temperature)  # the one other patch of its image
        released.append(-torch.log(alike / others) * temperature / 0.07)
    assert between_images(f, temperature) == pytest.approx(float(torch.stack(paper).mean()))
    expected = float(torch.stack(released).mean())  # but for the code's 1e-8
    assert supervised(f, temperature) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_patches_that_agree_within_images_and_differ_between_them_cost_less(form):
    apart = torch.eye(4)[:, None, :].expand(-1, 3, -1)
    alike = torch.eye(4)[:1, None, :].expand(4, 3, -1)
    assert contrast(apart, form, 0.2) < contrast(alike, form, 0.2)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_one_image_alone_has_nothing_to_differ_from(form):
    features = torch.randn(1, 3, 4, requires_grad=True)
    loss = contrast(features, form, 0.2)
    loss.backward()
    assert float(loss.detach()) == 0
    assert features.grad is not None
    assert not features.grad.any()


def state(model: Network) -> State:
    random = torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(2, 3, 12, 12, generator=random), {}, "denoise50")
    batch.targets["image"] = torch.rand(2, 3, 12, 12, generator=random)
    return State(model, TASK, (3, 12, 12), batch, random)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_with_the_contrastive_loss_images_still_come_from_the_body(form):
    """A port of the released code restores from the head alone as soon as that loss is on."""
    torch.manual_seed(0)
    model = Network(IptPlan(("denoise50",), 12, 8, 3, 1, 1, 2))
    now = state(model)
    total = contrastive(0.1, form, 0.2)(now)
    added = float((total - plain(now)).detach())
    assert added != 0
    assert now.notes["contrast"] == pytest.approx(255 / 0.1 * added, abs=1e-3)
    names = [name for name, _ in model.body.named_parameters()]
    weights = list(model.body.parameters())
    restored, tokens = model.traced(now.batch.inputs, "denoise50")
    for what in (total, restored.sum(), now.task.loss(restored, now.batch)):
        grads = torch.autograd.grad(what, weights, retain_graph=True)
        assert [n for n, g in zip(names, grads, strict=True) if not g.abs().sum() > 0] == []
    found = torch.autograd.grad(contrast(tokens, form, 0.2), weights, allow_unused=True)
    moved = {n for n, g in zip(names, found, strict=True) if g is not None and g.abs().sum() > 0}
    assert {n for n in names if n.startswith(("encoder", "decoder"))} <= moved


# -- phases -------------------------------------------------------------------------------------


def trained(candidate: Ipt, full: int = 64, **more: Any) -> Training:
    training = Training(candidate, TASK, full=full, seed=0, **more)
    for _ in training.run(full):
        pass
    return training


def test_pre_training_sees_other_heads_and_leaves_the_tasks_own(tmp_path):
    candidate = Ipt(pretrain="phase", share=0.5, weights=SOME, **TINY)
    training = Training(candidate, TASK, full=64, seed=0)
    heads = []
    for samples in training.run(64):
        heads.append(training.model.heads)
        if samples == 16:
            training.save(tmp_path / "kept")
    assert heads == [("x2", "denoise30")] * 4 + [("denoise50",)] * 4
    assert training.state.decisions == {"heads": ["denoise50"]}
    assert training.deployed().heads == ("denoise50",)
    again = Training(candidate, TASK, full=64, seed=0)
    again.load(tmp_path / "kept")
    for _ in again.run(64):
        pass
    for a, b in zip(training.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_pre_trained_body_is_what_fine_tuning_starts_from(tmp_path):
    candidate = Ipt(pretrain="asset", body_samples=80, weights=SOME, **TINY)
    assets = load_assets(candidate.needs(TASK.shape), {}, tmp_path, TASK)
    body = assets["body"]
    assert body.heads == ("x2", "denoise30")
    training = Training(candidate, TASK, full=16, seed=0, assets=assets)
    next(iter(training.run(16)))  # its first batch
    assert training.model.heads == ("denoise50",)
    started = (training.model.body.encoding.weight - body.body.encoding.weight).abs().max()
    assert 0 < float(started.detach()) < 0.01  # one step of Adam away
    (path,) = tmp_path.glob("*.safetensors")  # supplied by the user: the same network
    given = load_assets(candidate.needs(TASK.shape), {"body": path}, tmp_path / "new", TASK)
    assert not (tmp_path / "new").exists()
    assert torch.equal(given["body"].body.encoding.weight, body.body.encoding.weight)


def test_fine_tuning_without_its_body_is_refused():
    with pytest.raises(SpaceError, match="expected an image processing transformer"):
        trained(Ipt(pretrain="asset", **TINY), 16)


# -- what it learns -----------------------------------------------------------------------------


def test_a_shuffled_query_hurts():
    """Two levels of noise share head and tail: the query alone tells the network which it is."""
    task = photos(degradations=["denoise10", "denoise70"], patch=24)
    candidate = Ipt(shared=True, rate=4e-3, **TINY)
    training = Training(candidate, task, full=800, seed=0)
    for _ in training.run(800):
        pass
    assert candidate.diagnose(training.deployed(), task)["wrong_query_costs_db"] > 0.1
