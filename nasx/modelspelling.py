"""How the operators of an exported graph are written in readable torch.

An operator that stands in no table here is written as torch.ops.aten.NAME.OVERLOAD(...), so the
tables decide how a file reads, never whether it can be written.
"""

from __future__ import annotations

import json
import math
import operator
import re
import textwrap
from collections.abc import Iterator
from itertools import count
from typing import Any

from nasx.errors import NasxError

WIDTH = 100
INFIX = {
    "aten.add.Tensor": "+", "aten.sub.Tensor": "-", "aten.mul.Tensor": "*",
    "aten.div.Tensor": "/", "aten.matmul.default": "@",
    "aten.eq.Scalar": "==", "aten.ne.Scalar": "!=", "aten.lt.Scalar": "<", "aten.le.Scalar": "<=",
    "aten.gt.Scalar": ">", "aten.ge.Scalar": ">=",
}  # fmt: skip
SIZES = {  # arithmetic on sizes
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//",
    operator.truediv: "/", operator.mod: "%", operator.eq: "==", operator.ne: "!=",
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
}  # fmt: skip
# Operators whose arguments carry the same names in torch.nn.functional and in torch.
FUNCTIONAL = {
    "conv1d.default", "conv2d.default", "conv3d.default", "linear.default", "relu.default",
    "silu.default", "gelu.default", "hardswish.default", "hardsigmoid.default",
    "leaky_relu.default", "elu.default", "softplus.default", "adaptive_avg_pool2d.default",
    "avg_pool2d.default", "max_pool2d.default", "pad.default", "layer_norm.default",
    "scaled_dot_product_attention.default", "pixel_shuffle.default", "one_hot.default",
}  # fmt: skip
TORCH = {
    "sigmoid.default", "tanh.default", "cat.default", "stack.default", "flatten.using_ints",
    "softmax.int", "permute.default", "transpose.int", "reshape.default", "mean.dim",
    "sum.dim_IntList", "amax.default", "exp.default", "sqrt.default", "abs.default", "sign.default",
    "round.default",
    "clamp.default", "where.self", "roll.default", "chunk.default", "unbind.int", "select.int",
    "squeeze.dim", "unsqueeze.default", "any.default", "argmax.default", "index_select.default",
}  # fmt: skip
INPLACE = {
    "relu_.default", "silu_.default", "hardswish_.default", "hardsigmoid_.default",
    "leaky_relu_.default", "elu_.default",
}  # fmt: skip
METHODS = {"clone.default", "view.default", "expand.default"}
SAME = ("aten.detach.default", "aten.detach_.default", "aten.alias.default")
DROPOUT = ("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default")
CHECKS = re.compile(r"aten\.(_assert_|sym_constrain_range)")
UNSEEN = ("cudnn_enabled", "cudnn_enable")  # arguments that torch.nn.functional does not have


def quoted(text: str) -> str:
    """Return a string as Python source in double quotes."""
    return json.dumps(text)


def literal(value: Any) -> str:
    """Return a graph constant as Python source; lists become tuples."""
    import torch

    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, list | tuple):
        inner = ", ".join(literal(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, torch.device):
        return "device"
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool | int | float | complex):
        return repr(value)
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        return str(value)
    raise NasxError(f"the exported graph holds a {type(value).__name__}, which has no source form")


def structure(spec: Any, names: list[str]) -> str:
    """Return source that puts the flat outputs `names` into the tuples and dicts of `spec`."""
    from torch.utils._pytree import tree_unflatten

    class Name(str):
        def __repr__(self) -> str:
            return str(self)

    def text(value: Any) -> str:
        if isinstance(value, Name):
            return value
        if isinstance(value, dict):
            return "{" + ", ".join(f"{literal(k)}: {text(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(text(v) for v in value) + "]"
        if isinstance(value, tuple):
            return "(" + ", ".join(text(v) for v in value) + ("," if len(value) == 1 else "") + ")"
        return literal(value)

    return text(tree_unflatten([Name(n) for n in names], spec))


def wrapped(before: str, called: str, arguments: list[str]) -> list[str]:
    """Return a statement as one line, or as several where one would be too long."""
    if not arguments:
        return [f"{before}{called}"]
    inside = ", ".join(arguments)
    whole = f"{before}{called}({inside})"
    if len(whole) + 8 <= WIDTH:
        return [whole]
    lines = textwrap.wrap(inside, WIDTH - 12, break_long_words=False, break_on_hyphens=False)
    return [f"{before}{called}(", *(f"    {line}" for line in lines), ")"]


def local_names(kind: str) -> Iterator[str]:
    """Yield local names: n, n1, n2 for sizes; x, y, z, u, v, w, t1, t2 for tensors."""
    if kind == "n":
        yield "n"
        yield from (f"n{i}" for i in count(1))
    yield from "xyzuvw"
    yield from (f"t{i}" for i in count(1))
