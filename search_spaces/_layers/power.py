"""A power of each value with its sign kept, whose exponent is learnt: y to sign(y) |y|^alpha.

    activation = Power(channels=64)    # one exponent for each channel; Power() has one for all

Source: AdderSR (CVPR 2021, arXiv 2009.08891), eq. 11, in our reading. With
alpha above 1 it stretches contrast, below 1 it compresses it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nasx.errors import NasxError

LEAST, MOST = 0.3, 3.0  # bounds of alpha
FLOOR = 1e-4  # below this |y| the power goes on as a straight line through 0


class Power(nn.Module):
    """Return y * max(|y|, FLOOR)^(alpha - 1): sign(y) |y|^alpha, and a line through 0 near 0.

    So neither gradient is infinite or not a number at 0, and both are the true ones of what is
    computed. Any shape with `channels` in dimension 1, or any at all with None. alpha lies in
    (LEAST, MOST) and starts at `start` (NasxError elsewhere); `logit` is what is learnt,
    alpha = LEAST (MOST / LEAST)^sigmoid(logit). Let no weight decay act on it.
    """

    def __init__(self, channels: int | None = None, start: float = 1.0) -> None:
        super().__init__()
        if not LEAST < start < MOST:
            raise NasxError(f"Power: alpha = {start!r} must lie between {LEAST} and {MOST}")
        self.channels = channels
        share = math.log(start / LEAST) / math.log(MOST / LEAST)
        logit = math.log(share / (1 - share))
        self.logit = nn.Parameter(torch.full((1 if channels is None else channels,), logit))

    @property
    def alpha(self) -> Tensor:
        """Return the exponents, (1,) or (channels,)."""
        return LEAST * torch.exp(math.log(MOST / LEAST) * torch.sigmoid(self.logit))

    def forward(self, y: Tensor) -> Tensor:
        """Return the power of `y`, in its shape."""
        less = self.alpha - 1
        if self.channels is not None:
            less = less.view(-1, *[1] * (y.ndim - 2))
        return y * y.abs().clamp_min(FLOOR).pow(less)

    def extra_repr(self) -> str:
        """Return how many exponents there are."""
        return "" if self.channels is None else f"channels={self.channels}"


def exponents(model: nn.Module) -> list[nn.Parameter]:
    """Return what a network's powers learn: no decay may act on it."""
    return [layer.logit for layer in model.modules() if isinstance(layer, Power)]
