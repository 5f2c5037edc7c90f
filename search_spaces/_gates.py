"""Gates of a feature pyramid: for every image and level, which of several ways to go.

    gate = gate_of("cnn_a", channels=(256, 512), ways=(2, 2))
    logits = gate(features)         # one (N, ways) per level

A gate sees the maps of the levels that have a choice, fine to coarse, and answers with logits; what
is done with them (noise, the winner) is the neck's. Source: DyFPN (arXiv:2012.00779) and its
released code: CNN gates a and b, recurrent gates over the levels, and random ones for comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

GateKind = Literal["cnn_a", "cnn_b", "gru_up", "gru_down", "lstm_up", "lstm_down", "random"]
See = Literal["mean", "both"]
STATE = 16  # numbers that a recurrent gate carries from level to level
START = 0.1  # first bias of the way that computes nothing, as released
CYCLES = 64.0  # how often a random gate's choice goes round between opposite images


class Pool(nn.Module):
    """One vector of a map: its means over places, or (`see` "both") means and maxima added.

    A small object hardly moves a mean.
    """

    def __init__(self, see: See) -> None:
        super().__init__()
        self.see = see

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C)."""
        means = x.mean((2, 3))
        return means + x.amax((2, 3)) if self.see == "both" else means


class Gate(nn.Module):
    """Maps of the levels (N, C, H, W), fine to coarse, to logits (N, ways) of each."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one tensor of logits for every level."""
        raise NotImplementedError

    def lasts(self) -> list[nn.Linear]:
        """Return the layers whose bias decides where the gate starts."""
        return []


class CnnGate(Gate):
    """A small network of its own for each level; one vector of the map is all that it sees.

    Kind "a" is two layers, channels / `reduction` between them; "b" a 3 x 3 convolution of stride 2
    without padding, as wide as the map, before the mean.
    """

    def __init__(
        self, kind: str, channels: Sequence[int], ways: Sequence[int], reduction: int, see: See
    ) -> None:
        super().__init__()
        both = zip(channels, ways, strict=True)
        self.levels = nn.ModuleList(
            _narrow(c, k, reduction, see) if kind == "a" else _convolved(c, k, see) for c, k in both
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one tensor of logits for every level."""
        return [level(x) for level, x in zip(self.levels, features, strict=True)]

    def lasts(self) -> list[nn.Linear]:
        """Return the last layer of each level."""
        return [level[-1] for level in self.levels]  # type: ignore[index]


def _narrow(channels: int, ways: int, reduction: int, see: See) -> nn.Sequential:
    middle = max(1, channels // reduction)
    return nn.Sequential(
        Pool(see),
        nn.Linear(channels, middle),
        nn.ReLU(),
        nn.Linear(middle, ways),
    )


def _convolved(channels: int, ways: int, see: See) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, 2),
        Pool(see),
        nn.ReLU(),
        nn.Linear(channels, ways),
    )


class RecurrentGate(Gate):
    """One recurrent cell that goes from level to level, `down` from the coarsest or up to it.

    Each level's vector is brought to 16 numbers; logits of all levels come from one layer, of
    which a level with fewer ways takes the first.
    """

    def __init__(
        self, cell: str, *, down: bool, channels: Sequence[int], ways: Sequence[int], see: See
    ) -> None:
        super().__init__()
        self.pool = Pool(see)
        self.enter = nn.ModuleList(nn.Linear(c, STATE) for c in channels)
        self.cell = nn.GRUCell(STATE, STATE) if cell == "gru" else nn.LSTMCell(STATE, STATE)
        self.leave = nn.Linear(STATE, max(ways))
        self.down, self.ways = down, tuple(ways)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one tensor of logits for every level."""
        seen = [enter(self.pool(x)) for enter, x in zip(self.enter, features, strict=True)]
        hidden = torch.zeros_like(seen[0])
        memory = torch.zeros_like(seen[0])
        found: dict[int, Tensor] = {}
        order = range(len(seen))
        for level in reversed(order) if self.down else order:
            if isinstance(self.cell, nn.GRUCell):
                hidden = self.cell(seen[level], hidden)
            else:
                hidden, memory = self.cell(seen[level], (hidden, memory))
            found[level] = self.leave(hidden)[:, : self.ways[level]]
        return [found[level] for level in order]

    def lasts(self) -> list[nn.Linear]:
        """Return the layer that all levels share."""
        return [self.leave]


class RandomGate(Gate):
    """A gate that learns nothing: the comparison that shows whether a learnt one is informed.

    `odds` are the chances of the ways, level by level. In training their logarithms are the
    logits: with Gumbel noise the winner is drawn at these odds. In evaluation the choice is a
    fixed function of the image, as arbitrary as a hash and as even as the odds: the place of the
    map's means along a drawn direction, taken round many times. So one image always goes the same
    way, alone or in a batch, and an exported file goes it too.
    """

    def __init__(self, channels: Sequence[int], odds: Sequence[Sequence[float]]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for level, (c, chances) in enumerate(zip(channels, odds, strict=True)):
            way = torch.randn(c, generator=generator)
            self.register_buffer(f"direction{level}", way / way.norm())
            self.register_buffer(f"odds{level}", torch.tensor(chances))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return logarithms of the odds in training, 1 for the way taken in evaluation."""
        return [self._level(level, x) for level, x in enumerate(features)]

    def _level(self, level: int, x: Tensor) -> Tensor:
        odds: Tensor = getattr(self, f"odds{level}")
        if self.training:
            return odds.clamp_min(1e-6).log().expand(len(x), -1)
        means = x.mean((2, 3))
        means = means / means.norm(dim=1, keepdim=True).clamp_min(1e-6)
        turns = CYCLES * (means @ getattr(self, f"direction{level}"))
        place = (turns - turns.floor())[:, None]
        ends = odds.cumsum(0)
        taken: Tensor = ((place >= ends - odds) & (place < ends)).to(x.dtype)
        return taken


def even_odds(costs: Sequence[float], alpha: float) -> list[float]:
    """Return the most even odds over ways that spend a share `alpha` of the range of their costs.

    Those of the greatest entropy at that mean: they go by equal ratios with the cost.
    """
    least, most = min(costs), max(costs)
    if most == least:
        return [1 / len(costs)] * len(costs)
    scaled = [(cost - least) / (most - least) for cost in costs]
    low, high = -700.0, 700.0
    for _ in range(100):
        middle = (low + high) / 2
        weights = [math.exp(middle * (s - (middle > 0))) for s in scaled]
        share = sum(w * s for w, s in zip(weights, scaled, strict=True)) / sum(weights)
        low, high = (middle, high) if share < alpha else (low, middle)
    return [w / sum(weights) for w in weights]


def gate_of(
    kind: GateKind,
    channels: Sequence[int],
    ways: Sequence[int],
    *,
    reduction: int = 4,
    see: See = "mean",
    odds: Sequence[Sequence[float]] = (),
) -> Gate:
    """Return an untrained gate for levels of so many channels and ways; `odds` for a random one."""
    if kind == "random":
        return RandomGate(channels, odds)
    if kind in ("cnn_a", "cnn_b"):
        return CnnGate(kind[-1], channels, ways, reduction, see)
    cell, _, direction = kind.partition("_")
    down = direction == "down"
    return RecurrentGate(cell, down=down, channels=channels, ways=ways, see=see)


def start_open(gate: Gate, run: float) -> None:
    """Start a gate of two ways (skip, run) with these biases: run 2 is open at odds of .87."""
    for last in gate.lasts():
        with torch.no_grad():
            last.bias.copy_(torch.tensor([START, run]))
