"""Networks whose work depends on the input: a branch for bright images, one of three by colour."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from search_spaces._layers.gated import gated, one_of


class Bright(nn.Module):
    """Class scores; from each threshold on, a mean brighter than it opens one more block."""

    gate_names = ("low", "high")

    def __init__(
        self,
        width: int = 8,
        middle: int = 8,
        at: tuple[float, ...] = (0.0, 1.0),
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, middle, 5, padding=2), nn.BatchNorm2d(middle), nn.ReLU(),
                nn.Conv2d(middle, width, 3, padding=1),
            )
            for _ in at
        )  # fmt: skip
        self.head = nn.Linear(width, 10)
        self.at = at
        self.open = False

    def gates(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([(mean > at).to(x.dtype) for at in self.at], 1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gates(x)
        x = self.stem(x)
        for i, block in enumerate(self.blocks):
            x = gated(x, None if self.open else gates[:, i], block, x)
        return self.head(x.mean((2, 3)))

    def paths(self, inputs: Tensor) -> Tensor:
        return self.gates(inputs).long()

    def widest(self) -> nn.Module:
        made = copy.deepcopy(self)
        made.open = True
        return made


class Coloured(nn.Module):
    """Images again: the brightest channel of three says which convolution runs."""

    ways = (3,)

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 6, k, padding=k // 2) for k in (1, 3, 5))
        self.way: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        gates = one_hot(self.paths(x)[:, 0], 3).to(x.dtype) * x.amax((1, 2, 3))[:, None].sigmoid()
        return one_of(x, gates if self.way is None else self.way, self.convs, 6)

    def paths(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3)).argmax(1, keepdim=True)

    def widest(self) -> nn.Module:
        made = copy.deepcopy(self)
        made.way = 2
        return made


def images(count: int, side: int = 16, seed: int = 0) -> Tensor:
    """Noise (N, 3, side, side) whose means run from -2 to 2, each with a channel that leads."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((count, 3, side, side), generator=generator)
    x += torch.linspace(-2, 2, count).reshape(-1, 1, 1, 1)
    for i in range(count):
        x[i, i % 3] += 1
    return x
