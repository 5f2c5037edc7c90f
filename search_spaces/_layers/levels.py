"""The levels of a low-bit weight: 2^b numbers in equal steps from -1 to 1, zero not among them."""

from __future__ import annotations

import torch
from torch import Tensor


def decoded(codes: Tensor, bits: int) -> Tensor:
    """Return the levels of codes 0..M, M = 2^bits - 1: (2k - M) / M in float32, any shape."""
    most = 2**bits - 1
    level: Tensor = (2 * codes.to(torch.float32) - most) / most
    return level


def levels(bits: int) -> Tensor:
    """Return all 2^bits levels in rising order, (2^bits,) float32."""
    return decoded(torch.arange(2**bits), bits)
