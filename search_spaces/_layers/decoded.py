"""Convolve floats with weights of few bits: a smaller file, the arithmetic and time of float.

The codes are decoded once when a network first runs, w = (2 k - M) / M [x scale] with M = 2^b - 1,
and never stored as floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nasx.cost.ops import Ops
from search_spaces._layers._native import operator
from search_spaces._layers._once import once
from search_spaces._layers.packed import PackedConv2d, channels_last, output_of
from search_spaces._layers.packing import unpack


def decoded_conv2d(
    x: Tensor,
    packed: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    """Decode the weight and convolve, in plain PyTorch."""
    out, inner, high, wide = shape
    shifts = torch.arange(0, 8, bits, dtype=torch.int32, device=packed.device)
    flat = torch.bitwise_right_shift(packed.to(torch.int32).unsqueeze(1), shifts).bitwise_and(
        2**bits - 1
    )
    codes = flat.reshape(-1)[: out * high * wide * inner].reshape(out, high, wide, inner)
    weight = (codes.permute(0, 3, 1, 2).to(torch.float32) * 2 - (2**bits - 1)) / (2**bits - 1)
    if scale is not None:
        weight = weight * scale.reshape(-1, 1, 1, 1)
    return F.conv2d(x, weight, stride=stride, padding=padding)


def _kernel(
    x: Tensor,
    packed: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    memory = torch.channels_last if channels_last(x) else torch.contiguous_format
    weight = once(
        packed, (bits, memory, tuple(shape)), lambda: _decode(packed, shape, bits, memory)
    )
    if scale is not None:
        weight = weight * scale.reshape(-1, 1, 1, 1)
    y = F.conv2d(x.contiguous(memory_format=memory), weight, stride=stride, padding=padding)
    return y.contiguous(memory_format=memory)


def _decode(packed: Tensor, shape: list[int], bits: int, memory: torch.memory_format) -> Tensor:
    out, inner, high, wide = shape
    codes = unpack(packed, bits, out * high * wide * inner).reshape(out, high, wide, inner)
    weight = codes.to(torch.float32).mul(2).sub(2**bits - 1).div(2**bits - 1)
    return weight.permute(0, 3, 1, 2).contiguous(memory_format=memory)


def _fake(
    x: Tensor,
    packed: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    return output_of(x, shape, stride, padding)


_operator = operator(
    "decoded_conv2d(Tensor x, Tensor packed, Tensor? scale, int[] shape, int bits, int stride,"
    " int padding) -> Tensor",
    _kernel,
    _fake,
).default  # type: ignore[attr-defined] # without its overloads: quicker


class DecodedConv2d(PackedConv2d):
    """A float convolution of a packed weight: (N, C, H, W) float32 -> (N, O, H', W') float32."""

    references: ClassVar[dict[str, Callable[..., Any]]] = {"nasx::decoded_conv2d": decoded_conv2d}
    kernel = "float on decoded weights: saves memory only"

    @classmethod
    def from_codes(
        cls,
        codes: Tensor,
        bits: int,
        stride: int = 1,
        padding: int = 0,
        *,
        scale: Tensor | None = None,
    ) -> DecodedConv2d:
        """Make the layer of codes (O, C, k, k) from 0 to 2^bits - 1, and of a scale (O,)."""
        return cls(codes, bits, stride, padding, scale)

    def count_ops(self, x: Tensor, output: Tensor) -> Ops:
        """Count a float multiply-accumulate per tap: that is what runs."""
        return Ops(macs=output.numel() * self.taps)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; a NasxError says what is wrong with an input."""
        self.demand(x)
        y: Tensor = _operator(
            x, self.packed, self.scale, self.shape, self.bits, self.stride, self.padding
        )
        return y
