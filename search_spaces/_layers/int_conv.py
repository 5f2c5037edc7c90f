"""Convolve codes with codes: the deployed convolution of 1 to 8 bit weights and activations.

    a = round(clip(x, 0, alpha) (2^A - 1) / alpha)          codes of the input, A bits
    w = (2 k - M) / M,  M = 2^b - 1,  k = 0..M              values of the weight, b bits
    y = [sum a (2 k - M)] alpha / ((2^A - 1) M) [x scale]   a whole number, then one float factor

The grid of w is that of DoReFa and SLB (arXiv 1606.06160, 2009.08695); clipping at a learned alpha
is PACT (arXiv 1805.06085), at 1 DoReFa. At A = 1 the input's codes are its signs, +1 or -1 with
sign(0) = +1, and alpha is their size. The sum is exact. Below 8 bits the gain is in memory: the
arithmetic is that of 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nasx.cost.ops import Ops
from nasx.errors import NasxError
from search_spaces._layers._bytes import (
    avoided,
    convolve,
    grid_of,
    instructions,
    quantise,
    runs_in_bytes,
    signed_codes,
    weight_of,
)
from search_spaces._layers._native import operator
from search_spaces._layers._once import once
from search_spaces._layers.packed import PackedConv2d, channels_last, output_of
from search_spaces._layers.packing import demand_width


def int_conv2d(
    x: Tensor,
    packed: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    """Convolve in plain PyTorch: float32 sums of whole numbers, exact below 2^24."""
    out, inner, high, wide = shape
    shifts = torch.arange(0, 8, bits, dtype=torch.int32, device=packed.device)
    flat = torch.bitwise_right_shift(packed.to(torch.int32).unsqueeze(1), shifts).bitwise_and(
        2**bits - 1
    )
    codes = flat.reshape(-1)[: out * high * wide * inner].reshape(out, high, wide, inner)
    weight = codes.permute(0, 3, 1, 2).to(torch.float32) * 2 - (2**bits - 1)
    levels = 2**a_bits - 1
    if a_bits == 1:
        a = torch.where(x >= 0, 1.0, -1.0)
    else:
        a = torch.round(torch.minimum(x.clamp(min=0), alpha) * (levels / alpha))
    factor = alpha / (levels * (2**bits - 1))
    # Whole already: rounded so that no runtime folds what follows into the weights.
    y = torch.round(F.conv2d(a, weight, stride=stride, padding=padding))
    return y.mul(factor if scale is None else (scale * factor).reshape(1, -1, 1, 1))


def _kernel(
    x: Tensor,
    packed: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    there = runs_in_bytes(bits, a_bits) and not avoided(shape[2], a_bits, stride, padding, x)
    if x.device.type != "cpu" or not x.numel() or not there:
        y = output_of(x, shape, stride, padding)
        return y.copy_(_exact(x, packed, alpha, scale, shape, bits, a_bits, stride, padding))
    grid, signs = grid_of(alpha, shape, bits, a_bits), a_bits == 1
    codes, sums = quantise(x, grid, signs=signs, sums=bits == 8)
    weight = weight_of(packed, shape, bits, a_bits, stride, padding, x)
    factor = grid.factor if scale is None else scale * grid.factor
    found = convolve(codes, sums, weight, factor, stride, padding, signs=signs)
    return found if channels_last(x) else output_of(x, shape, stride, padding).copy_(found)


def _exact(
    x: Tensor,
    packed: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    """Compute the same in plain PyTorch, sums in double precision."""
    weight = once(packed, ("exact", *shape), lambda: signed_codes(packed, shape, bits).double())
    levels = 2**a_bits - 1
    if a_bits == 1:
        a = torch.where(x >= 0, 1.0, -1.0)
    else:
        a = torch.round(torch.minimum(x.clamp(min=0), alpha) * (levels / alpha))
    y = F.conv2d(a.double(), weight, stride=stride, padding=padding).to(torch.float32)
    factor = alpha / (levels * (2**bits - 1))
    return y.mul(factor if scale is None else (scale * factor).reshape(1, -1, 1, 1))


def _fake(
    x: Tensor,
    packed: Tensor,
    alpha: Tensor,
    scale: Tensor | None,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    return output_of(x, shape, stride, padding)


_operator = operator(
    "int_conv2d(Tensor x, Tensor packed, Tensor alpha, Tensor? scale, int[] shape, int bits,"
    " int a_bits, int stride, int padding) -> Tensor",
    _kernel,
    _fake,
).default  # type: ignore[attr-defined] # without its overloads: quicker


class IntConv2d(PackedConv2d):
    """The convolution of codes: (N, C, H, W) float32 -> (N, O, H', W') float32.

    Quantising the input and the factor after the sum are part of the call.
    """

    references: ClassVar[dict[str, Callable[..., Any]]] = {"nasx::int_conv2d": int_conv2d}
    alpha: Tensor
    a_bits: int

    @classmethod
    def from_codes(
        cls,
        codes: Tensor,
        bits: int,
        stride: int = 1,
        padding: int = 0,
        *,
        a_bits: int = 8,
        alpha: float | Tensor = 1.0,
        scale: Tensor | None = None,
    ) -> IntConv2d:
        """Make the layer of codes (O, C, k, k) from 0 to 2^bits - 1, and of a scale (O,).

        `alpha` > 0 is where inputs are clipped.
        """
        demand_width(a_bits, "activations")
        layer = cls(codes, bits, stride, padding, scale)
        clip = torch.as_tensor(alpha, dtype=torch.float32).detach().reshape(()).clone()
        if not (bool(clip > 0) and bool(clip.isfinite())):
            raise NasxError(f"IntConv2d: alpha = {float(clip):g} must be > 0")
        layer.register_buffer("alpha", clip)
        layer.a_bits = a_bits
        return layer

    @property
    def kernel(self) -> str:
        """Return what computes this layer here."""
        if not runs_in_bytes(self.bits, self.a_bits):
            return "int8 (plain torch in float: simulated)"
        return f"int8 (onednn, {instructions()})"

    def decides(self, x: Tensor) -> Tensor:
        """Return what the layer makes of its input: its codes, uint8 (signs: 1 for +1)."""
        if self.a_bits == 1:
            return (x >= 0).to(torch.uint8)
        step = (2**self.a_bits - 1) / self.alpha
        return torch.round(torch.minimum(x.clamp(min=0), self.alpha) * step).to(torch.uint8)

    def count_ops(self, x: Tensor, output: Tensor) -> dict[str, Ops]:
        """Count weight bits x activation bits per tap, and one rounding and one product each."""
        bit_ops = output.numel() * self.taps * self.bits * self.a_bits
        work = Ops(elementwise=x.numel() + output.numel())
        return {f"int{self.bits}xint{self.a_bits}": Ops(bit_ops=bit_ops), "fp32": work}

    def extra_repr(self) -> str:
        """Return what the layer is, for printing."""
        return f"{super().extra_repr()}, a_bits={self.a_bits}"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; a NasxError says what is wrong with an input."""
        self.demand(x)
        y: Tensor = _operator(
            x, self.packed, self.alpha, self.scale, self.shape, self.bits, self.a_bits,
            self.stride, self.padding,
        )  # fmt: skip
        return y
