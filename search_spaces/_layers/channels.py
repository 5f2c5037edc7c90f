"""Layers that stand where a network lost channels: put them among zeros, pick them, mask them.

`Widen` pads one zero channel and gathers. Of the ways to add a branch of fewer channels to a
shortcut it is the cheapest in ONNX Runtime (docs/decisions/007-surgery.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Widen(nn.Module):
    """Put k channels into their places among `size`: (N, k, H, W) to (N, size, H, W).

    `source` says for each place which channel comes there; k stands for the zero one. It follows
    from the kept set, so it is not among the stored weights.
    """

    source: Tensor

    def __init__(self, places: Sequence[int], size: int) -> None:
        super().__init__()
        source = torch.full((size,), len(places), device="cpu")
        source[list(places)] = torch.arange(len(places), device="cpu")
        self.register_buffer("source", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x's channels in their places, zeros elsewhere."""
        return functional.pad(x, (0, 0, 0, 0, 0, 1)).index_select(1, self.source)


class PickedPad(nn.Module):
    """Option A's shortcut between two streams that both lost channels.

    Every `stride`-th pixel of the kept channels `before`, in their places among the kept channels
    `after`; `shift` is how far padding moves a channel. Where nothing comes from, zeros.
    """

    source: Tensor

    def __init__(
        self, stride: int, shift: int, before: Sequence[int], after: Sequence[int]
    ) -> None:
        super().__init__()
        self.stride = stride
        found = {c + shift: i for i, c in enumerate(before)}
        source = torch.tensor([found.get(c, len(before)) for c in after], device="cpu")
        self.register_buffer("source", source, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, ceil(H / stride), ceil(W / stride))."""
        fewer = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(fewer, (0, 0, 0, 0, 0, 1)).index_select(1, self.source)


class Mask(nn.Module):
    """Set the channels that are not kept to zero: what surgery must equal."""

    keep: Tensor

    def __init__(self, kept: Sequence[int], size: int) -> None:
        super().__init__()
        keep = torch.zeros(size, 1, 1, device="cpu")
        keep[list(kept)] = 1.0
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, size, H, W) with zeros in the channels that are not kept."""
        return x * self.keep
