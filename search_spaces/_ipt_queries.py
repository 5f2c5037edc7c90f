"""What the query is worth: the decoder of a trained network is asked for the wrong degradation."""

from __future__ import annotations

import math

import torch

from nasx.tasks.base import Task
from search_spaces._ipt_nets import Ipt

BATCHES = 4  # of each head
BATCH = 16


@torch.no_grad()
def swapped(model: Ipt, task: Task) -> dict[str, float]:
    """Return the dB that the next head's query costs, the mean over heads; nothing of one head.

    Measured on some patches of `valid`, each head with its own head and tail.
    """
    names = model.plan.names
    if len(names) < 2:
        return {}
    device = next(model.parameters()).device
    left = dict.fromkeys(names, BATCHES)
    errors = {name: [0.0, 0.0] for name in names}
    for batch in task.batches("valid", (3, model.fixed_side, model.fixed_side), BATCH):
        name = batch.head
        if not left[name]:
            continue
        left[name] -= 1
        other = names[(names.index(name) + 1) % len(names)]
        truth = batch.targets["image"].to(device)
        for i, asked in enumerate((name, other)):
            found, _ = model.traced(batch.inputs.to(device), name, asked)
            errors[name][i] += float((found.clamp(0, 1) - truth).square().mean())
    lost = [10 * math.log10(max(b, 1e-12) / max(a, 1e-12)) for a, b in errors.values()]
    return {"wrong_query_costs_db": sum(lost) / len(lost)}
