"""A layer that adds where a convolution multiplies: each output is -sum |x - w| over a window.

    layer = AdderConv2d(16, 32, 3, stride=2, padding=1)    # in place of nn.Conv2d

Source: AdderNet (CVPR 2020, arXiv 1912.13200). Zero padding is not neutral: a padded place adds
-|w|. Outputs are large and negative; a normalisation has to follow.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.cost.ops import Ops
from nasx.errors import NasxError
from search_spaces._layers._adder_ops import adder_conv2d, runs_on

ABOVE = 1.01  # times its norm that a normalised gradient may have by rounding (bfloat16: .4 %)


def adder_conv2d_reference(
    x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, eta: float = 0.2
) -> torch.Tensor:
    """Compute nasx::adder_conv2d in plain torch, one kernel tap at a time (eta: of training)."""
    kernel = weight.shape[-1]
    height = (x.shape[2] + 2 * padding - kernel) // stride + 1
    width = (x.shape[3] + 2 * padding - kernel) // stride + 1
    x = F.pad(x, (padding, padding, padding, padding)).unsqueeze(1)
    y = x  # replaced at the first tap
    for a in range(kernel):
        for b in range(kernel):
            rows = slice(a, a + stride * (height - 1) + 1, stride)
            columns = slice(b, b + stride * (width - 1) + 1, stride)
            tap = weight[:, :, a, b].unsqueeze(-1).unsqueeze(-1)
            distance = (x[:, :, :, rows, columns] - tap).abs().sum(2)
            y = distance if a == b == 0 else y + distance
    return -y


class AdderConv2d(nn.Module):
    """Convolve with additions only: (N, C, H, W) to (N, O, H', W') = -sum |x - w|, plus a bias.

    `weight` is (O, C, k, k) and starts as N(0, 1). Its gradient is scaled to norm
    `eta` * sqrt(numel) at each backward pass, so gradients must not be summed: neither over two
    passes, nor over two layers that share a weight (NasxError). NasxError as well for groups,
    dilation, kernels that are not square, and inputs that do not fit.
    """

    references = {"nasx::adder_conv2d": adder_conv2d_reference}  # noqa: RUF012 # read, never set

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = False,
        eta: float = 0.2,
        *,
        groups: int = 1,
        dilation: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        if groups != 1 or dilation not in (1, (1, 1)):
            raise NasxError(
                f"AdderConv2d has no groups and no dilation (groups={groups}, "
                f"dilation={dilation}): leave them at 1, or use nn.Conv2d there"
            )
        if not isinstance(bias, bool):
            raise NasxError(f"AdderConv2d: its sixth argument is bias, True or False, not {bias!r}")
        if not (isinstance(eta, int | float) and math.isfinite(eta) and eta > 0):
            raise NasxError(f"AdderConv2d: eta = {eta!r} must be > 0 and finite")
        self.in_channels = _whole("in_channels", in_channels, 1)
        self.out_channels = _whole("out_channels", out_channels, 1)
        self.kernel_size = _side("kernel_size", kernel_size, 1)
        self.stride = _side("stride", stride, 1)
        self.padding = _side("padding", padding, 0)
        self.eta = eta
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, self.kernel_size, self.kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()
        self._watch()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 1); the bias starts at 0."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative distances of all windows to all filters."""
        y: Tensor = adder_conv2d(x, self.weight, self.stride, self.padding, self.eta)
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)

    @property
    def kernel(self) -> str:
        """Return what computes this layer here."""
        return runs_on(self.weight)

    def count_ops(self, x: Tensor, output: Tensor) -> Ops:
        """Return two additions per tap: the difference, and the sum."""
        return Ops(adds=2 * output.numel() * self.in_channels * self.kernel_size**2)

    def extra_repr(self) -> str:
        """Return the arguments as they were given."""
        return (
            f"{self.in_channels}, {self.out_channels}, {self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, bias={self.bias is not None}, eta={self.eta}"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._watch()  # copies and unpickled layers have parameters without hooks

    def _watch(self) -> None:
        """Have the sum of two normalised gradients found out as it comes about."""
        layer, last = weakref.ref(self), _Untouched()

        def check(weight: Tensor) -> None:
            here = layer()
            if here is not None and weight.grad is not None:
                here._demand_one_gradient(weight.grad, added=last.added_to(weight.grad))

        self.weight.register_post_accumulate_grad_hook(check)  # type: ignore[no-untyped-call]

    def _demand_one_gradient(self, grad: Tensor, *, added: bool) -> None:
        """Refuse a norm that is none of one gradient; a shorter one if it was `added` to."""
        most = self.eta * math.sqrt(grad.numel())
        norm = torch.linalg.vector_norm(grad.float()).item()
        if norm > ABOVE * most or (added and norm * ABOVE < most):
            raise NasxError(
                "the gradients of an adder layer were added up over two backward passes or two "
                "layers that share its weight; each is scaled by itself, so their sum means "
                "nothing: call zero_grad() before every backward(), on one larger batch"
            )


class _Untouched:
    """Remembers a gradient, to tell whether the next was added to it as it stood.

    Two gradients that point apart may have a sum of less than the norm of one, which the norm
    alone does not give away.
    """

    def __init__(self) -> None:
        self._gradient: weakref.ref[Tensor] | None = None
        self._version = 0

    def added_to(self, grad: Tensor) -> bool:
        """Return whether nothing but an addition happened to `grad` since it was last shown."""
        known = self._gradient is not None and self._gradient() is grad
        added = known and grad._version == self._version + 1
        self._gradient, self._version = weakref.ref(grad), grad._version
        return added


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise NasxError(f"AdderConv2d: {name} = {value!r} must be a whole number >= {least}")
    return value


def _side(name: str, value: Any, least: int) -> int:
    """Return the one number of a square setting, given as n or (n, n)."""
    if isinstance(value, tuple) and len(value) == 2:
        if value[0] != value[1]:
            raise NasxError(f"AdderConv2d: {name} = {value} must be the same in both directions")
        value = value[0]
    return _whole(name, value, least)
