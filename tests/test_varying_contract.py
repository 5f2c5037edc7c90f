"""Spaces of networks whose work depends on the input: what they say of it is held true."""

from __future__ import annotations

import re
from typing import ClassVar

import pytest
import torch
from torch import nn

from gatednets import Bright
from nasx.contract import check
from nasx.shape import TaskShape
from nasx.space import Space, choice

SHAPE = TaskShape("classify", (3, 8, 8), 10)


class Gates(Space):
    """Networks that open blocks on bright images; what is wrong with them is `broken`."""

    name: ClassVar[str] = "gates"
    broken: ClassVar[type[nn.Module]] = Bright
    width: int = choice(4, 8, default=4)

    def build(self, shape: TaskShape) -> nn.Module:
        return self.broken(self.width, 4, (-0.1, 0.1))


class Half(Bright):
    widest = property()  # hasattr is False


class Floats(Bright):
    def paths(self, inputs):
        return self.gates(inputs)


class Wavering(Bright):
    def paths(self, inputs):
        return torch.randint(0, 2, (len(inputs), 2))


class Together(Bright):
    """The gate of a sample is that of its batch."""

    def gates(self, x):
        return super().gates(x.mean(0, keepdim=True)).expand(len(x), -1)


class Hurried(Bright):
    """Paths are told sample by sample, and the branch runs for all or none."""

    def forward(self, x):
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            if self.open or bool(self.gates(x)[0, i] > 0):
                x = x + block(x)
        return self.head(x.mean((2, 3)))


class Miscounted(Bright):
    ways = (2, 1)


class Narrow(Bright):
    """Its widest form is the network with its gates as they are."""

    def widest(self):
        made = super().widest()
        made.open = False
        return made


class Opened(Bright):
    def widest(self):
        self.at = (-9.0, -9.0)
        return super().widest()


FAULTS = {
    Half: "it has paths and no widest",
    Floats: r"must answer \(12, k\) int64 from 0 on, not \(12, 2\) float32",
    Wavering: "differs from call to call",
    Together: r"paths\(inputs\) of a sample depends on its batch",
    Hurried: "depends on its batch",
    Miscounted: r"does not fit ways = \(2, 1\)",
    Narrow: r"widest\(\) looks at values",
    Opened: r"widest\(\) changes the network",
}


@pytest.mark.parametrize("broken", FAULTS, ids=lambda c: c.__name__)
def test_what_a_network_says_of_its_paths_is_held_true(broken, monkeypatch):
    monkeypatch.setattr(Gates, "broken", broken)
    said = "\n".join(str(fault) for fault in check(Gates, SHAPE))
    assert re.search(FAULTS[broken], said), said


def test_a_sound_space_with_gates_has_no_fault():
    assert [str(fault) for fault in check(Gates, SHAPE)] == []
