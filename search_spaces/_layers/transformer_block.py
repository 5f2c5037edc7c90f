"""One block of a transformer: attention and mlp, each in a branch beside the tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._layers.attention import Heads
from search_spaces._layers.grids import Grid, OnMap
from search_spaces._layers.keeping import Keep


class DropPath(nn.Module):
    """Drop a branch for whole samples in training (stochastic depth, arXiv:1603.09382)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def extra_repr(self) -> str:
        """Return the rate, for printing."""
        return f"{self.rate:g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return x, or x / (1 - rate) for samples kept and 0 for the others."""
        if not self.training or not self.rate:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class Scale(nn.Module):
    """Multiply every channel by a learnt number (arXiv:2103.17239, section 2)."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((dim,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (..., dim) scaled."""
        return x * self.factor


class Mlp(nn.Module):
    """Two linear layers, with a depthwise 3x3 between them where `grid` is given."""

    def __init__(self, dim: int, units: int, grid: Grid | None) -> None:
        super().__init__()
        self.wide = nn.Linear(dim, units)
        between = nn.Conv2d(units, units, 3, padding=1, groups=units)
        self.between = None if grid is None else OnMap(between, grid)
        self.act = nn.GELU()
        self.narrow = nn.Linear(units, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, dim)."""
        x = self.wide(x)
        if self.between is not None:
            x = self.between(x)
        y: Tensor = self.narrow(self.act(x))
        return y


class TransformerBlock(nn.Module):
    """Attention and mlp, each after a LayerNorm, before a scale and a sum."""

    def __init__(
        self, attention: nn.Module, mlp: Mlp, dim: int, scale: float, drop: float, keep: Keep | None
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention, self.mlp, self.keep = attention, mlp, keep
        self.scale1 = Scale(dim, scale) if scale else nn.Identity()
        self.scale2 = Scale(dim, scale) if scale else nn.Identity()
        self.drop = DropPath(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T', dim); T' < T where tokens are kept."""
        mixed = self.attention(self.norm1(x))
        if self.keep is None:
            x = x + self.drop(self.scale1(mixed))
        else:
            mixed, shares = mixed
            x = self.keep(x + self.drop(self.scale1(mixed)), shares)
        y: Tensor = x + self.drop(self.scale2(self.mlp(self.norm2(x))))
        return y


class ClassAttention(nn.Module):
    """One learnt token asks all others (CaiT, arXiv:2103.17239, section 3)."""

    def __init__(self, dim: int, heads: Heads, units: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads = heads
        self.mlp = Mlp(dim, units, None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, dim)."""
        token = self.token.expand(x.shape[0], -1, -1)
        every = self.norm1(torch.cat([token, x], 1))
        token = token + self.heads(every[:, :1], every)
        token = token + self.mlp(self.norm2(token))
        y: Tensor = token[:, 0]
        return y
