"""The adder convolution as operators of torch: output, and gradients of input and weight.

    y = torch.ops.nasx.adder_conv2d(x, weight, stride, padding, eta)

The gradients are those that adder networks are trained with, not the derivative of the output
(AdderNet, CVPR 2020, arXiv 1912.13200, section 3; seed of PKKD, arXiv 2009.13044). With G the
gradient of the output:

    input   sum_o clip(w - x, -1, 1) * G                                   (HardTanh)
    weight  r * eta * sqrt(numel) / max(|r|, 1e-12),  r = sum_places (x - w) * G

r is an ordinary convolution's weight gradient minus w * sum G. Half precision is computed in
float32 and rounded once; autocast runs the layer in float32.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nasx.errors import NasxError
from search_spaces._layers import _adder_kernel as kernel
from search_spaces._layers import _adder_plain as plain
from search_spaces._layers._native import OPERATORS, isa, operator

LEAST = 1e-12  # norm of a weight gradient below which it is not scaled up any more
HALF = (torch.float16, torch.bfloat16)


def _demand(x: Tensor, weight: Tensor, stride: int, padding: int) -> None:
    """Refuse what the layer is not made for, in one sentence."""
    if x.ndim != 4 or weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise NasxError(
            f"an adder convolution takes an input (N, C, H, W) and filters (O, C, k, k), not "
            f"{_sizes(x)} and {_sizes(weight)}"
        )
    if x.shape[1] != weight.shape[1]:
        raise NasxError(
            f"the input {_sizes(x)} has {x.shape[1]} channels and the adder filters "
            f"{_sizes(weight)} have {weight.shape[1]}: make them equal"
        )
    if x.dtype != weight.dtype:
        raise NasxError(
            f"an adder convolution's input is {x.dtype} and its weight {weight.dtype}: "
            "convert one of them, or use torch.autocast"
        )
    if x.dtype not in (torch.float32, torch.float64, *HALF):
        raise NasxError(f"an adder convolution takes floating-point numbers, not {x.dtype}")
    if x.device != weight.device:
        raise NasxError(f"the input is on {x.device} and the adder filters on {weight.device}")
    if stride < 1 or padding < 0:
        raise NasxError(f"stride {stride} must be >= 1 and padding {padding} >= 0")
    if min(x.shape[2:]) + 2 * padding < weight.shape[2]:
        raise NasxError(
            f"the input {_sizes(x)} with padding {padding} is smaller than the adder kernel of "
            f"{weight.shape[2]} x {weight.shape[2]}"
        )


def _sizes(tensor: Tensor) -> str:
    return f"({', '.join(str(n) for n in tensor.shape)})"


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the precision to add up in."""
    return tensor.float() if tensor.dtype in HALF else tensor


def runs_on(weight: Tensor) -> str:
    """Return what computes a layer of this weight here."""
    made = kernel.kernels(_wide(weight.detach()))
    return "adder (plain torch)" if made is None else f"adder ({isa()})"


def _forward(x: Tensor, weight: Tensor, stride: int, padding: int, eta: float = 0.2) -> Tensor:
    y = _forward_shape(x, weight, stride, padding)
    x, weight = _wide(x), _wide(weight)
    made = kernel.kernels(x, weight)
    if made is None:
        return y.copy_(plain.forward(x, weight, stride, padding))
    found = y if y.dtype == x.dtype else kernel.empty(tuple(y.shape), x)
    kernel.forward(made, x, weight, stride, padding, found)
    return found.to(y.dtype)


def _forward_shape(
    x: Tensor, weight: Tensor, stride: int, padding: int, eta: float = 0.2
) -> Tensor:
    _demand(x, weight, stride, padding)
    sides = plain.sides(x, weight, stride, padding)
    return kernel.empty((x.shape[0], weight.shape[0], *sides), x)


def _grad_input(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    kind = x.dtype
    grad, x, weight = _wide(grad), _wide(x), _wide(weight)
    made = kernel.kernels(grad, x, weight)
    if made is not None:
        return kernel.grad_input(made, grad, x, weight, stride, padding).to(kind)
    found = plain.grad_input(grad, x, weight, stride, padding)
    return kernel.empty(tuple(x.shape), x).copy_(found).to(kind)


def _grad_input_shape(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return kernel.empty(tuple(x.shape), x)


def _grad_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, eta: float
) -> Tensor:
    grad, x, wide = _wide(grad), _wide(x), _wide(weight)
    found = torch.ops.aten.convolution_backward(
        grad, x, wide, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
        [False, True, False],
    )[1]  # fmt: skip
    found = found.addcmul(wide, grad.sum((0, 2, 3)).view(-1, 1, 1, 1), value=-1)
    size = torch.linalg.vector_norm(found).clamp_min(LEAST)
    return torch.empty_like(weight).copy_(found * (eta * math.sqrt(found.numel()) / size))


def _grad_weight_shape(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, eta: float
) -> Tensor:
    return torch.empty_like(weight)


adder_conv2d = operator(
    "adder_conv2d(Tensor x, Tensor weight, int stride, int padding, float eta=0.2) -> Tensor",
    _forward, _forward_shape,
)  # fmt: skip
grad_input = operator(
    "adder_conv2d_grad_input(Tensor grad, Tensor x, Tensor weight, int stride, int padding) "
    "-> Tensor",
    _grad_input, _grad_input_shape,
)  # fmt: skip
grad_weight = operator(
    "adder_conv2d_grad_weight(Tensor grad, Tensor x, Tensor weight, int stride, int padding, "
    "float eta) -> Tensor",
    _grad_weight, _grad_weight_shape,
)  # fmt: skip


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.stride, ctx.padding, ctx.eta = inputs
    ctx.save_for_backward(x, weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    setting = (ctx.stride, ctx.padding)
    of_x = grad_input(grad, x, weight, *setting) if ctx.needs_input_grad[0] else None
    of_weight = grad_weight(grad, x, weight, *setting, ctx.eta) if ctx.needs_input_grad[1] else None
    return of_x, of_weight, None, None, None


def _no_second(ctx: Any, grad: Tensor) -> tuple[None, ...]:
    raise NasxError(
        "an adder layer has no second derivative: its gradients are surrogates that no function "
        "has; call backward without create_graph"
    )


torch.library.register_autograd("nasx::adder_conv2d", _backward, setup_context=_keep, lib=OPERATORS)
for name in ("grad_input", "grad_weight"):
    torch.library.register_autograd(f"nasx::adder_conv2d_{name}", _no_second, lib=OPERATORS)
for device in ("cpu", "cuda"):
    torch.library.register_autocast("nasx::adder_conv2d", device, torch.float32, lib=OPERATORS)
