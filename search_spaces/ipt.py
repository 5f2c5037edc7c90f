"""One transformer for many degradations of photographs (IPT, arXiv:2012.00364).

A convolutional head and tail for each degradation, and between them one encoder and decoder over
patches of features; the decoder is asked for a degradation by a query of its own. Pre-trained on
all degradations together, then fine-tuned on the task's. Our reading: docs/ipt.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, Self

from torch import nn

from nasx.assets import Asset
from nasx.errors import SpaceError
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from nasx.tasks.degrade import scale_of
from search_spaces._ipt_ends import deployed
from search_spaces._ipt_nets import Ipt as Network
from search_spaces._ipt_nets import IptPlan, Position
from search_spaces._ipt_points import POINTS, SEEN
from search_spaces._ipt_queries import swapped
from search_spaces._ipt_training import IptTraining, Pretrain, restorer
from search_spaces._layers.contrast import Form
from search_spaces._layers.upscale import Skip

HEADS = (1, 2, 4, 8, 12)
TRAINED: tuple[Pretrain, ...] = ("phase", "asset", "only")
CONTRASTS = (0.05, 0.1, 0.2, 0.5)


class Ipt(Space):
    """Size and form of the network, and what it learns before its own task.

    Defaults are a small network that starts as the enlarged input; the published ones, which add
    to nothing and enlarge features, are points. `heads` are those of attention: as many as asked,
    or the next number below that divides the tokens' width. `skip`, `up`, `shared`, `tied`: see
    `IptPlan`. `layers` says whether layers start from numbers of their own, or all alike.

    `pretrain` "phase" spends `share` of the budget on other degradations, drawn by `weights` (of
    x2, x3, x4, denoise30, denoise50, derain); "asset" starts from a network so trained on
    `body_samples` before; "only" ends there. `contrast` weighs the contrastive loss of
    pre-training. Fine-tuning sees `crops` fixed patches, or with 0 any that can be cut.
    """

    name: ClassVar[str] = "ipt"
    paper: ClassVar[str] = "arXiv:2012.00364"
    tasks: ClassVar[tuple[str, ...]] = ("restore",)
    training: ClassVar[tuple[str, ...]] = (
        "layers", "pretrain", "weights", "share", "body_samples", "body_rate", "contrast", "form",
        "temperature", "crops", "rate",
    )  # fmt: skip
    cautions: ClassVar[tuple[str, ...]] = (
        "Costs are those of one input of the task's patch. Larger images are restored in tiles "
        "that overlap by half, about four for every patch of pixels: costs of an image do not "
        "compare with those of networks that take any size.",
    )

    features: int = choice(8, 16, 24, 32, 64, default=16)
    patch: int = choice(2, 3, 4, default=3)  # pixels of a token's side
    encoder: int = integer(1, 12, default=2)  # layers
    decoder: int = integer(1, 12, default=2)
    heads: int = choice(*HEADS, default=4)
    mlp: int = choice(2, 4, default=2)  # hidden units by width
    position: Position = choice("once", "every", "none", default="once")
    blocks: int = choice(1, 2, default=1)  # of each head, two convolutions each
    kernel: int = choice(3, 5, default=3)  # of the blocks
    shared: bool = choice(True, False, default=False)
    tied: bool = choice(True, False, default=False)
    up: Literal["shuffle", "direct"] = choice("shuffle", "direct", default="direct")
    skip: Skip = choice("none", "nearest", "bicubic", default="nearest")
    layers: str = choice("apart", "alike", default="apart")

    pretrain: Pretrain = choice("none", *TRAINED, default="none")
    weights: tuple[float, ...] = when(
        "pretrain", TRAINED, each(len(SEEN), choice(0.0, 0.5, 1.0, 2.0, default=1.0))
    )
    share: float = when("pretrain", ("phase",), real(0.1, 0.9, default=0.5))
    body_samples: int = when("pretrain", ("asset",), integer(80, 409_600, step=80, default=8000))
    body_rate: float = when("pretrain", TRAINED, real(1e-4, 1e-2, log=True, default=1e-3))
    contrast: float = when("pretrain", TRAINED, choice(0.0, *CONTRASTS, default=0.1))
    form: Form = when("contrast", CONTRASTS, choice("paper", "released", default="released"))
    temperature: float = when("contrast", CONTRASTS, choice(0.07, 0.2, 1.0, default=0.07))
    crops: int = choice(0, 32, 64, 128, 512, default=0)
    rate: float = real(1e-4, 1e-2, log=True, default=1e-3)

    # -- which fields count -----------------------------------------------------------------

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything."""
        values, idle = super().in_effect(), set[str]()
        dim = self.features * self.patch**2
        values["heads"] = max(h for h in HEADS if h <= self.heads and dim % h == 0)
        if self.pretrain == "none":
            idle |= {"form", "temperature"}
        if self.pretrain == "only":
            idle |= {"crops", "rate"}
        if self.encoder == self.decoder == 1:
            idle |= {"tied", "layers"}
        return {name: value for name, value in values.items() if name not in idle}

    def counted(self) -> Self:
        """Return this candidate with every field that changes nothing at its default."""
        return type(self).from_json(self.active())

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network, heads and tails of pre-training included."""
        plan = asdict(self.plan(shape))
        del plan["alike"], plan["asked"]
        names = [*plan["names"], *(self._seen() if self.pretrain != "none" else ())]
        plan["shared"] = self.shared and len(set(names)) > 1
        if all(scale_of(name) == 1 for name in names):
            plan |= {"up": "direct", "skip": "none" if self.skip == "none" else "input"}
        return plan

    def _seen(self) -> dict[str, float]:
        """Return the weights of what is seen in pre-training."""
        return {n: w for n, w in zip(SEEN, self.weights, strict=True) if w}

    def refusal(self, shape: TaskShape) -> str | None:
        """Say that patches do not fit, that nothing is trained on, or a head is never trained."""
        fault = self.plan(shape).fault()
        now, names = self.counted(), names_of(shape)
        if fault or now.pretrain == "none":
            return fault
        seen = now._seen()
        if not seen:
            return "pre-training on nothing: give one of the weights a number above 0"
        missing = [name for name in names if name not in seen]
        if now.pretrain == "only" and missing:
            return (
                f"head '{missing[0]}' would not be trained: give it a weight in pre-training "
                f"(it has {', '.join(seen)}), or fine-tune on it (pretrain: phase or asset)"
            )
        return None

    # -- networks ---------------------------------------------------------------------------

    def plan(self, shape: TaskShape) -> IptPlan:
        """Return what the network of the task's own degradations is made of."""
        now, names = self.counted(), names_of(shape)
        height, width = shape.input[-2:]
        if height != width:
            raise SpaceError(f"patches must be squares, the task's are {height} x {width} pixels")
        return IptPlan(
            names, shape.side, now.features, now.patch, now.encoder, now.decoder, now.heads,
            now.mlp, now.position, now.blocks, now.kernel, now.shared, now.tied, now.up, now.skip,
            now.layers == "alike", names,
        )  # fmt: skip

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network: (N, 3, S, S) and a head's name to (N, 3, s S, s S)."""
        return Network(self.plan(shape))

    def rebuild(self, shape: TaskShape, decisions: Mapping[str, Any]) -> nn.Module:
        """Return the network with the heads that it has in this phase of its training."""
        plan = self.plan(shape)
        return Network(replace(plan, names=tuple(decisions.get("heads", plan.names))))

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network with the task's heads alone."""
        return deployed(restorer(model))

    def control(self, shape: TaskShape) -> Self | None:
        """Return the same network trained on its own task alone."""
        return None if self.pretrain == "none" else replace(self, pretrain="none").counted()

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return by how many dB the wrong query spoils what a head restores, with several heads."""
        return swapped(restorer(model), task)

    # -- training ---------------------------------------------------------------------------

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the pre-trained network that this one starts from, one for each seed."""
        now = self.counted()
        if now.pretrain != "asset":
            return {}
        body = replace(now, pretrain="only").counted()
        return {"body": Asset(body, now.body_samples, seed=None)}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return pre-training and fine-tuning, each with a warm-up and a cosine of its own."""
        now = self.counted()
        return IptTraining(
            now.pretrain, now._seen(), now.share, now.contrast, now.form, now.temperature,
            now.body_rate, now.rate, names_of(shape), now.crops,
        ).recipe()  # fmt: skip


def names_of(shape: TaskShape) -> tuple[str, ...]:
    """Return the degradations that a task names; SpaceError for another kind of task."""
    if shape.kind != "restore" or not isinstance(shape.outputs, tuple):
        raise SpaceError(f"a {shape.kind} task names no degradations: take a restore task")
    return shape.outputs


Ipt.published = POINTS
