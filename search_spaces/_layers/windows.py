"""Attention within windows of a grid, shifted in every second layer (Swin, arXiv:2103.14030)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_spaces._layers.attention import Heads, RelativeBias
from search_spaces._layers.grids import Grid, padded, to_map, to_tokens


class WindowAttention(nn.Module):
    """Tokens attend within `side` x `side` windows; with `shift` these lie half a window off.

    A grid that windows do not divide is padded with zeros, which nobody but they attend to. A grid
    of one window has it as large as the grid, and no shift. Tokens without a place are not taken.
    """

    apart: Tensor | None

    def __init__(self, heads: Heads, grid: Grid, side: int, *, shift: bool, relative: bool) -> None:
        super().__init__()
        if grid.prefix:
            raise ValueError(f"windows hold no tokens without a place, and there are {grid.prefix}")
        self.heads, self.grid = heads, grid
        self.side = min(side, max(grid.height, grid.width))
        self.rows = -(-grid.height // self.side) * self.side
        self.columns = -(-grid.width // self.side) * self.side
        whole = self.rows == self.columns == self.side
        self.shift = self.side // 2 if shift and not whole else 0
        cell = Grid(self.side, self.side)
        self.relative = RelativeBias(heads.heads, cell) if relative else None
        regions = self._regions()
        self.register_buffer("apart", regions, persistent=False)

    def _regions(self) -> Tensor | None:
        """Return 0 where a token may attend to another and -inf elsewhere, (windows, 1, T, T)."""
        grid = self.grid
        if not self.shift and (self.rows, self.columns) == (grid.height, grid.width):
            return None
        region = torch.zeros(self.rows, self.columns)
        if self.shift:  # what the roll brought from the other end is another region
            region[: self.rows - self.shift] += 1
            region[:, : self.columns - self.shift] += 2
        missing = torch.ones(self.rows, self.columns)
        missing[: grid.height, : grid.width] = 0
        missing = torch.roll(missing, (-self.shift, -self.shift), (0, 1))
        region = torch.where(missing > 0, -1.0, region)
        cut = self._windows(region[None, None])[..., 0]
        alike = cut[:, :, None] == cut[:, None, :]
        return torch.where(alike, 0.0, float("-inf")).unsqueeze(1)

    def _windows(self, x: Tensor) -> Tensor:
        """Cut a map (N, D, rows, columns) into (N windows, side x side, D)."""
        count, dim = x.shape[:2]
        down, right = self.rows // self.side, self.columns // self.side
        cut = x.reshape(count, dim, down, self.side, right, self.side)
        return cut.permute(0, 2, 4, 3, 5, 1).reshape(count * down * right, self.side**2, dim)

    def _whole(self, x: Tensor) -> Tensor:
        """Put (N windows, side x side, D) together to (N, D, rows, columns)."""
        down, right = self.rows // self.side, self.columns // self.side
        cut = x.reshape(-1, down, right, self.side, self.side, x.shape[-1])
        return cut.permute(0, 5, 1, 3, 2, 4).reshape(-1, x.shape[-1], self.rows, self.columns)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H W, dim) to (N, H W, dim)."""
        cells = padded(to_map(x, self.grid), self.side)
        if self.shift:
            cells = torch.roll(cells, (-self.shift, -self.shift), (2, 3))
        windows = self._windows(cells)
        mixed = self._whole(self.heads(windows, windows, self._mask(x.shape[0])))
        if self.shift:
            mixed = torch.roll(mixed, (self.shift, self.shift), (2, 3))
        return to_tokens(mixed[:, :, : self.grid.height, : self.grid.width])

    def _mask(self, count: int) -> Tensor | None:
        bias = None if self.relative is None else self.relative().unsqueeze(0)
        if self.apart is None:
            return bias
        mask = self.apart if bias is None else self.apart + bias
        return mask.repeat(count, 1, 1, 1)
