"""A convolution in training whose weights will be stored as codes and whose inputs may be too."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces._layers.levels import decoded
from search_spaces._layers.packing import demand_width


class QuantisedConv2d(nn.Module):
    """What SLB and the rounding baselines share: how inputs are read, and the convolution.

    A subclass says which code each weight has (`codes`) and which weights a training step meets
    (`weight_in_training`). `reading` quantises the input (None: it stays float). `scaled` gives
    each filter a learned scale, for a place that no normalisation follows; `bias` adds a bias.
    x (N, c_in, H, W) -> (N, c_out, H', W'). NasxError for bits that are not 1, 2, 4 or 8.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        *,
        bits: int,
        reading: nn.Module | None = None,
        scaled: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        demand_width(bits, "weights")
        self.shape = (c_out, c_in, kernel, kernel)
        self.stride, self.padding, self.bits = stride, padding, bits
        self.reading = nn.Identity() if reading is None else reading
        # Levels of about 1 would make the output grow with the taps.
        start = math.sqrt(2 / (c_in * kernel * kernel))
        self.scale = nn.Parameter(torch.full((c_out,), start)) if scaled else None
        self.bias = nn.Parameter(torch.zeros(c_out)) if bias else None
        self.watched = False  # by a StateNorm2d, which takes the hard output of every step
        self.hard_output: Tensor | None = None

    def codes(self) -> Tensor:
        """Return the code of every weight, (O, C, k, k) uint8 in 0..2^bits - 1."""
        raise NotImplementedError

    def weight_in_training(self) -> Tensor:
        """Return the weights that a training step convolves with, (O, C, k, k)."""
        raise NotImplementedError

    def hard_weight(self) -> Tensor:
        """Return the weights as they will be deployed, (O, C, k, k)."""
        return decoded(self.codes(), self.bits)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve the quantised input, with the deployed weights in eval mode."""
        x = self.reading(x)
        if not self.training:
            return self._convolved(x, self.hard_weight())
        y = self._convolved(x, self.weight_in_training())
        if self.watched:
            with torch.no_grad():
                self.hard_output = self._convolved(x, self.hard_weight())
        return y

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        y = F.conv2d(x, weight, None, self.stride, self.padding)
        if self.scale is not None:
            y = y * self.scale.view(-1, 1, 1)
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return y

    def extra_repr(self) -> str:
        """Return what tells this layer from its neighbours."""
        c_out, c_in, kernel, _ = self.shape
        return f"{c_in}, {c_out}, kernel={kernel}, stride={self.stride}, bits={self.bits}"
