"""Feature maps cut into square patches, and put together again."""

from __future__ import annotations

from torch import Tensor


def to_patches(x: Tensor, patch: int) -> Tensor:
    """Return (N, C, H, W) as tokens (N, H W / p^2, C p^2), in the order of torch's unfold."""
    n, c, h, w = x.shape
    cut = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * patch**2)


def from_patches(tokens: Tensor, patch: int, rows: int) -> Tensor:
    """Return tokens of a square of `rows` patches a side as (N, C, H, W), as torch's fold does."""
    cut = tokens.reshape(tokens.shape[0], rows, rows, -1, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape[0], -1, rows * patch, rows * patch)
