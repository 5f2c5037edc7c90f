"""How vision transformers are trained: warm-up, decay, a teacher's word, and pruning half way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.recipe import Phase, Recipe, State, Step, adamw, one_cycle, task_loss
from search_spaces._head_pruning import cut, ranked, worth_by_loss

BATCH = 32
WARM = 0.3  # of the training: shorter, some seeds stay at chance
LOOKED = 8  # batches that heads and units are judged on
SOFT, TEMPERATURE = 0.1, 3.0  # DeiT's lambda and tau


def training(rate: float, decay: float, distill: str, pruned: tuple[float, float] | None) -> Recipe:
    """Return the recipe; `pruned` is what stays of heads and hidden units."""
    loss = task_loss if distill == "none" else taught(distill)
    step = Step(loss, grouped, adamw(rate, decay), one_cycle(warm=WARM), clip=1.0)
    if pruned is None:
        return Recipe((Phase("train", 1.0, (step,)),), BATCH)
    tune = Step(loss, grouped, adamw(rate / 2, decay), one_cycle(warm=0.1), clip=1.0)
    phases = (
        Phase("whole", 0.5, (step,)),
        Phase("prune", 0.0, begin=pruning(loss, *pruned)),
        Phase("tune", 0.5, (tune,)),
    )
    return Recipe(phases, BATCH, comparable_from=0.5)


def convolutional() -> Recipe:
    """Return the recipe of the convolutional network beside: that of the space `tinynet`."""
    step = Step(optimizer=adamw(6e-3, 1e-3), factor=one_cycle(warm=WARM))
    return Recipe((Phase("train", 1.0, (step,)),), BATCH)


def grouped(state: State) -> Iterable[dict[str, Any]]:
    """Return parameter groups: matrices decay; biases, scales, tokens and places do not."""
    members = [(n, p) for n, p in state.model.named_parameters() if p.requires_grad]

    def decays(name: str, p: Tensor) -> bool:
        last = name.rpartition(".")[2]
        return p.ndim > 1 and last not in ("tokens", "places", "token", "points", "table")

    return [
        {"params": [p for n, p in members if decays(n, p)]},
        {"params": [p for n, p in members if not decays(n, p)], "weight_decay": 0.0},
    ]


def taught(how: str) -> Callable[[State], Tensor]:
    """Return the loss of a student with a second classifier (DeiT, arXiv:2012.12877, 2 and 3).

    "hard": half the task's loss, half the cross-entropy with the teacher's best class. "soft":
    (1 - .1) the task's loss + .1 tau^2 KL at tau = 3.
    """

    def loss(state: State) -> Tensor:
        own, second = state.model.answers(state.batch.inputs)  # type: ignore[operator]
        with torch.no_grad():
            said = state.assets["teacher"](state.batch.inputs)
        first: Tensor = state.task.loss(own, state.batch)
        if how == "hard":
            return 0.5 * first + 0.5 * functional.cross_entropy(second, said.argmax(1))
        apart = functional.kl_div(
            (second / TEMPERATURE).log_softmax(1),
            (said / TEMPERATURE).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - SOFT) * first + SOFT * TEMPERATURE**2 * apart

    return loss


def pruning(
    loss: Callable[[State], Tensor], heads: float, units: float
) -> Callable[[State], nn.Module]:
    """Return the event that drops heads and hidden units by what the loss would miss."""

    def prune(state: State) -> nn.Module:
        def losses() -> Iterator[Tensor]:
            batches = state.task.batches("train", state.input, BATCH, state.generator)
            for _, batch in zip(range(LOOKED), batches, strict=False):
                state.batch = batch
                yield loss(state)

        model = state.model.eval()
        kept = ranked(model, worth_by_loss(model, losses()), heads, units)
        state.decisions["kept"] = kept
        return cut(model, kept).train()

    return prune
