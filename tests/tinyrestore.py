"""A small space that restores images: two convolutions beside the enlarged input."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.errors import SpaceError
from nasx.recipe import Phase, Recipe, Step, adamw, standard
from nasx.shape import TaskShape
from nasx.space import Space, integer
from nasx.tasks.mixture import mixture


class Shared(nn.Module):
    """One body and a last layer for each head; without a head's name the first answers."""

    def __init__(self, width: int, heads: tuple[str, ...]) -> None:
        super().__init__()
        self.scales = {head: int(head[1]) if head[0] == "x" else 1 for head in heads}
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.lasts = nn.ModuleDict(
            {h: nn.Conv2d(width, 3 * s * s, 3, padding=1) for h, s in self.scales.items()}
        )
        for last in self.lasts.values():
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, inputs: Tensor, head: str = "") -> Tensor:
        name = head or next(iter(self.scales))
        scale = self.scales[name]
        answer: Tensor = F.pixel_shuffle(self.lasts[name](self.body(inputs)), scale)
        return answer + F.interpolate(inputs, scale_factor=float(scale), mode="nearest")


class TinyRestore(Space):
    """Restores whatever the task names."""

    name = "tiny-restore"
    tasks: ClassVar[tuple[str, ...]] = ("restore",)
    width: int = integer(4, 16, step=4, default=8)

    def build(self, shape: TaskShape) -> nn.Module:
        return Shared(self.width, tuple(shape.outputs))

    def recipe(self, shape: TaskShape) -> Recipe:
        return standard(5e-3, 0.0, batch=16)


class OnlyTwice(TinyRestore):
    """Enlarges by 2 and by nothing else."""

    name = "only-twice"

    def build(self, shape: TaskShape) -> nn.Module:
        if shape.outputs != ("x2",):
            raise SpaceError(f"only-twice enlarges by 2; the task asks for {shape.outputs}")
        return super().build(shape)


class Careless(TinyRestore):
    """Answers x2 whatever the task names, and does not say so."""

    name = "careless"

    def build(self, shape: TaskShape) -> nn.Module:
        torch.manual_seed(0)
        return Shared(self.width, ("x2",))


class Named(Shared):
    """Says which heads it has; in a network of fixed input side, it takes no other."""

    def __init__(self, width: int, heads: tuple[str, ...], own: tuple[str, ...]) -> None:
        super().__init__(width, heads)
        self.heads, self.own = heads, own


class Mixed(TinyRestore):
    """Is pre-trained on six degradations, then trained on those of its task alone."""

    name = "mixed"
    weights: ClassVar[dict[str, float]] = {
        "x2": 1.0, "x3": 1.0, "x4": 1.0, "denoise30": 2.0, "denoise50": 1.0, "derain": 1.0
    }  # fmt: skip

    def build(self, shape: TaskShape) -> nn.Module:
        own = tuple(shape.outputs)
        return Named(self.width, (*own, *(h for h in self.weights if h not in own)), own)

    def decide(self, model: nn.Module) -> nn.Module:
        assert isinstance(model, Named)
        for head in set(model.heads) - set(model.own):
            del model.lasts[head], model.scales[head]
        model.heads = model.own
        return model

    def recipe(self, shape: TaskShape) -> Recipe:
        step = Step(optimizer=adamw(5e-3, 0.0))
        view = mixture(self.weights)
        return Recipe((Phase("mix", 0.5, (step,), view), Phase("train", 0.5, (step,))), 16)


class Unseen(Mixed):
    """Asks to be trained on noise that nobody makes."""

    name = "unseen"
    weights: ClassVar[dict[str, float]] = {"denoise80": 1.0}


class Kept(Mixed):
    """Forgets to drop the heads of its pre-training."""

    name = "kept"

    def decide(self, model: nn.Module) -> nn.Module:
        return model


class Placed(Named):
    """Knows where in its input it is, so it takes one side only, and errs near the borders."""

    def __init__(self, width: int, heads: tuple[str, ...], side: int) -> None:
        super().__init__(width, heads, heads)
        self.fixed_side = side
        generator = torch.Generator().manual_seed(0)
        self.place = nn.Parameter(0.1 * torch.randn(3, side, side, generator=generator))
        self.asked = nn.ParameterDict({h: nn.Parameter(torch.zeros(3, 1, 1)) for h in heads})

    def forward(self, inputs: torch.Tensor, head: str = "") -> torch.Tensor:
        assert inputs.shape[-1] == inputs.shape[-2] == self.fixed_side
        name = head or self.heads[0]
        return super().forward(inputs + self.place * (1 + self.asked[name]), name)


class Side(TinyRestore):
    """Is for images of the task's patch alone."""

    name = "side"

    def build(self, shape: TaskShape) -> nn.Module:
        return Placed(self.width, tuple(shape.outputs), shape.side)
