"""What is scored: a decided copy with fresh BatchNorm statistics."""

import copy
import math

import pytest
import torch
from torch import nn

from nasx.recalibrate import recalibrate
from nasx.training import NotFinite, Training
from tiny import Net, Tiny, TinyDigits, finish

torch.set_num_threads(1)
TASK = TinyDigits()


def training(candidate: Tiny | None = None) -> Training:
    return Training(candidate or Tiny(), TASK, full=1000, seed=0)


def equal(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


def test_scoring_leaves_the_network_in_training_as_it_is() -> None:
    it = finish(training(), 200)
    before, modes = copy.deepcopy(it.model), [m.training for m in it.model.modules()]
    gradients = [torch.randn_like(p) for p in it.model.parameters()]  # none is left by a step
    for p, gradient in zip(it.model.parameters(), gradients, strict=True):
        assert p.grad is None
        p.grad = gradient.clone()
    deployed = it.deployed()
    assert it.score() == it.score()
    for p in deployed.parameters():
        p.data.zero_()
    assert equal(it.model, before)
    assert [m.training for m in it.model.modules()] == modes
    assert all(
        torch.equal(p.grad, g) for p, g in zip(it.model.parameters(), gradients, strict=True)
    )
    assert not equal(it.deployed(), deployed)
    assert not any(m.training for m in it.deployed().modules())


def test_deployed_statistics_are_the_mean_over_training_batches() -> None:
    it = finish(training(), 200)
    norm, seen = it.deployed().features[1], []
    model = copy.deepcopy(it.model).train()
    model.features[1].register_forward_hook(lambda m, i, o: seen.append(i[0].mean((0, 2, 3))))
    generator = torch.Generator().manual_seed(0)
    for batch in TASK.batches("train", (1, 8, 8), 64, generator):
        model(batch.inputs)
    assert norm.momentum == 0.1
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(0), atol=2e-3, rtol=0)
    stale = it.model.features[1].running_mean
    assert (stale - norm.running_mean).abs().max() > 2e-3


@pytest.mark.parametrize("batch", [1, 64, 700, 5000])
def test_statistics_are_taken_from_few_training_samples_as_they_are(batch: int) -> None:
    seen: list[torch.Tensor] = []

    class Watched(TinyDigits):
        def batches(self, split, shape, batch, generator=None, augment=False):
            for few in super().batches(split, shape, batch, generator, augment):
                assert (split, augment) == ("train", False)
                seen.append(few.inputs)
                yield few

    recalibrate(Net(8), Watched(), (1, 8, 8), batch, seed=0)
    drawn = torch.cat(seen).flatten(1)
    assert 0 < len(drawn) <= 1024
    assert len(drawn) == len(torch.unique(drawn, dim=0))  # no sample twice


def test_a_branch_that_no_batch_reaches_keeps_its_statistics() -> None:
    class Branched(Net):
        def __init__(self) -> None:
            super().__init__(8)
            self.unused = nn.BatchNorm2d(3)
            self.unused.running_mean.fill_(7)

    class Gated(Tiny):
        name = "gated"

        def build(self, shape) -> nn.Module:
            return Branched()

    assert training(Gated()).deployed().unused.running_mean.tolist() == [7, 7, 7]


def test_what_is_scored_is_decided() -> None:
    class Decided(Tiny):
        name = "decided"

        def decide(self, model: nn.Module) -> nn.Module:
            model.head.weight.data.sign_()
            return model

    it = finish(training(Decided()), 200)
    assert set(it.deployed().head.weight.flatten().tolist()) == {-1.0, 1.0}
    assert len(set(it.model.head.weight.flatten().tolist())) > 2


def test_a_bad_weight_is_never_scored() -> None:
    it = training()
    it.model.head.weight.data[0, 0] = math.inf
    with pytest.raises(NotFinite, match=r"'head\.weight' is not finite"):
        it.score()
