"""How networks with gates are trained: a loss that also counts, and gates at a rate of their own.

Step(within(budget), moving("all", rate=3e-3, gate_rate=3e-3))
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor, nn

from nasx.errors import SpaceError
from nasx.recipe import Groups, Loss, State, task_loss
from nasx.relax import Schedule
from search_spaces._budget import Budget
from search_spaces._necks import Neck

DECAY = 0.05  # of weights; gates, biases and norms are not decayed

Part = Literal["all", "network", "gate"]


def within(budget: Budget, noise: Schedule) -> Loss:
    """Return the task's loss plus the budget's, as a batch of two images would have it.

    A gate that learns nothing has no gradient of it. Ways are drawn with `noise` at the progress of
    the training; without noise they are those of
    evaluation, and what is held to the budget is what is deployed.
    """

    def loss(state: State) -> Tensor:
        with _neck(state).watched(state.generator, noise(state.progress)) as taken:
            found = task_loss(state)
            state.notes["spent"] = float(budget.spent(taken).detach().mean()) / budget.most
            return found + budget.per_published_batch(taken)

    return loss


def moving(which: Part, rate: float, gate_rate: float) -> Groups:
    """Return the parameters that a step moves; gates have a rate of their own, laterals too.

    Adam moves every weight alike, so a sum over n taps moves as n times one tap does; the rate of
    a lateral falls with the square root of its taps, and that of a 1 x 1 is `rate`.
    """

    def groups(state: State) -> Iterable[dict[str, Any]]:
        neck = _neck(state)
        gate = [] if neck.gate is None else list(neck.gate.parameters())
        laterals = list(neck.laterals)
        apart = {id(p) for part in (*laterals, neck.gate) if part for p in part.parameters()}
        rest = [p for p in state.model.parameters() if id(p) not in apart]
        sets: list[dict[str, Any]] = []
        if which != "gate":
            sets += _decayed(rest, rate)
            for kernels, lateral in zip(neck.plan.laterals, laterals, strict=True):
                taps = sum(side**2 for side, _ in kernels)
                sets += _decayed(list(lateral.parameters()), rate / math.sqrt(taps))
        if which != "network" and gate:
            sets.append({"params": gate, "lr": gate_rate, "weight_decay": 0.0})
        return sets

    return groups


def _decayed(members: list[nn.Parameter], rate: float) -> list[dict[str, Any]]:
    matrices = [p for p in members if p.ndim > 1]
    others = [p for p in members if p.ndim <= 1]
    return [
        {"params": matrices, "lr": rate, "weight_decay": DECAY},
        {"params": others, "lr": rate, "weight_decay": 0.0},
    ]


def _neck(state: State) -> Neck:
    neck = state.model.neck
    if not isinstance(neck, Neck):
        raise SpaceError("a budget is for networks with a neck")
    return neck
