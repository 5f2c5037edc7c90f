"""Distillation: a student learns from a teacher's logits and from its layers' answers.

    teaching = Teaching(Lesson(alpha=0.5, beta=1.0), layers=("stages.0.0.conv1",))
    steps = (Step(teaching.teach, teaching.taught, ...), Step(teaching.learn, teaching.learning))

The teacher is a companion (it learns on the same batches, each before the student) or an asset
(trained before). Its tensors reach the student's loss detached, so no loss of the student moves it.
After arXiv:2009.13044: the layers' answers go through a kernel and a learnt 1x1 transform first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasx.recipe import State, model_parameters
from nasx.tasks.base import Batch, answer
from search_spaces._similarity import Heard, Kernel, Sigma, similarity

Blend = Literal["share", "labels"]
FLAT = 1e-8  # variance below which a channel counts as constant


@dataclass(frozen=True)
class Lesson:
    """What the student is told.

    `blend` "share" weighs labels and teacher, (1 - alpha) CE + alpha T^2 KL; "labels" puts alpha
    before the labels, alpha CE + T^2 KL. KL is from the teacher's probabilities to the student's
    at temperature T. `beta` weighs the layers, `transform` says whether each side has a 1x1
    transform.
    """

    alpha: float = 0.5
    temperature: float = 4.0
    blend: Blend = "share"
    beta: float = 0.0
    kernel: Kernel = "laplace"
    sigma: Sigma = "channel"
    sign: int = 1
    transform: bool = True


def imitation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of logits (N, classes), mean over samples.

    T^2 keeps the gradient's size as T grows (arXiv:1503.02531, section 2.1).
    """
    spoken = functional.log_softmax(student / temperature, 1)
    told = functional.log_softmax(teacher.detach() / temperature, 1)
    divergence = functional.kl_div(spoken, told, reduction="batchmean", log_target=True)
    return temperature**2 * divergence


def standardised(x: Tensor) -> Tensor:
    """Return (N, C, H, W) with mean 0 and variance 1 over the batch in every channel."""
    return functional.batch_norm(x, None, None, training=True, eps=FLAT)


class Transform(nn.Module):
    """A 1x1 transform between two normalisations: (N, C, H, W) to (N, C, H, W).

    Two learnt transforms under a squared distance have a trivial solution: both zero. Here every
    filter has length 1 and every output variance 1, whatever is learnt, so the distance of two
    outputs is 2 (1 - correlation).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels))
        nn.init.orthogonal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed, standardised answers."""
        filters = functional.normalize(self.weight, dim=1)[:, :, None, None]
        return standardised(functional.conv2d(standardised(x), filters))


@contextlib.contextmanager
def listening(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Heard]]:
    """Note what `layers` (names of modules) are given and answer while this is open.

    The hooks go when it closes, also when the forward raises: none stays in a network that is
    copied, saved or exported.
    """
    heard: dict[str, Heard] = {}
    modules = dict(model.named_modules())

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        heard[name] = Heard(
            inputs[0], output, weight, _whole(layer.stride), _whole(layer.padding),
            distance=not isinstance(layer, nn.Conv2d),
        )  # fmt: skip

    handles = [
        modules[name].register_forward_hook(
            lambda layer, inputs, output, name=name: note(name, layer, inputs, output)
        )
        for name in layers
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _whole(value: Any) -> int:
    """Return the one number of a square stride or padding."""
    return int(value[0] if isinstance(value, tuple) else value)


@dataclass
class Said:
    """What a teacher said of one batch: logits (N, classes) and its layers' answers, detached."""

    batch: Batch
    logits: Tensor
    layers: dict[str, Heard]


@dataclass
class Teaching:
    """Losses and parameters of the steps of one training; `layers` are matched by name.

    The teacher is companion or asset "teacher"; companions "student_maps" and "teacher_maps" hold
    the transforms, in the order of `layers`.
    """

    lesson: Lesson
    layers: tuple[str, ...] = ()
    _said: Said | None = field(default=None, repr=False)  # from the teacher's step to the student's

    def maps(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the companions that carry the transforms of `model`'s layers, if any."""
        if not (self.layers and self.lesson.transform):
            return {}
        modules = dict(model.named_modules())
        widths = [len(modules[name].get_parameter("weight")) for name in self.layers]
        return {
            side: nn.ModuleList(Transform(width) for width in widths)
            for side in ("student_maps", "teacher_maps")
        }

    def teach(self, state: State) -> Tensor:
        """Return the teacher's own loss on the labels; keep what it said for the student.

        The student hears the teacher as it was before this step moves it.
        """
        logits, self._said = self._ask(state)
        return state.task.loss(logits, state.batch)

    def taught(self, state: State) -> list[nn.Parameter]:
        """Return the teacher's parameters."""
        return list(state.companions["teacher"].parameters())

    def learn(self, state: State) -> Tensor:
        """Return the student's loss: labels, the teacher's logits, and the layers if matched."""
        said, self._said = self._said, None
        if said is None or said.batch is not state.batch:
            with torch.no_grad():
                said = self._ask(state)[1]
        with listening(state.model, self.layers) as heard:
            logits: Tensor = answer(state.model, state.batch, state.task.shape)
        lesson, labels = self.lesson, state.task.loss(logits, state.batch)
        told = imitation(logits, said.logits, lesson.temperature)
        state.notes["imitation"] = told.item()
        loss = lesson.alpha * labels + told
        if lesson.blend == "share":
            loss = (1 - lesson.alpha) * labels + lesson.alpha * told
        if not self.layers:
            return loss
        apart = self._distance(state, heard, said.layers)
        state.notes["layers"] = apart.item()
        return loss + lesson.beta * apart

    def learning(self, state: State) -> list[nn.Parameter]:
        """Return the student's parameters and those of the transforms."""
        maps = [state.companions[s] for s in ("student_maps", "teacher_maps") if self._has_maps]
        return [*model_parameters(state), *(p for side in maps for p in side.parameters())]

    @property
    def _has_maps(self) -> bool:
        return bool(self.layers) and self.lesson.transform

    def _ask(self, state: State) -> tuple[Tensor, Said]:
        """Return the teacher's logits for its own loss, and what the student may hear of it."""
        teacher = state.companions.get("teacher") or state.assets["teacher"]
        with listening(teacher, self.layers) as heard:
            logits: Tensor = answer(teacher, state.batch, state.task.shape)
        layers = {name: said.detached() for name, said in heard.items()}
        return logits, Said(state.batch, logits.detach(), layers)

    def _distance(
        self, state: State, student: dict[str, Heard], teacher: dict[str, Heard]
    ) -> Tensor:
        """Return the mean over layers of the mean squared distance of standardised answers."""
        rule = self.lesson
        total = state.batch.inputs.new_zeros(())
        for i, name in enumerate(self.layers):
            ours, theirs = (
                similarity(heard[name], rule.kernel, rule.sigma, rule.sign)
                for heard in (student, teacher)
            )
            if self._has_maps:
                ours = state.companions["student_maps"][i](ours)  # type: ignore[index]
                theirs = state.companions["teacher_maps"][i](theirs)  # type: ignore[index]
            else:
                ours, theirs = standardised(ours), standardised(theirs)
            total = total + functional.mse_loss(ours, theirs)
        return total / len(self.layers)
