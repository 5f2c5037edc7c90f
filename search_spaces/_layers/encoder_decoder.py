"""The layers of an encoder and a decoder (arXiv:1706.03762), normalised before each branch.

Every layer maps tokens (N, T, dim) to (N, T, dim). What is added to queries and keys (places, or
what a decoder is asked) is not added to values, as in DETR (arXiv:2005.12872).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.attention import joined, split


class Attention(nn.Module):
    """Softmax attention of given queries, keys and values; no biases anywhere."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, asked: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Map (N, T, dim), with keys and values (N, S, dim), to (N, T, dim)."""
        parts = self.q(asked), self.k(keys), self.v(values)
        q, k, v = (split(part, self.heads) for part in parts)
        y: Tensor = self.out(joined(functional.scaled_dot_product_attention(q, k, v)))
        return y


def mlp(dim: int, units: int) -> nn.Sequential:
    """Return two linear layers with a ReLU between them."""
    return nn.Sequential(nn.Linear(dim, units), nn.ReLU(), nn.Linear(units, dim))


class EncoderLayer(nn.Module):
    """Tokens attend to each other; then two linear layers."""

    def __init__(self, dim: int, heads: int, units: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention, self.mlp = Attention(dim, heads), mlp(dim, units)

    def forward(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        """Map (N, T, dim); `place` (T, dim) is added to queries and keys."""
        y = self.norm1(x)
        at = _with(y, place)
        x = x + self.attention(at, at, y)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class DecoderLayer(nn.Module):
    """Tokens that carry a question attend to each other, then to the encoder's memory."""

    def __init__(self, dim: int, heads: int, units: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.own, self.cross = Attention(dim, heads), Attention(dim, heads)
        self.mlp = mlp(dim, units)

    def forward(
        self, x: Tensor, memory: Tensor, question: Tensor, place: Tensor | None = None
    ) -> Tensor:
        """Map (N, T, dim); `question` (T, dim) is added to queries, `place` to memory's keys."""
        y = self.norm1(x)
        asked = y + question
        x = x + self.own(asked, asked, y)
        x = x + self.cross(self.norm2(x) + question, _with(memory, place), memory)
        out: Tensor = x + self.mlp(self.norm3(x))
        return out


def _with(x: Tensor, place: Tensor | None) -> Tensor:
    return x if place is None else x + place
