"""The contract finds what it is there to find: one planted fault after another."""

import dataclasses
import random
from typing import ClassVar

import pytest
import torch
from torch import nn

from nasx.contract import candidates, check
from nasx.errors import SpaceError
from nasx.recipe import Phase, Recipe, Step, task_loss
from nasx.registry import space as find
from nasx.shape import TaskShape
from nasx.space import Part, Published, Space, choice, integer, when

SHAPE = TaskShape("classify", (1, 8, 8), 4)


class Sound(Space):
    """A linear layer behind a hidden one; every fault below is one change to it."""

    name: ClassVar[str] = "sound"
    width: int = integer(4, 12, step=4, default=8)
    kind: str = choice("relu", "tanh", default="relu")
    slope: int = when("kind", ("tanh",), integer(1, 3, default=1))

    def build(self, shape):
        act = {"relu": nn.ReLU(), "tanh": nn.Tanh()}[self.kind]
        size = shape.input[0] * shape.input[1] * shape.input[2]
        return nn.Sequential(
            nn.Flatten(), nn.Linear(size, self.width), act, nn.Linear(self.width, shape.classes)
        )


def said(space):
    return [str(fault) for fault in check(space, SHAPE)]


def test_a_sound_space_has_no_fault():
    assert said(Sound) == []


def test_a_sound_space_with_parts_has_no_fault():
    assert said(Resizes) == []


def test_candidates_are_the_baseline_the_ends_and_five_drawn():
    found = list(candidates(Sound))
    assert found[0] == Sound()
    assert {c.width for c in found} >= {4, 8, 12}
    assert {c.kind for c in found} == {"relu", "tanh"}
    assert len(found) == len({repr(c) for c in found}) >= 8


class BadShape(Sound):
    def build(self, shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))


class Large(Sound):
    """With tanh 13 M parameters, which nobody wants to see moved."""

    built: ClassVar[list[str]] = []
    classes: ClassVar[int] = 4

    def build(self, shape):
        if self.kind == "relu":
            return super().build(shape)
        made = nn.Linear(64, 200_000)
        self.built.append(made.weight.device.type)
        return nn.Sequential(nn.Flatten(), made, nn.Linear(200_000, self.classes))


class LargeAndWrong(Large):
    classes: ClassVar[int] = 7


def test_large_networks_are_looked_at_by_shapes_alone():
    assert said(Large) == []
    assert set(Large.built) == {"meta"}
    (fault, *_) = said(LargeAndWrong)
    assert "the output is (4, 7), wanted (4, 4)" in fault
    assert set(Large.built) == {"meta"}


class Dead(Sound):
    def build(self, shape):
        model = super().build(shape)
        model.spare = nn.Parameter(torch.zeros(3))
        return _Through(model)


class _Through(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.spare = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return self.inner[:4](x)


class Restless(Sound):
    def build(self, shape):
        return nn.Sequential(super().build(shape), _Noise())


class _Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Forgetful(Sound):
    def canonical(self, shape):
        return {"kind": self.kind}


class Leaky(Sound):
    def canonical(self, shape):
        return dict(self.values())


class Raises(Sound):
    def build(self, shape):
        raise ValueError("no such layer")


class NotFinite(Sound):
    def build(self, shape):
        model = super().build(shape)
        nn.init.constant_(model[1].weight, float("nan"))
        return model


class Overrated(Sound):
    published = (Published("p", {"width": 8}, SHAPE, params=10, macs=544),)


class Climbs(Sound):
    def recipe(self, shape):
        step = Step(loss=lambda state: -task_loss(state))
        return Recipe((Phase("train", 1.0, (step,)),))


class Stubborn(Sound):
    def repair(self, shape, limits):
        return self


class Unlike(Sound):
    def control(self, shape):
        return dataclasses.replace(self, width=4)


class Resizes(Sound):
    """A sound one with parts."""

    def parts(self, shape):
        return {"hidden": Part(self.width, (4, 8, 12))}

    def resized(self, widths, shape):
        return dataclasses.replace(self, width=widths["hidden"])

    def whole(self, shape):
        return dataclasses.replace(self, width=12)


class Unresized(Sound):
    def parts(self, shape):
        return {"hidden": Part(self.width, (4, 8, 12))}


class Unordered(Resizes):
    def parts(self, shape):
        return {"hidden": Part(self.width, (12, 8, 4))}


class Stuck(Resizes):
    def resized(self, widths, shape):
        return self


class Inverse(Resizes):
    def resized(self, widths, shape):
        return dataclasses.replace(self, width=16 - widths["hidden"])

    def parts(self, shape):
        return {"hidden": Part(16 - self.width, (4, 8, 12))}


class Retrained(Resizes):
    def resized(self, widths, shape):
        return dataclasses.replace(self, kind="tanh", width=widths["hidden"])


class Halved(Resizes):
    def whole(self, shape):
        return dataclasses.replace(self, width=4)


class Infinite(Sound):
    def diagnose(self, model, task):
        return {"spread": float("inf")}


class Alien(Sound):
    tasks = ("translate",)


class Unnamed(Sound):
    name = "Bad Name"


class Axes(Sound):
    axes = ("depth",)


class Rule(Sound):
    axes = ("width",)

    @classmethod
    def from_axes(cls, values, macs, shape):
        return cls(width=4)

    @classmethod
    def null_from_macs(cls, macs, shape):
        return cls()


class Narrow(Sound):
    def build(self, shape):
        return nn.Sequential(nn.Flatten(), nn.Linear(9, shape.classes))


class Fickle(Sound):
    def canonical(self, shape):
        return {"drawn": random.random()}


class Strange(Sound):
    def build(self, shape):
        return nn.Sequential(super().build(shape), _Fourier())


class _Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x).real


