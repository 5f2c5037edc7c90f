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
from typing import Any

import torch
from torch import Tensor

from search_spaces._layers._native import library, processor_flags
from search_spaces._layers._once import once
from search_spaces._layers.packing import unpack

EXACT = 2**24  # up to which a float holds every whole number
PAIR = 2**15  # two products of bytes must stay below it where they are summed in 16 bits
WINDOW = ctypes.c_int64 * 8


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


def avoided(kernel: int, a_bits: int, stride: int, padding: int, y: Tensor) -> bool:
    """Return whether oneDNN is not to be trusted with a convolution.

    Seen with oneDNN 3 and AMX in torch 2.13: garbage where strides leave a single column, and where
    whole windows lie in the padding of inputs whose 0 is not the code 0.
    """
    return (stride > 1 and y.shape[3] == 1) or (a_bits == 1 and padding >= kernel)


def quantise(
    x: Tensor, alpha: float, step: float, a_bits: int, *, sums: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the codes of x in bytes, channels_last, and their sums (N, H, W) where asked for.

    `step` is codes per unit. Signs are 0 and 2, and 1 stands for 0.
    """
    kernels = _kernels()
    assert kernels is not None
    n, c, h, w = x.shape
    last = x.is_contiguous(memory_format=torch.channels_last)
    x = x if last else x.contiguous()
    codes = torch.empty(x.shape, dtype=torch.uint8, memory_format=torch.channels_last)
    totals = torch.empty((n, h, w), dtype=torch.int32) if sums else None
    kernels.int_quantise(
        _at(x), _at(codes), _at(totals), *map(ctypes.c_int64, (n, c, h * w, last, a_bits == 1)),
        ctypes.c_float(alpha), ctypes.c_float(step), ctypes.c_int64(a_bits == 1),
        ctypes.c_int64(torch.get_num_threads()),
    )  # fmt: skip
    return codes, totals


def convolve(
    codes: Tensor,
    sums: Tensor | None,
    packed: Tensor,
    factor: Tensor,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
) -> Tensor:
    """Return factor (O,) or () times the sums of codes times weights, channels_last.

    `sums` of the codes are needed at 8 bits.
    """
    setting = (stride, padding, a_bits == 1, *codes.shape[2:], min(codes.shape[0], 2))
    how = ("bytes", *shape, *setting)
    parts, zeros = once(
        packed, how, lambda: _prepare(packed, shape, bits, a_bits, stride, padding, codes.shape)
    )
    factor = factor.reshape(-1).expand(shape[0])
    ones = torch.ones(shape[0]) if bits == 8 else factor.contiguous()
    found = []
    for first, weight in parts:
        x = codes if len(parts) == 1 else codes[:, first : first + weight.shape[1]]
        found.append(torch.ops.onednn.qconv2d_pointwise(
            x.contiguous(memory_format=torch.channels_last), 1.0, int(a_bits == 1), weight, ones,
            zeros, None, [stride] * 2, [padding] * 2, [1, 1], 1, 1.0, 0, torch.float32, "none",
            [None], "",
        ))  # fmt: skip
    y: Tensor = found[0]
    if bits == 8:
        assert sums is not None
        _finish(found, sums, factor.contiguous(), shape, stride, padding)
    return y


def _prepare(
    packed: Tensor,
    shape: list[int],
    bits: int,
    a_bits: int,
    stride: int,
    padding: int,
    x_shape: torch.Size,
) -> tuple[list[tuple[int, Any]], Tensor]:
    """Return the weight in oneDNN's order by its first channel, and zeros for all filters.

    At 8 bits the sums must come out of floats as they were: where they could be 2^24 or more, the
    channels are convolved in parts.
    """
    weight = signed_codes(packed, shape, bits)
    inner, size = shape[1], shape[1]
    if bits == 8:
        weight = (weight - 1) // 2
        largest = 2 if a_bits == 1 else 2**a_bits - 1
        while _largest(weight, size) * largest >= EXACT:
            size = -(-size // 2)
    parts = []
    for first in range(0, inner, size):
        part = weight[:, first : first + size].to(torch.int8).contiguous()
        like = [x_shape[0], part.shape[1], *x_shape[2:]]
        parts.append((first, torch.ops.onednn.qconv_prepack(
            part, torch.ones(shape[0]), 1.0, int(a_bits == 1), [stride] * 2, [padding] * 2, [1, 1],
            1, like,
        )))  # fmt: skip
    return parts, torch.zeros(shape[0], dtype=torch.int32)


def _largest(weight: Tensor, size: int) -> int:
    """Return the most that inputs of 0 and 1 make of `size` neighbouring channels."""
    parts = torch.stack([
        side.to(torch.int64).sum((1, 2, 3)).abs().max()
        for part in torch.split(weight, size, 1)
        for side in (part.clamp(min=0), part.clamp(max=0))
    ])  # fmt: skip
    return int(parts.max())


def _finish(
    found: list[Tensor],
    sums: Tensor,
    factor: Tensor,
    shape: list[int],
    stride: int,
    padding: int,
) -> None:
    kernels = _kernels()
    assert kernels is not None
    n, high, wide = found[0].shape[0], *found[0].shape[2:]
    window = (n, *sums.shape[1:], shape[2], stride, padding, high, wide)
    addresses = (ctypes.c_void_p * len(found))(*(y.data_ptr() for y in found))
    kernels.int_finish(
        addresses, ctypes.c_int64(len(found)), _at(sums), _at(factor), ctypes.c_int64(shape[0]),
        WINDOW(*window), ctypes.c_int64(torch.get_num_threads()),
    )  # fmt: skip


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
