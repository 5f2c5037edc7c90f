"""The sign of a tensor, sign(0) = +1, with one of three gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sign(x: Tensor) -> Tensor:
    """Return +1 where x >= 0, -1 elsewhere, in the type of `x`."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


class _Clipped(torch.autograd.Function):
    """Sign whose gradient passes where |x| <= 1 (arXiv:1602.02830, section 1.3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= 1, grad, 0.0)


class _Approximated(torch.autograd.Function):
    """Sign with the slope of a piecewise parabola, 2 - 2|x| (Bi-Real net, arXiv:1808.00278)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = (2 - 2 * x.abs()).clamp_min(0)
        return grad * slope


class _Whole(torch.autograd.Function):
    """Sign whose gradient passes everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def clipped(x: Tensor) -> Tensor:
    """Return sign(x); the gradient passes where |x| <= 1."""
    signs: Tensor = _Clipped.apply(x)  # type: ignore[no-untyped-call]
    return signs


def approximated(x: Tensor) -> Tensor:
    """Return sign(x); the gradient is weighed by 2 - 2|x| where |x| < 1, and 0 elsewhere."""
    signs: Tensor = _Approximated.apply(x)  # type: ignore[no-untyped-call]
    return signs


def whole(x: Tensor) -> Tensor:
    """Return sign(x); the gradient passes everywhere."""
    signs: Tensor = _Whole.apply(x)  # type: ignore[no-untyped-call]
    return signs
