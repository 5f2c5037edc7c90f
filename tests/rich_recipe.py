"""A space that asks of the trainer all that a recipe can say, small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.recipe import Cycle, Phase, Recipe, State, Step, adamw, sgd, task_loss
from nasx.shape import TaskShape
from tiny import Net, Tiny


def freeze_stem(state: State) -> None:
    state.model.features[0].weight.requires_grad_(False)


def prune(state: State) -> nn.Module:
    """Keep the better half of the channels by the scale of the first BatchNorm."""
    order = state.model.features[1].weight.detach().abs().argsort(descending=True)
    kept = tuple(sorted(order[: len(order) // 2].tolist()))
    state.decisions["kept"] = kept
    small = Net(len(kept))
    small.head.weight.data.copy_(state.model.head.weight.data[:, list(kept)])
    return small


def rest_dropout(state: State) -> None:
    state.model.dropout.eval()


def teacher_loss(state: State) -> Tensor:
    return state.task.loss(state.companions["teacher"](state.batch.inputs), state.batch)


def student_loss(state: State) -> Tensor:
    """Learn from labels and the teacher, on inputs with noise of the state's generator."""
    inputs = state.batch.inputs
    noise = torch.randn(inputs.shape, generator=state.generator)
    output = state.model(inputs + 0.1 * noise)
    with torch.no_grad():
        taught = state.companions["teacher"](inputs)
    distance = functional.mse_loss(output, taught)
    state.notes["distance"] = distance.item()
    return state.task.loss(output, state.batch) + 0.1 * distance


def clamp_head(state: State) -> None:
    state.model.head.weight.clamp_(-0.2, 0.2)


class Rich(Tiny):
    """A cycle with a frozen stem, an event that prunes, then two steps on every batch."""

    name = "rich"

    def rebuild(self, shape: TaskShape, decisions: Any) -> nn.Module:
        return Net(len(decisions["kept"]) if "kept" in decisions else self.width)

    def recipe(self, shape: TaskShape) -> Recipe:
        body = Step(parameters=lambda s: [p for p in s.model.parameters() if p.requires_grad])
        head = Step(
            parameters=lambda s: s.model.head.parameters(), optimizer=sgd(0.05), after=clamp_head
        )
        teacher = Step(teacher_loss, lambda s: s.companions["teacher"].parameters(), adamw(0.01))
        student = Step(student_loss, optimizer=adamw(0.01), clip=1.0, after=clamp_head)
        return Recipe(
            (
                Phase("control", 0.4, Cycle((body,), (head,), times=2), begin=freeze_stem),
                Phase("prune", 0.0, begin=prune),
                Phase("tune", 0.6, (teacher, student), begin=rest_dropout),
            ),
            batch=32,
            companions=lambda state: {"teacher": Net(8)},
        )


class Plain(Tiny):
    """The same network with a loss that can be set from outside."""

    name = "plain"
    steps: Any = (Step(task_loss),)

    def recipe(self, shape: TaskShape) -> Recipe:
        return Recipe((Phase("only", 1.0, type(self).steps),), batch=32)
