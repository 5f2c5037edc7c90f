"""A transformer inside every patch (TNT, arXiv:2103.00112): words of a patch, then patches.

A patch has 4 x 4 words of `inner` channels. The words' convolution sees one patch alone, with zeros
around it, as in the official code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.attention import Heads
from search_spaces._layers.grids import padded

WORDS = 16
HEADS = 4  # of the inner transformer


class WordStem(nn.Module):
    """Make words of patches, and patches of their words."""

    def __init__(self, inputs: int, dim: int, patch: int, inner: int) -> None:
        super().__init__()
        self.patch, self.inputs = patch, inputs
        self.conv = nn.Conv2d(inputs, inner, 7, patch // 4, 3)
        self.places = nn.Parameter(torch.randn(1, WORDS, inner) * 0.02)
        self.project = nn.Sequential(
            nn.LayerNorm(WORDS * inner), nn.Linear(WORDS * inner, dim), nn.LayerNorm(dim)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to words (N patches, 16, inner) and patches (N, patches, dim)."""
        cut = functional.unfold(padded(x, self.patch), self.patch, stride=self.patch)
        count, _, patches = cut.shape
        squares = cut.transpose(1, 2).reshape(-1, self.inputs, self.patch, self.patch)
        words = self.conv(squares).flatten(2).transpose(1, 2) + self.places
        return words, self.project(words.reshape(count, patches, -1))


class InnerBlock(nn.Module):
    """One layer over the words, and what the patches take of them."""

    def __init__(self, dim: int, inner: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(inner), nn.LayerNorm(inner)
        self.heads = Heads(inner, HEADS, inner // HEADS, bias=False)
        wide = ratio * inner
        self.mlp = nn.Sequential(nn.Linear(inner, wide), nn.GELU(), nn.Linear(wide, inner))
        self.project = nn.Sequential(
            nn.LayerNorm(WORDS * inner),
            nn.Linear(WORDS * inner, dim, bias=False),
            nn.LayerNorm(dim),
        )

    def forward(self, words: Tensor, patches: int) -> tuple[Tensor, Tensor]:
        """Map words (N patches, 16, inner) to words and to (N, patches, dim) for the patches."""
        read = self.norm1(words)
        words = words + self.heads(read, read)
        words = words + self.mlp(self.norm2(words))
        return words, self.project(words.reshape(-1, patches, WORDS * words.shape[-1]))
