"""Ghost maps by a learned shift: a convolution makes some maps, the others are moved copies.

    layer = Ghosts(64, 64, 3, ratio=0.5, mode="learned")     # 32 maps, 32 ghosts
    set_noise(model, scale, generator)                       # before every step
    layer.deployed()                                         # the same as one operator

Source: GhostSR (arXiv:2101.08525). Every orientation is one of (2 m + 1)^2 shifts by at most m
pixels, chosen by logits with straight-through Gumbel noise. The official code ranks them by
magnitude, so that a very unwelcome shift may win; `rank="signed"` ranks them as they are.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from nasx.relax import Rank, decide, weights
from search_spaces._layers.ghost_conv import GhostConv2d, shifted

Mode = Literal["learned", "fixed", "random", "copy", "depthwise"]
SHIFTS: tuple[Mode, ...] = ("learned", "fixed", "random", "copy")
Run = tuple[int, int, int, int, int]


def intrinsic(c_out: int, ratio: float) -> int:
    """Return how many of `c_out` maps are computed at a ratio: rounded up, as published."""
    return math.ceil(c_out * ratio)


def offsets(reach: int) -> list[tuple[int, int]]:
    """Return every shift (dy, dx) of at most `reach`, row by row."""
    steps = range(-reach, reach + 1)
    return [(dy, dx) for dy in steps for dx in steps]


class _Chosen(torch.autograd.Function):
    """Sum over shifts of weight times shifted map, where each channel's weights are one-hot.

    maps (N, C, H, W), p (C, K) -> (N, C, H, W); only the shifts that were chosen are computed.
    The gradient of p is that of the sum: the product of the incoming gradient with every shift.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, p: Tensor, reach: int) -> Tensor:
        chosen = p.argmax(-1).tolist()
        ctx.save_for_backward(maps)
        ctx.chosen, ctx.reach = chosen, reach
        return _moved(maps, [offsets(reach)[k] for k in chosen])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (maps,), (gradient,) = ctx.saved_tensors, gradients
        moves = offsets(ctx.reach)
        back = _moved(gradient, [(-moves[k][0], -moves[k][1]) for k in ctx.chosen])
        of_p = [(_seen(maps, *move) * _seen(gradient, -move[0], -move[1])) for move in moves]
        return back, torch.stack([product.sum((0, 2, 3)) for product in of_p], -1), None


def _seen(x: Tensor, dy: int, dx: int) -> Tensor:
    """Return the part of x that is seen from (dy, dx), without zeros beyond it."""
    height, width = x.shape[-2:]
    rows = slice(max(0, dy), max(0, height + min(0, dy)))
    return x[:, :, rows, max(0, dx) : max(0, width + min(0, dx))]


