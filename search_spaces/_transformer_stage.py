"""One stage of a vision transformer: a merge, blocks, and what gives its tokens their places."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from search_spaces._layers.attention import (
    ConvMixing,
    GlobalAttention,
    Heads,
    InducedAttention,
    Project,
    ReducedAttention,
    RelativeBias,
)
from search_spaces._layers.grids import Grid, OnMap
from search_spaces._layers.inner import InnerBlock
from search_spaces._layers.keeping import Keep, KeepingAttention
from search_spaces._layers.stems import MERGES
from search_spaces._layers.transformer_block import Mlp, TransformerBlock
from search_spaces._layers.windows import WindowAttention
from search_spaces._transformer_plan import TransformerPlan, TransformerStage


class Stage(nn.Module):
    """The blocks of stage `i` of a plan on `grid`; those before it are `done` of `depth`."""

    def __init__(self, plan: TransformerPlan, i: int, grid: Grid, done: int, depth: int) -> None:
        super().__init__()
        stage = plan.stages[i]
        self.prefix = grid.prefix
        self.merge: nn.Module | None = None
        if i:
            self.merge = MERGES[plan.merge](plan.stages[i - 1].dim, stage.dim, grid)
            grid = grid.reduced(2)
        self.blocks = nn.ModuleList(_blocks(plan, stage, grid, done, depth))
        self.inner: nn.ModuleList | None = None
        if plan.inner:
            inner = (InnerBlock(stage.dim, plan.inner, stage.ratio) for _ in range(stage.depth))
            self.inner = nn.ModuleList(inner)
        self.places: nn.Module | None = None
        if plan.position == "conv":
            conv = nn.Conv2d(stage.dim, stage.dim, 3, padding=1, groups=stage.dim)
            self.places = OnMap(conv, grid)
        self.norm = nn.LayerNorm(stage.dim) if plan.normed == "stages" else nn.Identity()
        self.grid = grid  # that it leaves

    def forward(self, x: Tensor, words: Tensor | None) -> Tensor:
        """Map tokens (N, T, dim), and the words of patches where there are any, to (N, T', dim)."""
        if self.merge is not None:
            x = self.merge(x)
        patches = x.shape[1] - self.prefix
        for j, block in enumerate(self.blocks):
            if words is not None and self.inner is not None:
                words, seen = self.inner[j](words, patches)
                x = x + functional.pad(seen, (0, 0, self.prefix, 0))
            x = block(x)
            if not j and self.places is not None:
                x = x + self.places(x)
        y: Tensor = self.norm(x)
        return y


def _blocks(
    plan: TransformerPlan, stage: TransformerStage, grid: Grid, done: int, depth: int
) -> list[TransformerBlock]:
    """Return the blocks of one stage, `done` of `depth` blocks lying before it."""
    blocks = []
    kept = plan.kept_by_block() or [None] * stage.depth
    for j, stay in enumerate(kept):
        keep = None if stay is None else Keep(stay, grid.prefix)
        drop = plan.drop_path * (done + j) / max(1, depth - 1)
        ffn = Mlp(stage.dim, stage.units, grid if stage.ffn == "conv" else None)
        attention = _attention(plan, stage, grid, j, keep=keep is not None)
        blocks.append(TransformerBlock(attention, ffn, stage.dim, plan.layer_scale, drop, keep))
    return blocks


def _attention(
    plan: TransformerPlan, stage: TransformerStage, grid: Grid, j: int, *, keep: bool
) -> nn.Module:
    """Return what mixes the tokens in block j of a stage."""
    dim, kind = stage.dim, stage.attention
    if kind == "conv":
        return ConvMixing(dim, grid)
    relative = plan.position == "relative"

    def heads() -> Heads:
        return Heads(dim, stage.head_count, stage.head_dim, bias=not plan.inner)

    if keep:
        return KeepingAttention(heads(), grid.prefix)
    if kind == "window" or (kind == "twins" and j % 2 == 0):
        shift = kind == "window" and j % 2 == 1
        return WindowAttention(heads(), grid, stage.window, shift=shift, relative=relative)
    if kind in ("reduced", "twins") and stage.reduction > 1:
        return ReducedAttention(heads(), dim, grid, stage.reduction)
    if kind == "induced":
        return InducedAttention(stage.points, dim, heads(), heads())
    project = Project(dim, grid) if stage.qkv == "conv" else None
    bias = RelativeBias(stage.head_count, grid) if relative else None
    return GlobalAttention(heads(), project, bias)
