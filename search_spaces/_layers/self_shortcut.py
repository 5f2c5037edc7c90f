"""An adder layer that adds its own input, so that it can let an image through unchanged.

    layer = ShortcutAdder2d(16, 16, 3, padding=1)    # y = BN(-sum |x - w|) + x

Source: AdderSR (CVPR 2021, arXiv 2009.08891, eq. 7), in our reading. An adder alone cannot be the
identity: with one weight above all inputs its tap gives x - w, but the K - 1 others add what no
weight takes away. For independent N(0, 1) inputs the best output that this argument gives, scaled
and shifted, misses x by v / (1 + v) of its variance, v = (K - 1) (1 - 2 / pi).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from search_spaces._layers.adder import AdderConv2d

Norm = Literal["branch", "sum", "scale"]
NORMS: tuple[Norm, ...] = ("branch", "sum", "scale")


class Scale2d(nn.Module):
    """Scale and shift each channel of (N, C, H, W) by learnt numbers, from `start` and 0 on."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), start))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return weight * x + bias."""
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class ShortcutAdder2d(nn.Module):
    """Add the input to an adder's output where both have one shape: (N, C, H, W) to the same.

    `norm` says what is normalised: by BatchNorm2d the adder's "branch" alone or the "sum" with
    the input; "scale" has no statistics and scales the branch by learnt numbers that start at
    one over its taps, without which distances would grow by their number from layer to layer.
    `shortcut` False leaves the input out, and so does a layer that changes channels or size.
    NasxError for another `norm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        eta: float = 0.2,
        norm: Norm = "branch",
        shortcut: bool = True,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise NasxError(f"ShortcutAdder2d: norm = {norm!r} must be one of {', '.join(NORMS)}")
        self.adder = AdderConv2d(in_channels, out_channels, kernel_size, stride, padding, eta=eta)
        same = in_channels == out_channels and stride == 1 and 2 * padding == kernel_size - 1
        self.shortcut = shortcut and same
        self.branch: nn.Module = nn.Identity()
        self.sum: nn.Module = nn.Identity()
        if norm == "sum":
            self.sum = nn.BatchNorm2d(out_channels)
        elif norm == "branch":
            self.branch = nn.BatchNorm2d(out_channels)
        else:
            self.branch = Scale2d(out_channels, 1 / (in_channels * kernel_size**2))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised distances, with `x` where it is added."""
        y: Tensor = self.branch(self.adder(x))
        if self.shortcut:
            y = y + x
        out: Tensor = self.sum(y)
        return out

    def start_at_zero(self) -> None:
        """Let the branch begin as 0: for the last layer of what corrects an image."""
        for layer in (self.branch, self.sum):
            if isinstance(layer, nn.BatchNorm2d | Scale2d):
                nn.init.zeros_(layer.weight)

    def extra_repr(self) -> str:
        """Return whether the input is added."""
        return f"shortcut={self.shortcut}"
