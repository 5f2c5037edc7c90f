"""Training of networks whose weights are relaxed choices: soft, annealed, then hard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nasx.recipe import Groups, Loss, Phase, Recipe, State, Step, one_cycle, task_loss
from nasx.relax import Schedule
from search_spaces._choice_adam import ChoiceAdam
from search_spaces._layers.rounding import keep_positive
from search_spaces._layers.slb import SlbConv2d, set_temperature

RATE, DECAY, BATCH = 6e-3, 1e-3, 32


def annealed(t: Schedule, hard_from: float) -> Loss:
    """Return the task's loss with choices at inverse temperature t, hard from `hard_from` on."""

    def loss(state: State) -> Tensor:
        now = t(state.progress)
        set_temperature(state.model, now, hard=state.progress >= hard_from)
        state.notes["inverse_temperature"] = now
        return task_loss(state)

    return loss


def groups(logit_rate: float) -> Groups:
    """Return how parameters are moved: logits `logit_rate` times as fast as the others.

    Weight decay is for matrices and kernels alone: on logits it would pull towards undecided.
    """

    def grouped(state: State) -> Iterable[dict[str, Any]]:
        latent = {
            id(m.latent): (m.latent, m.bits > 1)
            for m in state.model.modules()
            if isinstance(m, SlbConv2d)
        }
        rest = [p for p in state.model.parameters() if p.requires_grad and id(p) not in latent]
        faster = RATE * logit_rate
        found: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in rest if p.ndim <= 1]},
            {"params": [p for p, several in latent.values() if several], "lr": faster},
            {"params": [p for p, several in latent.values() if not several], "lr": faster},
        ]
        found[2]["choices"] = True
        return [group for group in found if group["params"]]

    return grouped


def optimizer(members: Iterable[Any]) -> torch.optim.Optimizer:
    """Return the optimizer of such groups."""
    return ChoiceAdam(members, RATE)


def in_range(state: State) -> None:
    """Keep what a step may have moved out of its range."""
    keep_positive(state.model)


def annealing(t: Schedule, hard_from: float, logit_rate: float, comparable: float) -> Recipe:
    """Return one phase of AdamW on images as they are.

    `comparable` is the progress from which scores may be compared.
    """
    step = Step(
        annealed(t, hard_from), groups(logit_rate), optimizer, one_cycle(warm=0.3), after=in_range
    )
    return Recipe((Phase("train", 1.0, (step,)),), BATCH, augment=False, comparable_from=comparable)
