"""Convolve codes in bytes: oneDNN's int8 convolution, int_conv.cpp before and after it.

oneDNN takes bytes without a sign (codes of the input) and with one (of the weight), sums whole
numbers and answers in floats. Weights 2 k - M fit a byte below 8 bits. At 8 bits they do not:

    2 k - 255 = 2 (k - 128) + 1,   so   conv(x, w) = 2 conv(x, k - 128) + conv(x, 1)

and the second term is one sum over a window, the same for all filters. Measured beside ONNX
Runtime's QLinearConv: docs/measurements/low_bit.md.
"""

from __future__ import annotations

import ctypes
import functools
from typing import NamedTuple

import torch
from torch import Tensor

from search_spaces._layers._native import library, processor_flags
from search_spaces._layers._once import once
from search_spaces._layers.packing import unpack

EXACT = 2**24  # up to which a float holds every whole number
PAIR = 2**15  # two products of bytes must stay below it where they are summed in 16 bits
INPUT, OUTPUT = ctypes.c_int64 * 6, ctypes.c_int64 * 11  # kept: making such types is slow


@functools.cache
def _kernels() -> ctypes.CDLL | None:
    return library("int_conv")


@functools.cache
def instructions() -> str:
    """Return what sums products of bytes in 32 bits on this processor, "avx2" where nothing."""
    for name in ("amx_int8", "avx512_vnni", "avx_vnni"):
        if name in processor_flags():
            return name
    return "avx2"


@functools.cache
def runs_in_bytes(bits: int, a_bits: int) -> bool:
    """Return whether sums of such codes are exact here: with oneDNN, a compiler and no overflow."""
    largest = 2 if a_bits == 1 else 2**a_bits - 1
    wide = 128 if bits == 8 else 2**bits - 1
    fits = instructions() != "avx2" or 2 * largest * wide < PAIR
    there = torch.backends.mkldnn.is_available() and "avx2" in processor_flags()  # type: ignore[no-untyped-call]
    return fits and there and _kernels() is not None


def signed_codes(packed: Tensor, shape: list[int], bits: int) -> Tensor:
    """Return the whole numbers 2 k - M of a packed weight, (O, C, k, k) int16."""
    out, inner, high, wide = shape
    codes = unpack(packed, bits, out * high * wide * inner).reshape(out, high, wide, inner)
    return codes.permute(0, 3, 1, 2).to(torch.int16).mul(2).sub(2**bits - 1)


def avoided(kernel: int, a_bits: int, stride: int, padding: int, x: Tensor) -> bool:
    """Return whether oneDNN is not to be trusted with a convolution.

    Seen with oneDNN 3 and AMX in torch 2.13: garbage where strides leave a single column, and where
    whole windows lie in the padding of inputs whose 0 is not the code 0.
    """
    single = x.shape[3] + 2 * padding - kernel < stride
    return (stride > 1 and single) or (a_bits == 1 and padding >= kernel)


def quantise(x: Tensor, grid: Grid, *, signs: bool, sums: bool) -> tuple[Tensor, Tensor | None]:
    """Return the codes of x in bytes, channels_last, and their sums (N, H, W) where asked for.

    Signs are 0 and 2, and 1 stands for 0.
    """
    kernels = _kernels()
    assert kernels is not None
    n, c, h, w = x.shape
    last = x.is_contiguous(memory_format=torch.channels_last)
    x = x if last else x.contiguous()
    codes = torch.empty((n, c, h, w), dtype=torch.uint8, memory_format=torch.channels_last)
    totals = torch.empty((n, h, w), dtype=torch.int32) if sums else None
    sizes = INPUT(n, c, h * w, last, signs, torch.get_num_threads())
    kernels.int_quantise(_at(x), _at(codes), _at(totals), sizes, *grid.native)
    return codes, totals


class Grid(NamedTuple):
    """What turns inputs into codes: where they are clipped, and codes per unit, as C floats."""

    native: tuple[ctypes.c_float, ctypes.c_float]
    factor: Tensor  # (O,) of the sums of codes


