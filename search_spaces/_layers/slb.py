"""SLB: every weight a relaxed choice among its 2^b levels (arXiv:2009.08695, NeurIPS 2020).

    W_c = sum_k softmax(t A)_k v_k      in training, with its exact gradient; t = 1 / temperature
    W_q = v[argmax_k A_k]               deployed, and in training once the choice is hard

The expectation keeps no softmax: it is computed in chunks, and again for the gradient. Two levels
need one number per weight: with h = (A_1 - A_0) / 2, W_c = tanh(t h).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nasx.relax import decide, relax, weights
from search_spaces._layers.levels import decoded, levels
from search_spaces._layers.quantised import QuantisedConv2d

CHUNK = 2**18  # logits whose softmax exists at a time: 1 MiB


class _Expectation(torch.autograd.Function):
    """Expected level per weight: logits (n, m) -> (n,), d/dA_k = t P_k (v_k - W)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, values: Tensor, t: float, chunk: int) -> Tensor:
        rows = max(1, chunk // len(values))
        soft = torch.empty(len(logits), dtype=logits.dtype, device=logits.device)
        for i in range(0, len(logits), rows):
            soft[i : i + rows] = relax(logits[i : i + rows], values, temperature=1 / t)
        ctx.save_for_backward(logits, values, soft)
        ctx.t, ctx.rows = t, rows
        return soft

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        logits, values, soft = ctx.saved_tensors
        (gradient,) = gradients
        scaled = gradient * ctx.t
        out = torch.empty_like(logits)
        for i in range(0, len(logits), ctx.rows):
            few = slice(i, i + ctx.rows)
            p = weights(logits[few], temperature=1 / ctx.t)
            torch.sub(values, soft[few, None], out=out[few])
            out[few].mul_(p).mul_(scaled[few, None])
        return out, None, None, None


def expectation(logits: Tensor, values: Tensor, t: float, chunk: int = CHUNK) -> Tensor:
    """Return `relax(logits, values, temperature=1/t)` without keeping the weights of the choices.

    logits (n, m), values (m,) -> (n,); at most `chunk` logits are expanded at a time, forward and
    backward. The gradient reaches the logits only, and cannot be differentiated again.
    """
    found: Tensor = _Expectation.apply(logits, values, t, chunk)  # type: ignore[no-untyped-call]
    return found


class SlbConv2d(QuantisedConv2d):
    """A convolution whose weights are searched among their levels by gradient.

    `t` and `hard` are set from outside before every step (see `set_temperature`). In eval mode,
    and in training while `hard`, the winning levels are used and no gradient reaches the logits.
    Logits start from N(0, std): equal ones would all decide for the first level.
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
        std: float = 0.1,
        reading: nn.Module | None = None,
        scaled: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__(
            c_in, c_out, kernel, stride, padding,
            bits=bits, reading=reading, scaled=scaled, bias=bias,
        )  # fmt: skip
        self.t, self.hard = 1.0, False
        shape = (c_out, c_in, kernel, kernel)
        # Two logits N(0, std) have half a difference of N(0, std / sqrt(2)). More logits stand in
        # three dimensions, because the memory format of images is asked of all with four or five.
        if bits == 1:
            first = torch.randn(shape) * (std / 2**0.5)
        else:
            first = torch.randn(c_out, c_in * kernel * kernel, 2**bits) * std
        self.latent = nn.Parameter(first)
        self.register_buffer("levels", levels(bits), persistent=False)

    @property
    def logits(self) -> Tensor:
        """Return the logit of every level of every weight, (O, C, k, k, 2^bits)."""
        if self.bits == 1:
            return torch.stack((-self.latent, self.latent), -1)
        return self.latent.view(*self.shape, -1)

    def soft_weight(self) -> Tensor:
        """Return the expected weights at `t`, (O, C, k, k), with their gradient."""
        if self.bits == 1:
            return torch.tanh(self.t * self.latent)
        values: Tensor = self.levels  # type: ignore[assignment]
        return expectation(self.latent.flatten(0, 1), values, self.t).view(self.shape)

    def weight_in_training(self) -> Tensor:
        """Return the expected weights, or the winning ones while `hard`."""
        return self.hard_weight() if self.hard else self.soft_weight()

    @torch.no_grad()
    def codes(self) -> Tensor:
        """Return the index of every weight's winning level, (O, C, k, k) uint8; ties: the first."""
        if self.bits == 1:
            return (self.latent > 0).to(torch.uint8)
        return decide(self.latent).to(torch.uint8).view(self.shape)

    def hard_weight(self) -> Tensor:
        """Return the winning level of every weight, (O, C, k, k)."""
        return decoded(self.codes(), self.bits)


def set_temperature(model: nn.Module, t: float, hard: bool) -> None:
    """Tell every SLB convolution of a network its inverse temperature, and whether it is hard."""
    for layer in model.modules():
        if isinstance(layer, SlbConv2d):
            layer.t, layer.hard = t, hard
