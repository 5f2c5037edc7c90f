"""Training of networks whose weights are relaxed choices: soft, annealed, then hard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from nasx.recipe import Groups, Loss, Phase, Recipe, State, Step, one_cycle, task_loss
from nasx.relax import Schedule
from search_spaces._choice_adam import ChoiceAdam
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.rounding import RoundedConv2d, keep_positive
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


def groups(latent_rate: float) -> Groups:
    """Return how parameters are moved: those behind low-bit weights `latent_rate` times as fast.

    Weight decay is for matrices and kernels alone: on logits it would pull towards undecided.
    """

    def grouped(state: State) -> Iterable[dict[str, Any]]:
        layers = [m for m in state.model.modules() if isinstance(m, QuantisedConv2d)]
        logits = [m for m in layers if isinstance(m, SlbConv2d)]
        rounded = [m.weight for m in layers if isinstance(m, RoundedConv2d)]
        latent = {id(p) for p in [*rounded, *(m.latent for m in logits)]}
        rest = [p for p in state.model.parameters() if p.requires_grad and id(p) not in latent]
        faster = RATE * latent_rate
        found: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in rest if p.ndim <= 1]},
            {"params": rounded, "weight_decay": DECAY, "lr": faster},
            {"params": [m.latent for m in logits if m.bits == 1], "lr": faster},
            {
                "params": [m.latent for m in logits if m.bits > 1],
                "lr": faster,
                "choices": True,
            },
        ]
        return [group for group in found if group["params"]]

    return grouped


def optimizer(members: Iterable[Any]) -> torch.optim.Optimizer:
    """Return the optimizer of such groups."""
    return ChoiceAdam(members, RATE)


def in_range(state: State) -> None:
    """Keep what a step may have moved out of its range."""
    keep_positive(state.model)


def annealing(t: Schedule, hard_from: float, latent_rate: float, comparable: float) -> Recipe:
    """Return one phase of AdamW on images as they are.

    `comparable` is the progress from which scores may be compared.
    """
    step = Step(
        annealed(t, hard_from), groups(latent_rate), optimizer, one_cycle(warm=0.3), after=in_range
    )
    return Recipe((Phase("train", 1.0, (step,)),), BATCH, augment=False, comparable_from=comparable)