def grid_of(alpha: Tensor, shape: list[int], bits: int, a_bits: int) -> Grid:
    """Return the grid of a layer's inputs, in the arithmetic of the plain form."""

    def make() -> Grid:
        step = (2**a_bits - 1) / alpha
        factor = alpha / ((2**a_bits - 1) * (2**bits - 1))
        native = ctypes.c_float(float(alpha)), ctypes.c_float(float(step))
        return Grid(native, factor.reshape(1).expand(shape[0]).contiguous())

    return once(alpha, ("grid", shape[0], bits, a_bits), make)


class Weight(NamedTuple):
    """A weight in oneDNN's order, in parts of its channels, and what goes with it."""

    parts: tuple[tuple[int, int, Tensor], ...]  # first channel, channels, weight
    bits: int
    zeros: Tensor  # (O,)
    ones: Tensor  # (O,)


def weight_of(
    packed: Tensor,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
    x: Tensor,
) -> Weight:
    """Return the weight as oneDNN wants it for inputs like x, made once.

    At 8 bits the sums must come out of floats as they were: where they could be 2^24 or more, the
    channels are convolved in parts.
    """
    n, _, h, w = x.shape

    def make() -> Weight:
        weight = signed_codes(packed, shape, bits)
        size = shape[1]
        if bits == 8:
            weight = (weight - 1) // 2
            largest = 2 if a_bits == 1 else 2**a_bits - 1
            while _largest(weight, size) * largest >= EXACT:
                size = -(-size // 2)
        ones, parts = torch.ones(shape[0]), []
        for first in range(0, shape[1], size):
            part = weight[:, first : first + size].to(torch.int8).contiguous()
            inner = part.shape[1]
            ordered = torch.ops.onednn.qconv_prepack(
                part, ones, 1.0, int(a_bits == 1), [stride, stride], [padding, padding], [1, 1], 1,
                [n, inner, h, w],
            )  # fmt: skip
            parts.append((first, inner, ordered))
        return Weight(tuple(parts), bits, torch.zeros(shape[0], dtype=torch.int32), ones)

    return once(packed, ("bytes", *shape, stride, padding, a_bits == 1, h, w, min(n, 2)), make)


def convolve(
    codes: Tensor,
    sums: Tensor | None,
    weight: Weight,
    factor: Tensor,
    stride: int,
    padding: int,
    *,
    signs: bool,
) -> Tensor:
    """Return factor (O,) times the sums of codes times weights, channels_last.

    `sums` of the codes are needed at 8 bits.
    """
    scales = weight.ones if weight.bits == 8 else factor
    whole = len(weight.parts) == 1
    found = []
    for first, inner, part in weight.parts:
        x = codes if whole else codes[:, first : first + inner]
        x = x.contiguous(memory_format=torch.channels_last)
        found.append(torch.ops.onednn.qconv2d_pointwise.default(
            x, 1.0, int(signs), part, scales, weight.zeros, None, [stride, stride],
            [padding, padding], [1, 1], 1, 1.0, 0, torch.float32, "none", [None], "",
        ))  # fmt: skip
    y: Tensor = found[0]
    if weight.bits == 8:
        kernels = _kernels()
        assert kernels is not None
        assert sums is not None
        n, out, high, wide = y.shape
        kernel = weight.parts[0][2].shape[2]
        sizes = OUTPUT(
            n, *sums.shape[1:], kernel, stride, padding, high, wide, out, len(found),
            torch.get_num_threads(),
        )  # fmt: skip
        addresses = (ctypes.c_void_p * len(found))(*(part.data_ptr() for part in found))
        kernels.int_finish(addresses, _at(sums), _at(factor), sizes)
    return y


def _largest(weight: Tensor, size: int) -> int:
    """Return the most that inputs of 0 and 1 make of `size` neighbouring channels."""
    parts = torch.stack([
        side.to(torch.int64).sum((1, 2, 3)).abs().max()
        for part in torch.split(weight, size, 1)
        for side in (part.clamp(min=0), part.clamp(max=0))
    ])  # fmt: skip
    return int(parts.max())


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
