"""Vision transformers from a plan: flat or pyramid, each stage with its own kind of attention.

    plan = TransformerPlan(3, 32, 10, stages=(TransformerStage(depth=6, dim=96),), patch=4)
    transformer(plan)     # (N, 3, 32, 32) to (N, 10) logits

Blocks normalise first: x + attention(norm(x)), then x + mlp(norm(x)). A network is built for one
size of image; grids that patches or windows do not divide are padded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from search_spaces._layers.attention import ConvMixing, Heads
from search_spaces._layers.grids import Grid, sines
from search_spaces._layers.inner import WordStem
from search_spaces._layers.stems import stem
from search_spaces._layers.transformer_block import ClassAttention, Mlp
from search_spaces._transformer_plan import TransformerPlan
from search_spaces._transformer_stage import Stage

GAIN = 0.2  # at which branches start; at 1 small networks stay at chance for long


class Transformer(nn.Module):
    """A whole classifier; `answers` gives both classifiers of a distilled one."""

    def __init__(self, plan: TransformerPlan) -> None:
        super().__init__()
        self.whole = True  # until heads or hidden units are cut
        grid, first, last = plan.grid(), plan.stages[0], plan.stages[-1]
        self.prefix, self.words = plan.prefix, plan.inner > 0
        self.stem: nn.Module
        if self.words:
            self.stem = WordStem(plan.inputs, first.dim, plan.patch, plan.inner)
        else:
            self.stem = stem(plan.stem, plan.inputs, first.dim, plan.patch, grid)
        self.stem_norm = nn.LayerNorm(first.dim) if plan.normed_stem else nn.Identity()
        self.tokens: nn.Parameter | None = None
        if self.prefix:
            self.tokens = nn.Parameter(torch.randn(1, self.prefix, first.dim) * 0.02)
        self.places = _places(plan, grid)
        self.stages = nn.ModuleList()
        done, depth = 0, sum(stage.depth for stage in plan.stages)
        for i, stage in enumerate(plan.stages):
            made = Stage(plan, i, grid, done, depth)
            self.stages.append(made)
            grid, done = made.grid, done + stage.depth
        self.norm = nn.LayerNorm(last.dim) if plan.normed == "end" else nn.Identity()
        self.peaks = plan.pool == "mean_max"
        self.pool: ClassAttention | None = None
        if plan.pool == "class_attention":
            heads = Heads(last.dim, last.head_count, last.head_dim)
            self.pool = ClassAttention(last.dim, heads, last.units)
        self.head = nn.Linear(last.dim, plan.classes)
        self.second = nn.Linear(last.dim, plan.classes) if plan.distilled else None
        self.apply(_start)
        if not plan.layer_scale:
            _soften(self.stages)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the two classifiers see, (N, dim) each; the same where there is no second."""
        words: Tensor | None = None
        if self.words:
            words, x = self.stem(x)
        else:
            x = self.stem(x)
        x = self.stem_norm(x)
        if self.tokens is not None:
            x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), x], 1)
        if self.places is not None:
            x = x + self.places
        for stage in self.stages:
            x = stage(x, words)
        x = self.norm(x)
        if self.pool is not None:
            x = self.pool(x)
        elif self.prefix:
            return x[:, 0], x[:, self.prefix - 1]
        elif self.peaks:
            x = x.mean(1) + x.amax(1)
        else:
            x = x.mean(1)
        return x, x

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the classifier and of the distilled one, the same without."""
        first, second = self.features(x)
        logits = self.head(first)
        return logits, logits if self.second is None else self.second(second)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, S, S) to (N, classes): the mean of both classifiers."""
        first, second = self.answers(x)
        return first if self.second is None else (first + second) / 2


def transformer(plan: TransformerPlan) -> Transformer:
    """Return the untrained network of a plan: (N, inputs, side, side) to (N, classes) logits."""
    return Transformer(plan)


def _places(plan: TransformerPlan, grid: Grid) -> Tensor | None:
    """Return what is added to the tokens: learnt, fixed or nothing."""
    dim = plan.stages[0].dim
    if plan.position == "learned":
        return nn.Parameter(torch.randn(1, grid.tokens, dim) * 0.02)
    if plan.position == "sine":
        return nn.Buffer(sines(grid, dim).unsqueeze(0), persistent=False)
    return None


def _start(layer: nn.Module) -> None:
    """Start linear layers from N(0, 1 / fan_in), convolutions from N(0, 2 / fan_out).

    The usual .02 suits 384 channels and more; small networks learn from it at a crawl.
    """
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0.0, layer.in_features**-0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Conv2d):
        fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _soften(stages: nn.ModuleList) -> None:
    """Start every branch beside the tokens at a share of its gain, so nearly at the identity."""
    ends: list[nn.Module] = []
    for layer in stages.modules():
        if isinstance(layer, Heads | ConvMixing):
            ends.append(layer.out)
        elif isinstance(layer, Mlp):
            ends.append(layer.narrow)
        elif isinstance(layer, Stage) and layer.places is not None:
            ends.append(layer.places.layer)  # type: ignore[arg-type]
    for layer in ends:
        layer.weight.data.mul_(GAIN)  # type: ignore[operator]
