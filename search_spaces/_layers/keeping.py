"""Keep the tokens that matter and melt the rest into one (EViT, arXiv:2202.07800, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.attention import Heads, joined, split


class KeepingAttention(nn.Module):
    """Global attention that also says how much of it each token gets.

    With a class token that is the class token's attention, without one that of the mean query,
    over all heads.
    """

    def __init__(self, heads: Heads, prefix: int) -> None:
        super().__init__()
        self.heads, self.prefix = heads, prefix

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, T, dim) to (N, T, dim) and shares (N, T - prefix)."""
        heads = self.heads
        keys, values = heads.kv(x).chunk(2, -1)
        q, k, v = (split(part, heads.heads) for part in (heads.q(x), keys, values))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        asking = q[:, :, :1] if self.prefix else q.mean(2, keepdim=True)
        scores = asking @ k.transpose(-2, -1) * heads.head_dim**-0.5
        shares = scores.softmax(-1).mean((1, 2))
        return heads.out(joined(mixed)), shares[:, self.prefix :]


class Keep(nn.Module):
    """Keep `kept` of the tokens behind the prefix, best first; the rest become their mean."""

    def __init__(self, kept: int, prefix: int) -> None:
        super().__init__()
        self.kept, self.prefix = kept, prefix

    def extra_repr(self) -> str:
        """Return how many stay, for printing."""
        return f"kept={self.kept}, prefix={self.prefix}"

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """Map (N, P + T, dim) and shares (N, T) to (N, P + kept + 1, dim)."""
        first, rest = x[:, : self.prefix], x[:, self.prefix :]
        best = shares.topk(self.kept, 1).indices
        chosen = rest.gather(1, best.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        # What all tokens give less what the chosen ones give: no second gather.
        taken = shares.gather(1, best)
        left = (shares.sum(1) - taken.sum(1)).clamp_min(1e-6)
        whole = (shares.unsqueeze(1) @ rest) - (taken.unsqueeze(1) @ chosen)
        return torch.cat([first, chosen, whole / left[:, None, None]], 1)
