"""Shapes and costs of standard layers and functions in closed form, for the quick count.

An answer is (shape of the output, operator, operations); a shape of None hands the input on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nasx.cost.prices import NONE, Ops
from nasx.shape import Shape

Found = tuple[Shape | None, str, Ops]
Answer = Callable[[Any, Shape], Found]


class NotPlain(Exception):
    """Raised where the quick count does not know the answer for certain."""


def _convolution(layer: Any, shape: Shape) -> Found:
    kernel = layer.kernel_size
    weight = (layer.out_channels, layer.in_channels // layer.groups, *kernel)
    if (
        layer.padding_mode != "zeros"
        or layer._parameters["weight"].shape != weight  # replaced by a smaller one, say
        or isinstance(layer.padding, str)
        or len(shape) != len(kernel) + 2
        or shape[1] != layer.in_channels
    ):
        raise NotPlain
    sides = _sides(shape[2:], kernel, layer.stride, layer.padding, layer.dilation)
    out = (shape[0], layer.out_channels, *sides)
    taps = layer.in_channels // layer.groups * math.prod(kernel)
    return out, "aten.convolution", Ops(macs=math.prod(out) * taps)


def _sides(sizes: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Shape:
    """Return what a window leaves of each side."""
    found = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
    if min(found) < 1:
        raise NotPlain
    return found


def _linear(layer: Any, shape: Shape) -> Found:
    weight = (layer.out_features, layer.in_features)
    if len(shape) != 2 or shape[1] != weight[1] or layer._parameters["weight"].shape != weight:
        raise NotPlain
    out = (shape[0], layer.out_features)
    name = "aten.mm" if layer.bias is None else "aten.addmm"
    return out, name, Ops(macs=math.prod(out) * layer.in_features)


def _norm(dims: int) -> Answer:
    def answer(layer: Any, shape: Shape) -> Found:
        mean = layer._buffers["running_mean"]
        if len(shape) != dims + 2 or mean is None or mean.shape != (shape[1],):
            raise NotPlain
        return shape, "aten.native_batch_norm", Ops(elementwise=math.prod(shape))

    return answer


def _pointwise(name: str) -> Answer:
    def answer(layer: Any, shape: Shape) -> Found:
        here = None if getattr(layer, "inplace", False) else shape
        return here, f"aten.{name}", Ops(elementwise=math.prod(shape))

    return answer


def _pooling(layer: Any, shape: Shape) -> Found:
    if layer.ceil_mode or len(shape) != 4:
        raise NotPlain
    kernel, stride, padding = (_pair(v) for v in (layer.kernel_size, layer.stride, layer.padding))
    out = (*shape[:2], *_sides(shape[2:], kernel, stride, padding, (1, 1)))
    return out, "aten.avg_pool2d", Ops(elementwise=math.prod(out))


def _max_pooling(layer: Any, shape: Shape) -> Found:
    if layer.return_indices or _pair(layer.dilation) != (1, 1):
        raise NotPlain
    out, _, ops = _pooling(layer, shape)
    return out, "aten.max_pool2d_with_indices", ops


def _adaptive(layer: Any, shape: Shape) -> Found:
    side = _pair(layer.output_size)
    if len(shape) != 4 or None in side:
        raise NotPlain
    out = (*shape[:2], *side)
    name = "aten.mean" if side == (1, 1) else "aten._adaptive_avg_pool2d"
    return out, name, Ops(elementwise=math.prod(out))


def _pair(value: Any) -> Shape:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _nothing(layer: Any, shape: Shape) -> Found:
    return None, "", NONE


LAYERS: dict[type, Answer] = {
    nn.Conv1d: _convolution, nn.Conv2d: _convolution, nn.Conv3d: _convolution,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm(2), nn.BatchNorm3d: _norm(3),
    nn.ReLU: _pointwise("relu"), nn.ReLU6: _pointwise("hardtanh"), nn.SiLU: _pointwise("silu"),
    nn.Sigmoid: _pointwise("sigmoid"), nn.Tanh: _pointwise("tanh"), nn.GELU: _pointwise("gelu"),
    nn.Hardswish: _pointwise("hardswish"), nn.Hardsigmoid: _pointwise("hardsigmoid"),
    nn.LeakyReLU: _pointwise("leaky_relu"), nn.ELU: _pointwise("elu"),
    nn.MaxPool2d: _max_pooling, nn.AvgPool2d: _pooling, nn.AdaptiveAvgPool2d: _adaptive,
    nn.Identity: _nothing, nn.Dropout: _nothing, nn.Dropout2d: _nothing,
}  # fmt: skip


def _unary(name: str) -> Callable[[tuple[Any, ...]], Found]:
    def answer(args: tuple[Any, ...]) -> Found:
        if len(args) != 1:
            raise NotPlain
        shape = tuple(args[0].shape)
        return shape, f"aten.{name}", Ops(elementwise=math.prod(shape))

    return answer


def _binary(name: str) -> Callable[[tuple[Any, ...]], Found]:
    def answer(args: tuple[Any, ...]) -> Found:
        if len(args) != 2:
            raise NotPlain
        shape = broadcast([tuple(a.shape) if isinstance(a, Tensor) else () for a in args])
        return shape, f"aten.{name}", Ops(elementwise=math.prod(shape))

    return answer


def _reduction(name: str) -> Callable[[tuple[Any, ...]], Found]:
    """(x, dims) or (x, dims, keepdim)."""

    def answer(args: tuple[Any, ...]) -> Found:
        x, dims, keep = (*args, False)[:3]
        if isinstance(dims, int):
            dims = (dims,)
        gone = {d % x.ndim for d in dims}
        kept = ((1 if i in gone else n) for i, n in enumerate(x.shape) if keep or i not in gone)
        shape = tuple(kept)
        return shape, f"aten.{name}", Ops(elementwise=math.prod(shape))

    return answer


def _padding(args: tuple[Any, ...]) -> Found:
    """(x, (before, after) of the last dimension, of the one before it, ...), with constants."""
    shape, pad = list(args[0].shape), args[1]
    for i in range(len(pad) // 2):
        shape[-1 - i] += pad[2 * i] + pad[2 * i + 1]
    if len(args) != 2 or len(pad) % 2 or len(pad) > 2 * len(shape) or min(pad) < 0:
        raise NotPlain
    return tuple(shape), "aten.constant_pad_nd", Ops(elementwise=math.prod(shape))


def _selection(args: tuple[Any, ...]) -> Found:
    """(x, dim, index (K))."""
    x, dim, index = args
    if index.ndim != 1 or index.is_meta or index.is_floating_point() or index.numel() == 0:
        raise NotPlain
    shape = list(x.shape)
    if not 0 <= int(index.min()) <= int(index.max()) < shape[dim]:
        raise NotPlain  # the walk says what is wrong
    shape[dim] = index.numel()
    return tuple(shape), "aten.index_select", Ops(elementwise=math.prod(shape))


def broadcast(shapes: list[Shape]) -> Shape:
    """Return the shape that these broadcast to."""
    most = max(map(len, shapes))
    sizes = zip(*((1,) * (most - len(s)) + s for s in shapes), strict=True)
    found = []
    for dims in sizes:
        wide = {n for n in dims if n != 1}
        if len(wide) > 1:
            raise NotPlain
        found.append(wide.pop() if wide else 1)
    return tuple(found)


INDICES = 8  # bytes of the position that max pooling keeps with each element, and drops
FUNCTIONS: dict[str, Callable[[tuple[Any, ...]], Found]] = {
    **{n: _unary(n) for n in ("relu", "sigmoid", "silu", "tanh", "hardswish", "hardsigmoid")},
    **{n + "_": _unary(n) for n in ("relu", "sigmoid")},
    **{n: _binary(n) for n in ("add", "sub", "mul", "div")},
    **{n + "_": _binary(n) for n in ("add", "mul")},
    **{n: _reduction(n) for n in ("mean", "amax")},
    "pad": _padding, "index_select": _selection,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {"pad": {"mode": "constant", "value": None}}
LOOKS = {"dim", "size", "numel", "is_floating_point", "__len__", "stride"}
ATTRIBUTES = {"shape", "dtype", "ndim"}  # others tell an input without numbers from a real one
VIEWS = {
    "view", "flatten", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "chunk", "split",
    "__getitem__",
}  # fmt: skip
