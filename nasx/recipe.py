"""Recipe: what training a candidate means, as phases of steps.

    recipe = Recipe(phases=(Phase("train", 1.0, (Step(loss),)),), batch=64)

The budget unit is samples seen by the main network. A phase has a share of it; share 0 is an
event (surgery, an attached mapping). Schedules are functions of progress in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nasx.shape import Shape
from nasx.tasks.base import Batch, Task, answer


@dataclass
class State:
    """Everything a step may look at; the trainer sets `progress` before every step.

    `progress` runs over the whole recipe, `phase_progress` over the current phase. Structural
    choices (kept channels, branches) go into `decisions`: a resumed trial rebuilds from them.
    """

    model: nn.Module
    task: Task
    input: Shape
    batch: Batch
    generator: torch.Generator
    progress: float = 0.0
    phase_progress: float = 0.0
    companions: dict[str, nn.Module] = field(default_factory=dict)
    assets: Mapping[str, nn.Module] = field(default_factory=dict)
    decisions: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)  # extra columns of curve.csv


Loss = Callable[[State], Tensor]
Groups = Callable[[State], Iterable[Any]]  # parameters or torch parameter groups
Hook = Callable[[State], nn.Module | None]  # may return another network
MakeOptimizer = Callable[[Iterable[Any]], torch.optim.Optimizer]


def adamw(lr: float = 3e-3, decay: float = 0.05) -> MakeOptimizer:
    """Make AdamW optimizers; scales and biases are not decayed."""

    def make(groups: Iterable[Any]) -> torch.optim.Optimizer:
        members = list(groups)
        if members and not isinstance(members[0], dict):
            members = [
                {"params": [p for p in members if p.ndim > 1], "weight_decay": decay},
                {"params": [p for p in members if p.ndim <= 1], "weight_decay": 0.0},
            ]
        return torch.optim.AdamW(members, lr=lr, weight_decay=decay, fused=True)

    return make


def sgd(lr: float = 0.1, momentum: float = 0.9, decay: float = 5e-4) -> MakeOptimizer:
    """Make SGD optimizers with Nesterov momentum."""

    def make(groups: Iterable[Any]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            list(groups),
            lr=lr,
            momentum=momentum,
            weight_decay=decay,
            nesterov=momentum > 0,
            fused=True,
        )

    return make


def one_cycle(warm: float = 0.2, floor: float = 0.01) -> Callable[[float], float]:
    """Return a factor of progress: linear up to 1 at `warm`, cosine down to `floor` at 1."""

    def factor(progress: float) -> float:
        if progress < warm:
            return 0.1 + 0.9 * progress / warm
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm)))

    return factor


def task_loss(state: State) -> Tensor:
    """Return the task's own loss of the main network on the current batch."""
    return state.task.loss(answer(state.model, state.batch, state.task.shape), state.batch)


def model_parameters(state: State) -> Iterable[nn.Parameter]:
    """Return the trainable parameters of the main network."""
    return [p for p in state.model.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Step:
    """One optimizer's part of a training step, run on every batch in the order given."""

    loss: Loss = task_loss
    parameters: Groups = model_parameters
    optimizer: MakeOptimizer = field(default_factory=adamw)
    factor: Callable[[float], float] = field(default_factory=one_cycle)  # of the phase's progress
    clip: float | None = None  # bound on the gradient's l2 norm
    after: Callable[[State], None] | None = None  # e.g. clamp


@dataclass(frozen=True)
class Cycle:
    """Alternate two lists of steps: `times` batches of `first`, then `times` of `second`."""

    first: tuple[Step, ...]
    second: tuple[Step, ...]
    times: int = 1


@dataclass(frozen=True)
class Phase:
    """A share of the budget (0 = an event), its steps, its data view and its hooks.

    The view is "train", or one that the task has beside it (a mixture, `nasx.tasks.mixture`).
    """

    name: str
    share: float
    steps: tuple[Step, ...] | Cycle = ()
    view: str = "train"
    begin: Hook | None = None
    end: Hook | None = None


@dataclass(frozen=True)
class Recipe:
    """Phases, batch size and augmentation of one candidate's training.

    Scores before progress `comparable_from` may not be compared: rungs there are skipped.
    `companions` makes networks used in training only (a teacher): never costed, never exported.
    """

    phases: tuple[Phase, ...]
    batch: int = 64
    augment: bool = True
    comparable_from: float = 0.0
    companions: Callable[[State], dict[str, nn.Module]] | None = None


def standard(lr: float = 3e-3, decay: float = 0.05, batch: int = 64) -> Recipe:
    """Return one phase of AdamW with a warm-up and a cosine on the task's loss."""
    return Recipe((Phase("train", 1.0, (Step(optimizer=adamw(lr, decay)),)),), batch=batch)
