"""How much an operator will write, known before it runs: memory must not be spent to learn it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from nasx.cost.prices import GROWING, plain_name


def elements_written(func: OpOverload, args: tuple[Any, ...]) -> tuple[int, int]:
    """Return an upper bound of the elements an operator writes, and the bytes of one.

    Exact for convolutions and products of matrices; the broadcast of all arguments for what
    works elementwise; the sum of its arguments for what joins or reduces them.
    """
    tensors = list(_tensors(args))
    if not tensors:
        return _constant(args), 4
    itemsize = max(t.element_size() for t in tensors)
    name = plain_name(func)
    if name in ("convolution", "_convolution", "convolution_overrideable"):
        return _convolved(args), itemsize
    if name in ("mm", "bmm", "_int_mm", "_scaled_mm"):
        return math.prod(args[0].shape[:-1]) * args[1].shape[-1], itemsize
    if name in ("addmm", "baddbmm", "addbmm", "_addmm_activation"):
        return math.prod(args[1].shape[:-1]) * args[2].shape[-1], itemsize
    if name in SIZED:
        return SIZED[name](args), itemsize
    if name in GROWING:
        return _tried(func, args), itemsize
    if any(t.shape != tensors[0].shape for t in tensors[1:]):
        return max(_broadcast(tensors), sum(t.numel() for t in tensors)), itemsize
    return sum(t.numel() for t in tensors), itemsize


def _convolved(args: tuple[Any, ...]) -> int:
    """(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, _, stride, padding, dilation, transposed, extra, groups = args[:9]
    sides = []
    for i, side in enumerate(x.shape[2:]):
        s, p, d = (v[i] if len(v) > 1 else v[0] for v in (stride, padding, dilation))
        reach = d * (weight.shape[2 + i] - 1)
        if transposed:
            e = extra[i] if len(extra) > 1 else extra[0]
            sides.append((side - 1) * s - 2 * p + reach + e + 1)
        else:
            sides.append((side + 2 * p - reach - 1) // s + 1)
    channels = weight.shape[1] * groups if transposed else weight.shape[0]
    return int(x.shape[0] * channels * math.prod(sides))


def _unfolded(args: tuple[Any, ...]) -> int:
    """(x (N, C, H, W), kernel, dilation, padding, stride)."""
    x, kernel = args[:2]
    sides = zip(x.shape[-2:], kernel, *args[2:5], strict=True)
    places = math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in sides)
    return int(math.prod(x.shape[:-2]) * math.prod(kernel) * places)


def _resized(args: tuple[Any, ...]) -> int:
    """(x (N, C, ...), size, ...)."""
    return int(math.prod(args[0].shape[:2]) * math.prod(args[1]))


def _sampled(args: tuple[Any, ...]) -> int:
    """(x (N, C, ...), grid (N, ..., 2 or 3), ...)."""
    return int(math.prod(args[0].shape[:2]) * math.prod(args[1].shape[1:-1]))


# Asking these on tensors without memory would import torch's compiler: 3 s at the first.
SIZED = {
    "im2col": _unfolded,
    "grid_sampler_2d": _sampled,
    "grid_sampler_3d": _sampled,
    **{
        f"upsample_{kind}": _resized
        for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")
    },
}


def _broadcast(tensors: list[Tensor]) -> int:
    """Return the elements that the tensors broadcast to, 0 where they do not."""
    most = max(t.ndim for t in tensors)
    sizes = [(1,) * (most - t.ndim) + tuple(t.shape) for t in tensors]
    dims = list(zip(*sizes, strict=True))
    if any(n not in (1, max(of)) for of in dims for n in of):
        return 0  # packed weights beside an image, say
    return math.prod(max(of) for of in dims)


def _tried(func: OpOverload, args: tuple[Any, ...]) -> int:
    """Ask the operator itself, on tensors without memory."""

    def bare(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
        if isinstance(value, tuple | list):
            return type(value)(bare(v) for v in value)
        return value

    try:
        out = func(*bare(args))
    except Exception:  # it looks at values, or knows no shapes: its inputs' size must do
        return sum(t.numel() for t in _tensors(args))
    return sum(t.numel() for t in _tensors((out,)))


def _constant(args: tuple[Any, ...]) -> int:
    """Return the elements of torch.zeros(size) and its like, which take no tensor."""
    size = args[0] if args else ()
    if isinstance(size, tuple | list) and all(isinstance(n, int) for n in size):
        return math.prod(size)
    return 0


def _tensors(values: Any) -> Any:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
