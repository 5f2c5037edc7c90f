"""Convolve signs with signs: the deployed binary convolution, on XNOR and population counts.

    y(o, p) = sum over taps inside the image of sign(x) sign(w) = taps - 2 popcount(x xor w)

Taps outside the image are left out, so that padding adds exactly zero, as it does where training
pads the signs with zeros. Sums are whole numbers below 2^24: the answer equals the float one bit
for bit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nasx.cost.ops import Ops
from nasx.errors import NasxError
from search_spaces._layers._native import library, operator
from search_spaces._layers._once import once
from search_spaces._layers.packed import PackedConv2d, channels_last, output_of

BLOCK = 16  # filters that xnor.cpp keeps side by side
SIZES = ctypes.c_int64 * 10


def xnor_conv2d(
    x: Tensor, packed: Tensor, scale: Tensor | None, shape: list[int], stride: int, padding: int
) -> Tensor:
    """Convolve the signs of x with packed signs, in plain PyTorch (sign(0) = +1)."""
    out, inner, high, wide = shape
    shifts = torch.arange(8, dtype=torch.int32, device=packed.device)
    flat = torch.bitwise_right_shift(packed.to(torch.int32).unsqueeze(1), shifts).bitwise_and(1)
    codes = flat.reshape(-1)[: out * high * wide * inner].reshape(out, high, wide, inner)
    signs = codes.permute(0, 3, 1, 2).to(torch.float32) * 2 - 1
    y = F.conv2d(torch.where(x >= 0, 1.0, -1.0), signs, stride=stride, padding=padding)
    y = torch.round(y)  # whole already: so that no runtime folds what follows into the weights
    return y if scale is None else y * scale.reshape(1, -1, 1, 1)


def _kernel(
    x: Tensor, packed: Tensor, scale: Tensor | None, shape: list[int], stride: int, padding: int
) -> Tensor:
    kernels = _kernels() if x.device.type == "cpu" else None
    y = output_of(x, shape, stride, padding)
    if kernels is None:
        return y.copy_(xnor_conv2d(x, packed, scale, shape, stride, padding))
    last = channels_last(x)
    x = x if last else x.contiguous()
    weights, ones = once(packed, ("xnor", *shape), lambda: _prepare(kernels, packed, shape))
    n, c, h, w = x.shape
    factors = None if scale is None else scale.contiguous()
    failed = kernels.xnor_conv(
        x.data_ptr(), weights.data_ptr(), ones.data_ptr(),
        None if factors is None else factors.data_ptr(), y.data_ptr(),
        SIZES(n, c, h, w, shape[0], shape[2], stride, padding, last, torch.get_num_threads()),
    )  # fmt: skip
    if failed:
        raise MemoryError(f"no memory for the packed input of a binary convolution {list(x.shape)}")
    return y


@functools.cache
def _kernels() -> ctypes.CDLL | None:
    found = library("xnor")
    if found is not None:
        address, whole = ctypes.c_void_p, ctypes.c_int64
        found.xnor_name.restype = ctypes.c_char_p
        found.xnor_prepare.argtypes = [address, whole, whole, whole, address, address]
        found.xnor_conv.argtypes = [address] * 6
    return found


def _prepare(kernels: ctypes.CDLL, packed: Tensor, shape: list[int]) -> tuple[Tensor, Tensor]:
    """Return the weight as the kernel reads it, and the ones of each tap (see xnor.cpp)."""
    out, inner, high, wide = shape
    taps, filters = high * wide, -(-out // BLOCK) * BLOCK
    bits = packed.contiguous()
    weights = torch.empty(filters * taps * -(-inner // 32), dtype=torch.int32)
    ones = torch.empty(taps * filters, dtype=torch.int32)
    at, into = bits.data_ptr(), (weights.data_ptr(), ones.data_ptr())
    kernels.xnor_prepare(at, out, taps, inner, *into)
    return weights, ones


def _fake(
    x: Tensor, packed: Tensor, scale: Tensor | None, shape: list[int], stride: int, padding: int
) -> Tensor:
    return output_of(x, shape, stride, padding)


_operator = operator(
    "xnor_conv2d(Tensor x, Tensor packed, Tensor? scale, int[] shape, int stride, int padding)"
    " -> Tensor",
    _kernel,
    _fake,
).default  # type: ignore[attr-defined] # without its overloads: quicker


class XnorConv2d(PackedConv2d):
    """The binary convolution: (N, C, H, W) float32 -> (N, O, H', W') of whole numbers x scale.

    The weight takes one bit each, 1 for +1; packing the input's signs is part of the call.
    """

    references: ClassVar[dict[str, Callable[..., Any]]] = {"nasx::xnor_conv2d": xnor_conv2d}

    @classmethod
    def from_signs(
        cls, signs: Tensor, stride: int = 1, padding: int = 0, scale: Tensor | None = None
    ) -> XnorConv2d:
        """Make the layer of signs (O, C, k, k), each +1 or -1, and of a scale (O,) per filter."""
        if not bool(((signs == 1) | (signs == -1)).all()):
            raise NasxError("XnorConv2d takes signs: every weight must be +1 or -1")
        return cls((signs > 0).to(torch.uint8), 1, stride, padding, scale)

    @property
    def kernel(self) -> str:
        """Return what computes this layer here."""
        kernels = _kernels()
        if kernels is None:
            return "xnor (plain torch in float: simulated)"
        return f"xnor ({kernels.xnor_name().decode()})"

    def decides(self, x: Tensor) -> Tensor:
        """Return what the layer makes of its input: 1 where x >= 0, uint8."""
        return (x >= 0).to(torch.uint8)

    def count_ops(self, x: Tensor, output: Tensor) -> dict[str, Ops]:
        """Count a bit operation per tap, a sign per input and a product per scaled output."""
        scaled = 0 if self.scale is None else output.numel()
        bit_ops = output.numel() * self.taps
        return {"int1": Ops(bit_ops=bit_ops), "fp32": Ops(elementwise=x.numel() + scaled)}

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; a NasxError says what is wrong with an input."""
        self.demand(x)
        y: Tensor = _operator(x, self.packed, self.scale, self.shape, self.stride, self.padding)
        return y
