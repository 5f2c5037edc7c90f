"""How an image becomes tokens, and how a stage's tokens become fewer.

A stem maps (N, C, H, W) to tokens (N, H' W', dim) on a grid `patch` times smaller, rounded up; a
merge maps (N, T, dim) to fewer tokens of another width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.grids import Grid, padded, to_map, to_tokens


class PatchStem(nn.Module):
    """Cut into squares, each through one linear layer; the image is padded to whole squares."""

    def __init__(self, inputs: int, dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Conv2d(inputs, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H' W', dim)."""
        return to_tokens(self.project(padded(x, self.patch)))


class OverlapStem(nn.Module):
    """Squares that reach into their neighbours: kernel 2 patch - 1 (PVTv2, arXiv:2106.13797)."""

    def __init__(self, inputs: int, dim: int, patch: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, dim, 2 * patch - 1, patch, patch - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H' W', dim)."""
        return to_tokens(self.project(x))


class ConvStem(nn.Module):
    """3x3 convolutions of stride 2, each with twice the channels, then 1x1 (arXiv:2106.14881)."""

    def __init__(self, inputs: int, dim: int, patch: int) -> None:
        super().__init__()
        halvings = patch.bit_length() - 1
        layers: list[nn.Module] = []
        width = inputs
        for i in range(halvings):
            wider = max(8, dim >> (halvings - 1 - i))
            layers += [nn.Conv2d(width, wider, 3, 2, 1, bias=False), nn.BatchNorm2d(wider)]
            layers += [nn.ReLU()]
            width = wider
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H' W', dim)."""
        return to_tokens(self.layers(x))


class TokenTransformer(nn.Module):
    """One narrow layer between two soft splits; its skip starts at the values (T2T)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.out = nn.Linear(inner, inner)
        self.norm2 = nn.LayerNorm(inner)
        self.mlp = nn.Sequential(nn.Linear(inner, inner), nn.GELU(), nn.Linear(inner, inner))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, T, dim) to (N, T, inner)."""
        q, k, v = (part.unsqueeze(1) for part in self.qkv(self.norm1(x)).chunk(3, -1))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = (v + self.out(mixed)).squeeze(1)
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class T2TStem(nn.Module):
    """Tokens-to-token: overlapping squares, a narrow transformer, again, and a linear layer.

    Yuan et al., arXiv:2101.11986, section 3.1; strides patch / 4, 2 and 2, `inner` channels.
    """

    def __init__(self, inputs: int, dim: int, patch: int, grid: Grid, inner: int = 64) -> None:
        super().__init__()
        first = patch // 4
        self.kernel, self.stride = 2 * first - 1 if first > 1 else 3, first
        self.grids = (Grid(4 * grid.height, 4 * grid.width), Grid(2 * grid.height, 2 * grid.width))
        self.first = TokenTransformer(inputs * self.kernel**2, inner)
        self.second = TokenTransformer(inner * 9, inner)
        self.project = nn.Linear(inner * 9, dim)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, H' W', dim)."""
        x = padded(x, self.patch)
        cut = functional.unfold(x, self.kernel, padding=self.kernel // 2, stride=self.stride)
        x = to_map(self.first(cut.transpose(1, 2)), self.grids[0])
        x = functional.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
        x = to_map(self.second(x), self.grids[1])
        x = functional.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
        y: Tensor = self.project(x)
        return y


class ConcatMerge(nn.Module):
    """Put 2 x 2 tokens side by side, then one linear layer (Swin, arXiv:2103.14030)."""

    def __init__(self, dim: int, wider: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(4 * dim)
        self.project = nn.Linear(4 * dim, wider, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H W, dim) to (N, ceil(H / 2) ceil(W / 2), wider)."""
        cells = padded(to_map(x, self.grid), 2)
        parts = [cells[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        y: Tensor = self.project(self.norm(to_tokens(torch.cat(parts, 1))))
        return y


class ConvMerge(nn.Module):
    """A 3x3 convolution of stride 2 and LayerNorm (PVTv2, arXiv:2106.13797)."""

    def __init__(self, dim: int, wider: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.project = nn.Conv2d(dim, wider, 3, 2, 1)
        self.norm = nn.LayerNorm(wider)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H W, dim) to (N, ceil(H / 2) ceil(W / 2), wider)."""
        y: Tensor = self.norm(to_tokens(self.project(to_map(x, self.grid))))
        return y


class PoolMerge(nn.Module):
    """A depthwise convolution of stride 2 that widens; prefix tokens go through a linear layer.

    PiT, arXiv:2103.16302, section 3.2; `wider` must be a multiple of `dim`.
    """

    def __init__(self, dim: int, wider: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.cells = nn.Conv2d(dim, wider, 3, 2, 1, groups=dim)
        self.prefix = nn.Linear(dim, wider) if grid.prefix else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, P + H W, dim) to (N, P + ceil(H / 2) ceil(W / 2), wider)."""
        cells = to_tokens(self.cells(to_map(x, self.grid)))
        if self.prefix is None:
            return cells
        return torch.cat([self.prefix(x[:, : self.grid.prefix]), cells], 1)


STEMS = ("patch", "overlap", "conv", "t2t")
MERGES: dict[str, type[ConcatMerge | ConvMerge | PoolMerge]] = {
    "concat": ConcatMerge,
    "conv": ConvMerge,
    "pool": PoolMerge,
}


def stem(kind: str, inputs: int, dim: int, patch: int, grid: Grid) -> nn.Module:
    """Return the stem of a kind; `grid` is what it leaves."""
    if kind == "t2t":
        return T2TStem(inputs, dim, patch, grid)
    return {"patch": PatchStem, "overlap": OverlapStem, "conv": ConvStem}[kind](inputs, dim, patch)
