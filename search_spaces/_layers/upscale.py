"""Fixed enlargement: what a restoration network adds its corrections to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Skip = Literal["none", "nearest", "bicubic"]


def cubic(x: Tensor) -> Tensor:
    """Return Keys' kernel with a = -1/2 at distances `x` (1981, eq. 4 and 8)."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


class Bicubic(nn.Module):
    """Enlarge by `scale` with the bicubic kernel of a = -1/2: (N, C, H, W) to (N, C, sH, sW).

    One small convolution per channel whose outputs are the s x s pixels that replace each pixel,
    edges repeated: faster than an interpolation operator, and the same numbers in every runtime.
    """

    kernel: Tensor

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
        row = cubic(phase[:, None] - torch.arange(-2, 3, dtype=torch.float64))  # (s, 5)
        taps = torch.einsum("ai,bj->abij", row, row).reshape(1, scale**2, 1, 5, 5)
        kernel = taps.expand(channels, -1, -1, -1, -1).reshape(-1, 1, 5, 5)
        self.register_buffer("kernel", kernel.float().contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged images."""
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        return F.pixel_shuffle(F.conv2d(padded, self.kernel, groups=self.channels), self.scale)


class Nearest(nn.Module):
    """Enlarge by `scale` by repeating pixels: (N, C, H, W) to (N, C, sH, sW)."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged images."""
        return F.interpolate(x, scale_factor=float(self.scale), mode="nearest")


def enlarging(skip: Skip, channels: int, scale: int) -> nn.Module | None:
    """Return the module of a global skip, or None where there is none."""
    if skip == "none":
        return None
    if scale == 1:
        return nn.Identity()
    return Bicubic(channels, scale) if skip == "bicubic" else Nearest(scale)


class Centre(nn.Module):
    """Subtract the mean colour, or with `back` add it: (N, C, H, W) in [0, 1] and about 0.

    A constant, no parameter: the mean of DIV2K, as in EDSR (arXiv:1707.02921); for one channel
    its luma (BT.601 weights), for other numbers of channels one half.
    """

    mean: Tensor

    def __init__(self, channels: int, *, back: bool = False) -> None:
        super().__init__()
        known = {3: (0.4488, 0.4371, 0.4040), 1: (0.4368,)}
        mean = torch.tensor(known.get(channels, (0.5,) * channels)).view(-1, 1, 1)
        self.register_buffer("mean", mean if back else -mean)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shifted images."""
        return x + self.mean
