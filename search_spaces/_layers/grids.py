"""Tokens that come from a grid: prefix tokens first, then the rows of an image, (N, P + H W, D)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Grid(NamedTuple):
    """Where tokens lie: `prefix` of them nowhere, then `height` x `width` by rows."""

    height: int
    width: int
    prefix: int = 0

    @property
    def cells(self) -> int:
        """Return the tokens that have a place."""
        return self.height * self.width

    @property
    def tokens(self) -> int:
        """Return all tokens."""
        return self.prefix + self.cells

    def reduced(self, by: int) -> Grid:
        """Return the grid after a stride, rounded up; the prefix stays."""
        return Grid(-(-self.height // by), -(-self.width // by), self.prefix)


def to_map(x: Tensor, grid: Grid) -> Tensor:
    """Return the placed tokens (N, T, D) as a map (N, D, H, W)."""
    placed = x[:, grid.prefix :] if grid.prefix else x
    return placed.transpose(1, 2).reshape(x.shape[0], -1, grid.height, grid.width)


def to_tokens(x: Tensor) -> Tensor:
    """Return a map (N, D, H, W) as tokens (N, H W, D)."""
    return x.flatten(2).transpose(1, 2)


def with_prefix(x: Tensor, placed: Tensor, grid: Grid) -> Tensor:
    """Return the prefix of `x` before the `placed` tokens."""
    return torch.cat([x[:, : grid.prefix], placed], 1) if grid.prefix else placed


class OnMap(nn.Module):
    """Apply a layer of maps to the placed tokens; the prefix passes by."""

    def __init__(self, layer: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.layer, self.grid = layer, grid

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, P + H W, D) to (N, P + H' W', D)."""
        return with_prefix(x, to_tokens(self.layer(to_map(x, self.grid))), self.grid)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Return a map with zeros below and at the right, its sides multiples of `multiple`."""
    height, width = x.shape[-2:]
    right, below = -width % multiple, -height % multiple
    return functional.pad(x, (0, right, 0, below)) if right or below else x


def sines(grid: Grid, dim: int) -> Tensor:
    """Return fixed positions (tokens, dim): sines of the place among all tokens.

    Vaswani et al., arXiv:1706.03762, section 3.5; for tokens of a grid as T2T-ViT takes them.
    """
    place = torch.arange(grid.tokens, dtype=torch.float64).unsqueeze(1)
    even = torch.div(torch.arange(dim), 2, rounding_mode="floor") * 2
    angle = place / 10_000.0 ** (even / dim)
    return torch.where(torch.arange(dim) % 2 == 0, angle.sin(), angle.cos()).float()
