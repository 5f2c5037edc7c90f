"""Self-attention over tokens of a grid: global, reduced, induced, and convolution in its place.

Every layer maps (N, T, dim) to (N, T, dim). Heads are `head_dim` wide; heads x head_dim need not
be dim. What softmax(q k / sqrt(head_dim)) v costs is counted whatever kernel computes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.grids import Grid, OnMap, to_map, to_tokens


def split(x: Tensor, heads: int) -> Tensor:
    """Return (N, T, heads x d) as (N, heads, T, d)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Return (N, heads, T, d) as (N, T, heads x d)."""
    return x.transpose(1, 2).flatten(2)


class Heads(nn.Module):
    """Queries of some tokens, keys and values of others, and what joins the heads again."""

    def __init__(self, dim: int, heads: int, head_dim: int, *, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        inner = heads * head_dim
        self.q = nn.Linear(dim, inner, bias=bias)
        self.kv = nn.Linear(dim, 2 * inner, bias=bias)
        self.out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (N, T, dim) and a context (N, S, dim) to (N, T, dim); `mask` is added to scores."""
        keys, values = self.kv(context).chunk(2, -1)
        q, k, v = (split(part, self.heads) for part in (self.q(x), keys, values))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y: Tensor = self.out(joined(mixed))
        return y


class Project(nn.Module):
    """What makes queries and what makes keys and values of tokens: depthwise 3x3 (CvT).

    Convolutions and normalisation as in arXiv:2103.15808, section 3.2, before the linear layers.
    """

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()

        def smooth() -> nn.Module:
            layers = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False), nn.BatchNorm2d(dim)
            return OnMap(nn.Sequential(*layers), grid)

        self.q, self.kv = smooth(), smooth()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what queries and what keys and values are made of."""
        return self.q(x), self.kv(x)


class GlobalAttention(nn.Module):
    """Every token attends to every token; `bias` (heads, T, T) of relative places is added."""

    def __init__(
        self, heads: Heads, project: Project | None = None, relative: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.heads, self.project, self.relative = heads, project, relative

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, dim)."""
        asked, context = (x, x) if self.project is None else self.project(x)
        mask = None if self.relative is None else self.relative()
        y: Tensor = self.heads(asked, context, mask)
        return y


class ReducedAttention(nn.Module):
    """Every token attends to a grid `by` times coarser (PVT, arXiv:2102.12122, section 3.3)."""

    def __init__(self, heads: Heads, dim: int, grid: Grid, by: int) -> None:
        super().__init__()
        self.heads, self.grid = heads, grid
        self.reduce = nn.Conv2d(dim, dim, by, by)
        self.norm = nn.LayerNorm(dim)
        self.below, self.right = -grid.height % by, -grid.width % by

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, dim)."""
        cells = to_map(x, self.grid)
        if self.below or self.right:
            cells = functional.pad(cells, (0, self.right, 0, self.below))
        y: Tensor = self.heads(x, self.norm(to_tokens(self.reduce(cells))))
        return y


class InducedAttention(nn.Module):
    """Tokens attend to a few learnt points that attended to them (ISAB, arXiv:1810.00825)."""

    def __init__(self, points: int, dim: int, gather: Heads, spread: Heads) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, points, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)
        self.gather, self.spread = gather, spread

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, dim)."""
        points = self.points.expand(x.shape[0], -1, -1)
        y: Tensor = self.spread(x, self.norm(points + self.gather(points, x)))
        return y


class ConvMixing(nn.Module):
    """A depthwise 3x3 and a linear layer in the place of attention."""

    def __init__(self, dim: int, grid: Grid) -> None:
        super().__init__()
        self.conv = OnMap(nn.Conv2d(dim, dim, 3, padding=1, groups=dim), grid)
        self.act = nn.GELU()
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, dim)."""
        y: Tensor = self.out(self.act(self.conv(x)))
        return y


class RelativeBias(nn.Module):
    """A learnt number per head for every difference of places: (heads, T, T) over a grid.

    Swin, arXiv:2103.14030, equation 4. Tokens of a prefix have no place, so 0.
    """

    index: Tensor

    def __init__(self, heads: int, grid: Grid) -> None:
        super().__init__()
        rows, columns = grid.height, grid.width
        self.prefix = grid.prefix
        self.table = nn.Parameter(torch.randn((2 * rows - 1) * (2 * columns - 1), heads) * 0.02)
        place = torch.arange(grid.cells)
        row, column = place // columns, place % columns
        down = row[:, None] - row[None, :] + rows - 1
        right = column[:, None] - column[None, :] + columns - 1
        self.register_buffer("index", down * (2 * columns - 1) + right, persistent=False)

    def forward(self) -> Tensor:
        """Return what is added to the scores, (heads, T, T)."""
        bias = self.table[self.index].permute(2, 0, 1)
        return functional.pad(bias, (self.prefix, 0, self.prefix, 0)) if self.prefix else bias
