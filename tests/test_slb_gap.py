"""Why choices are annealed: how far soft and hard weights are apart at the end of training."""

from __future__ import annotations

import torch
from torch import nn

from nasx import registry
from nasx.relax import Schedule
from nasx.tasks.base import Task
from search_spaces._layers.slb import SlbConv2d, set_temperature

EPOCHS, BATCH, RATE, SEEDS = 5, 32, 0.01, (0, 1, 2)
SHAPE = (1, 8, 8)


def network() -> nn.Sequential:
    """Four convolutions, the last three of one bit; activations stay float."""

    def block(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
        return [SlbConv2d(c_in, c_out, 3, stride, 1, bits=1), nn.BatchNorm2d(c_out), nn.ReLU()]

    first = [nn.Conv2d(1, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(*first, *block(4, 8, 2), *block(8, 8, 1), *block(8, 8, 2), *last)


@torch.no_grad()
def gap(model: nn.Sequential, task: Task) -> float:
    """Soft less hard accuracy on `valid`, as shares, each with the statistics of training."""
    batch = next(task.batches("valid", SHAPE, task.size("valid")))

    def accuracy() -> float:
        return float((model(batch.inputs).argmax(1) == batch.targets["label"]).float().mean())

    model.eval()
    hard = accuracy()
    for layer in model.modules():
        if isinstance(layer, SlbConv2d):
            layer.train()
    soft = accuracy()
    assert soft > 0.8
    return soft - hard


def trained_gap(seed: int, final: float, task: Task) -> float:
    """Train with t from 1 to `final`, soft to the end."""
    torch.manual_seed(seed)
    model, generator = network().train(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    steps = EPOCHS * (task.size("train") // BATCH)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    t = Schedule(1.0, final, 0.2, 0.8, "exponential")
    for step in range(steps):
        if step % (task.size("train") // BATCH) == 0:
            batches = task.batches("train", SHAPE, BATCH, generator)
        batch = next(batches)
        set_temperature(model, t(step / steps), hard=False)
        optimizer.zero_grad()
        task.loss(model(batch.inputs), batch).backward()
        optimizer.step()
        rate.step()
    return gap(model, task)


def test_annealing_closes_the_gap_between_soft_and_hard_weights():
    task = registry.task("digits")
    found = {f: sum(trained_gap(s, f, task) for s in SEEDS) / len(SEEDS) for f in (1, 10, 1000)}
    assert found[1] >= 0.3
    assert found[1] > found[10] > found[1000]
    assert found[1000] <= 0.02