class Mumbling(Sound):
    cautions = ("not a sentence",)


@pytest.mark.parametrize(
    ("space", "part", "message"),
    [
        (Mumbling, "cautions", "'not a sentence': write each as a sentence"),
        (BadShape, "output", "the output is (4, 7), wanted (4, 4)"),
        (Dead, "gradients", "no gradient reaches spare"),
        (Restless, "eval", "two passes in eval mode differ"),
        (Forgetful, "canonical", "canonical(shape) leaves out a field"),
        (Leaky, "when", "'slope' is not active and changes the key"),
        (Raises, "build", "ValueError: no such layer ("),
        (Narrow, "a batch of (4, 1, 8, 8)", "(4x64 and 9x4)"),
        (Fickle, "key", "canonical(shape) must follow from the fields alone"),
        (NotFinite, "output", "is not finite"),
        (Overrated, "published", "point 'p': params is 556, published 10"),
        (Climbs, "training", "20 steps took the loss from"),
        (Stubborn, "repair", "left the MACs above"),
        (Unlike, "control", "more than 2% off"),
        (Unresized, "parts", "Unresized names parts: write resized(widths, shape) too"),
        (Unordered, "parts", "the widths of 'hidden' must rise and hold its own, 8"),
        (Stuck, "parts", "'hidden' resized to 4 says it is 8"),
        (Inverse, "parts", "MACs do not rise with the width of 'hidden': [816, 544, 272]"),
        (Retrained, "parts", "resized to its own width, 8, of 'hidden' it is another network"),
        (Halved, "whole", "has fewer MACs than what was cut from it"),
        (Infinite, "diagnose", "'spread' is inf"),
        (Alien, "tasks", "'translate' is no kind of task"),
        (Unnamed, "name", "use lower-case letters"),
        (Axes, "axes", "axes names depth"),
        (Rule, "axes", "from_axes(values, macs, shape) has 272 MACs for 544"),
        (Strange, "cost", "has no price"),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(space, part, message):
    found = check(space, SHAPE)
    assert message in str(found)
    assert {fault.part for fault in found} == {part}


def test_a_line_of_a_library_is_not_named():
    (fault,) = check(Narrow, SHAPE)
    assert ".py" not in fault.message


def test_a_line_of_the_users_file_is_named():
    (fault,) = check(Raises, SHAPE)
    assert "test_contract.py:" in fault.message


def test_a_field_without_a_type_is_told_with_its_file(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "from nasx.space import Space, integer\n"
        "class Odd(Space):\n    name = 'odd'\n    width = integer(1, 3, default=1)\n"
    )
    with pytest.raises(SpaceError, match=r"odd\.py:2: TypeError: 'width' is a field but has no"):
        find(f"{file}:Odd")


class Choosy(Sound):
    def build(self, shape):
        if self != type(self)():
            raise SpaceError("only the baseline")
        return super().build(shape)


def test_a_space_that_refuses_most_of_itself_is_told():
    assert "candidates refuse (1, 8, 8): narrow a domain" in said(Choosy)[0]
