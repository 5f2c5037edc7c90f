"""Rounding with straight-through gradients: quantisers of activations, and the baselines of SLB.

Activations take 2^a steps from 0 to alpha: DoReFa (alpha = 1, arXiv:1606.06160) or PACT (alpha is
learnt, arXiv:1805.06085); one bit is the sign, its gradient cut off outside [-1, 1]. Weights take
the levels that SLB has: DoReFa rounds tanh(w) / max |tanh(w)|, uniform rounding w / max |w|.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nasx.errors import NasxError
from search_spaces._layers.levels import decoded
from search_spaces._layers.packing import demand_width
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.signs import clipped

Rounding = Literal["dorefa", "ste"]
Act = Literal["dorefa", "pact"]
WIDEST = 3.0  # where PACT's alpha starts: nearly all of a normalised activation
LEAST = 0.05  # below which alpha may not fall


class _Step(torch.autograd.Function):
    """Round x in [0, alpha] to `steps` equal steps; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, steps: int) -> Tensor:
        y: Tensor = torch.round(x * (steps / alpha)) * (alpha / steps)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class _Level(torch.autograd.Function):
    """Take w in [-1, 1] to the nearest level; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, bits: int) -> Tensor:
        return decoded(_nearest(w, bits), bits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _nearest(w: Tensor, bits: int) -> Tensor:
    """Return the code of the level nearest to w in [-1, 1]; 0 goes to the upper of two levels."""
    if bits == 1:
        return (w >= 0).to(torch.uint8)
    return torch.round((w + 1) * ((2**bits - 1) / 2)).to(torch.uint8)


class Signs(nn.Module):
    """Read activations as one bit: their sign, sign(0) = +1, with a clipped gradient."""

    bits = 1

    def forward(self, x: Tensor) -> Tensor:
        """Return -1 or +1 for every element."""
        return clipped(x)


class Steps(nn.Module):
    """Read activations as codes of `bits`: clipped to [0, alpha] and rounded to 2^bits - 1 steps.

    With `learnt` alpha is a parameter (PACT): its gradient comes from what is clipped above. It
    must be kept positive (see `keep_positive`). NasxError for bits that are not 2, 4 or 8.
    """

    alpha: Tensor

    def __init__(self, bits: int, alpha: float = 1.0, *, learnt: bool = False) -> None:
        super().__init__()
        demand_width(bits, "activations")
        if bits == 1:
            raise NasxError("activations of 1 bit are signs, which have no steps: take Signs")
        self.bits = bits
        first = torch.tensor(alpha)
        if learnt:
            self.alpha = nn.Parameter(first)
        else:
            self.register_buffer("alpha", first)

    def forward(self, x: Tensor) -> Tensor:
        """Return the nearest step of every element."""
        alpha = self.alpha
        x = torch.where(x >= alpha, alpha, x.clamp_min(0))
        y: Tensor = _Step.apply(x, alpha.detach(), 2**self.bits - 1)  # type: ignore[no-untyped-call]
        return y


def reading(bits: int, act: Act) -> nn.Module | None:
    """Return how a convolution reads inputs of `bits`: None (float) at 32."""
    if bits == 32:
        return None
    if bits == 1:
        return Signs()
    return Steps(bits) if act == "dorefa" else Steps(bits, WIDEST, learnt=True)


@torch.no_grad()
def keep_positive(model: nn.Module) -> None:
    """Move every learnt alpha of a network that has come near 0 back to .05."""
    for layer in model.modules():
        if isinstance(layer, Steps):
            layer.alpha.clamp_(min=LEAST)


class RoundedConv2d(QuantisedConv2d):
    """A convolution with float weights that every step rounds to their levels.

    DoReFa's factor E|w| at one bit is left out: the normalisation that follows cancels it in the
    output, and Adam its size in the gradient. Where none follows, `scaled` learns one per filter.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        *,
        bits: int,
        rounding: Rounding = "dorefa",
        reading: nn.Module | None = None,
        scaled: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__(
            c_in, c_out, kernel, stride, padding,
            bits=bits, reading=reading, scaled=scaled, bias=bias,
        )  # fmt: skip
        self.rounding = rounding
        fan_out = c_out * kernel * kernel
        self.weight = nn.Parameter(torch.randn(self.shape) * math.sqrt(2 / fan_out))

    def _within(self) -> Tensor:
        """Return the weights within [-1, 1], before they are rounded."""
        if self.bits == 1:
            clipped = self.rounding == "ste"  # DoReFa lets the gradient pass everywhere
            return self.weight.clamp(-1, 1) if clipped else self.weight
        if self.rounding == "dorefa":
            bent = torch.tanh(self.weight)
            return bent / bent.abs().max().clamp_min(1e-12)
        return self.weight / self.weight.detach().abs().max().clamp_min(1e-12)

    def codes(self) -> Tensor:
        """Return the code of the level nearest to every weight, (O, C, k, k) uint8."""
        return _nearest(self._within().detach(), self.bits)

    def weight_in_training(self) -> Tensor:
        """Return the nearest levels, with the gradient of the weights before rounding."""
        w: Tensor = _Level.apply(self._within(), self.bits)  # type: ignore[no-untyped-call]
        return w