def _moved(maps: Tensor, moves: list[tuple[int, int]]) -> Tensor:
    """Return each map seen from its own (dy, dx); neighbours that move alike go together."""
    parts, start = [], 0
    for i in range(1, len(moves) + 1):
        if i == len(moves) or moves[i] != moves[start]:
            parts.append(shifted(maps[:, start:i], *moves[start]))
            start = i
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class Ghosts(nn.Module):
    """A convolution of stride 1 that computes ceil(ratio c_out) maps; ghosts are the rest.

    Ghost g copies map g modulo their number. With `each` "layer" all ghosts move alike (where
    there are more ghosts than maps, those of each round alike), with "channel" every one by
    itself, by at most `reach` pixels. `mode`: "learned"; "random" keeps the start of "learned";
    "fixed" looks `reach` pixels to the right (later rounds left, down, up); "copy" does not move;
    "depthwise" has a 3x3 filter of its own for every ghost.
    `frozen` and the noise are set from outside (`set_noise`); frozen logits take no gradient.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        ratio: float,
        mode: Mode = "learned",
        each: Literal["layer", "channel"] = "layer",
        reach: int = 1,
        rank: Rank = "signed",
        bias: bool = True,
    ) -> None:
        super().__init__()
        maps = intrinsic(c_out, ratio)
        if not 1 <= maps < c_out:
            raise NasxError(f"Ghosts: ratio = {ratio} of {c_out} maps leaves {maps} and no ghost")
        self.conv = nn.Conv2d(c_in, maps, kernel, 1, kernel // 2, bias=bias)
        self.ghosts, self.mode, self.each, self.reach, self.rank = (
            c_out - maps, mode, each, reach, rank
        )  # fmt: skip
        self.scale, self.frozen = 0.0, False
        self.generator: torch.Generator | None = None
        self.logits: nn.Parameter | None = None
        self.cheap: nn.Conv2d | None = None
        if mode == "depthwise":
            self.cheap = nn.Conv2d(
                self.ghosts, self.ghosts, 3, padding=1, groups=self.ghosts, bias=False
            )
            return
        units = self.ghosts if each == "channel" else -(-self.ghosts // maps)
        start = torch.empty(units, (2 * reach + 1) ** 2).uniform_(-1 / 3, 1 / 3)
        if mode == "learned":
            self.logits = nn.Parameter(start)
        self.register_buffer("start", self._start(start))

    def _start(self, logits: Tensor) -> Tensor:
        """Return the shift that every unit begins with, as an index into `offsets`."""
        moves, far = offsets(self.reach), self.reach
        if self.mode == "copy":
            return torch.full((len(logits),), moves.index((0, 0)))
        if self.mode == "fixed":
            rounds = [(0, far), (0, -far), (far, 0), (-far, 0)]
            alike = [self._round(unit) for unit in range(len(logits))]
            return torch.tensor([moves.index(rounds[i % 4]) for i in alike])
        return decide(logits, self.rank)

    def _round(self, unit: int) -> int:
        return unit // self.conv.out_channels if self.each == "channel" else unit

    def _unit(self, ghost: int) -> int:
        return ghost if self.each == "channel" else ghost // self.conv.out_channels

    @torch.no_grad()
    def chosen(self) -> list[int]:
        """Return the shift of every unit as it would be deployed, an index into `offsets`."""
        start: Tensor = self.start  # type: ignore[assignment]
        found = start if self.logits is None else decide(self.logits, self.rank)
        return [int(i) for i in found.tolist()]

    def moved(self) -> list[bool]:
        """Return of every learned unit whether it left the shift that it began with."""
        if self.logits is None:
            return []
        start: Tensor = self.start  # type: ignore[assignment]
        return [a != b for a, b in zip(self.chosen(), start.tolist(), strict=True)]

    def runs(self) -> list[Run]:
        """Return which ghost copies which map, and from where (see `GhostConv2d`)."""
        maps, moves, chosen = self.conv.out_channels, offsets(self.reach), self.chosen()
        found: list[Run] = []
        for ghost in range(self.ghosts):
            move, source = moves[chosen[self._unit(ghost)]], ghost % maps
            if found and source and found[-1][3:] == move:
                first, many, at = found[-1][:3]
                found[-1] = (first, many + 1, at, *move)
            else:
                found.append((ghost, 1, source, *move))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W): maps first, then ghosts."""
        maps = self.conv(x)
        rounds = -(-self.ghosts // self.conv.out_channels)
        sources = torch.cat([maps] * rounds, 1) if rounds > 1 else maps
        sources = sources[:, : self.ghosts]
        if self.cheap is not None:
            return torch.cat([maps, self.cheap(sources)], 1)
        if self.logits is not None and self.training and not self.frozen:
            p = weights(
                self.logits, "direct", noise=self.scale, rank=self.rank, generator=self.generator
            )
            of_ghost = [self._unit(ghost) for ghost in range(self.ghosts)]
            ghosts = _Chosen.apply(sources, p[of_ghost], self.reach)  # type: ignore[no-untyped-call]
        else:
            moves, chosen = offsets(self.reach), self.chosen()
            ghosts = _moved(sources, [moves[chosen[self._unit(g)]] for g in range(self.ghosts)])
        return torch.cat([maps, ghosts], 1)

    def deployed(self) -> nn.Module:
        """Return the layer that is deployed: one operator, or the two convolutions."""
        if self.cheap is not None:
            return self
        return GhostConv2d(self.conv, self.runs(), self.moved())


def set_noise(
    model: nn.Module, scale: float, generator: torch.Generator | None, *, frozen: bool
) -> None:
    """Tell every ghost layer how large its noise is, whence it comes, and whether it is frozen."""
    for layer in model.modules():
        if isinstance(layer, Ghosts):
            layer.scale, layer.generator, layer.frozen = scale, generator, frozen


def deploy(model: nn.Module) -> nn.Module:
    """Return `model` with every ghost layer frozen to the operator that runs it."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, Ghosts):
            model.set_submodule(name, layer.deployed())
    return model
