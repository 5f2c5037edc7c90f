"""A few real samples that stand for a task's whole valid split."""

from __future__ import annotations

import torch
from torch import Tensor

from nasx.shape import Shape
from nasx.tasks.base import Task

READ = 256  # samples per batch while they are picked


def spread_samples(task: Task, shape: Shape, count: int) -> Tensor:
    """Return `count` inputs (N, C, H, W) evenly spaced over the valid split.

    Where it has fewer, all of it, and the rest from the training split, drawn and not augmented.
    """
    size = task.size("valid")
    wanted = torch.linspace(0, size - 1, min(count, size)).round().long()
    picked, start = [], 0
    for batch in task.batches("valid", shape, READ):
        here = wanted[(wanted >= start) & (wanted < start + len(batch.inputs))]
        picked.append(batch.inputs[here - start])
        start += len(batch.inputs)
    drawn = torch.Generator().manual_seed(0)
    left = min(count - size, task.size("train"))
    if left > 0:
        for batch in task.batches("train", shape, min(READ, task.size("train")), drawn):
            picked.append(batch.inputs[:left])
            left -= len(picked[-1])
            if left == 0:
                break
    return torch.cat(picked)
