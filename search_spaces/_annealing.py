"""Training of networks whose weights are relaxed choices: soft, annealed, then hard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nasx.recipe import Groups, Loss, Phase, Recipe, State, Step, one_cycle, task_loss
from nasx.relax import Schedule
from search_spaces._choice_adam import ChoiceAdam
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.rounding import RoundedConv2d, keep_positive
from search_spaces._layers.slb import SlbConv2d, set_temperature


@dataclass(frozen=True)
class Pace:
    """How fast a network is trained: rate, weight decay, share of warm-up, batch, augmentation."""

    rate: float = 6e-3
    decay: float = 1e-3
    warm: float = 0.3
    batch: int = 32
    augment: bool = False


OF_CLASSIFIERS = Pace()


def annealed(t: Schedule, hard_from: float) -> Loss:
    """Return the task's loss with choices at inverse temperature t, hard from `hard_from` on."""

    def loss(state: State) -> Tensor:
        now = t(state.progress)
        set_temperature(state.model, now, hard=state.progress >= hard_from)
        state.notes["inverse_temperature"] = now
        return task_loss(state)

    return loss


def groups(latent_rate: float, pace: Pace = OF_CLASSIFIERS) -> Groups:
    """Return how parameters are moved: those behind low-bit weights `latent_rate` times as fast.

    Weight decay is for matrices and kernels alone: on logits it would pull towards undecided.
    """

    def grouped(state: State) -> Iterable[dict[str, Any]]:
        layers = [m for m in state.model.modules() if isinstance(m, QuantisedConv2d)]
        logits = [m for m in layers if isinstance(m, SlbConv2d)]
        rounded = [m.weight for m in layers if isinstance(m, RoundedConv2d)]
        latent = {id(p) for p in [*rounded, *(m.latent for m in logits)]}
        rest = [p for p in state.model.parameters() if p.requires_grad and id(p) not in latent]
        faster = pace.rate * latent_rate
        found: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": pace.decay},
            {"params": [p for p in rest if p.ndim <= 1]},
            {"params": rounded, "weight_decay": pace.decay, "lr": faster},
            {"params": [m.latent for m in logits if m.bits == 1], "lr": faster},
            {
                "params": [m.latent for m in logits if m.bits > 1],
                "lr": faster,
                "choices": True,
            },
        ]
        return [group for group in found if group["params"]]

    return grouped


def in_range(state: State) -> None:
    """Keep what a step may have moved out of its range."""
    keep_positive(state.model)


def annealing(
    t: Schedule,
    hard_from: float,
    latent_rate: float,
    comparable: float,
    pace: Pace = OF_CLASSIFIERS,
) -> Recipe:
    """Return one phase of AdamW.

    `comparable` is the progress from which scores may be compared.
    """

    def optimizer(members: Iterable[Any]) -> torch.optim.Optimizer:
        return ChoiceAdam(members, pace.rate)

    step = Step(
        annealed(t, hard_from),
        groups(latent_rate, pace),
        optimizer,
        one_cycle(warm=pace.warm),
        after=in_range,
    )
    phases = (Phase("train", 1.0, (step,)),)
    return Recipe(phases, pace.batch, augment=pace.augment, comparable_from=comparable)
