"""What a vision transformer is made of: a plan of stages, before anything is built.

TransformerPlan(3, 32, 10, stages=(TransformerStage(depth=6, dim=96),), patch=4)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from search_spaces._layers.grids import Grid


@dataclass(frozen=True)
class TransformerStage:
    """A run of blocks on one grid.

    `attention`: "global", "window" (every second one shifted), "reduced" (keys and values on a grid
    `reduction` times coarser), "twins" (window, then reduced), "induced" (`points`), "conv".
    """

    depth: int
    dim: int
    head_dim: int = 32
    ratio: int = 4
    attention: str = "global"
    window: int = 7
    reduction: int = 1
    points: int = 16
    qkv: str = "linear"  # or "conv": depthwise before queries, keys and values
    ffn: str = "mlp"  # or "conv": depthwise between its layers

    @property
    def head_count(self) -> int:
        """Return the heads, at least one."""
        return max(1, self.dim // self.head_dim)

    @property
    def units(self) -> int:
        """Return the hidden units of an mlp."""
        return self.ratio * self.dim


@dataclass(frozen=True)
class TransformerPlan:
    """A whole classifier.

    `position`: "learned", "sine" (both added to tokens), "relative" (within attention), "conv"
    (depthwise after each stage's first block), "none". `inner` is the width of a transformer within
    patches, 0 for none. `pool`: "cls", "mean", "mean_max" (mean + maximum: it finds an object that
    is small) or "class_attention". `distilled` adds a second classifier, with "cls" on a token of
    its own. `kept` is the share of tokens that stay after each quarter of a flat network.
    """

    inputs: int
    side: int
    classes: int
    stages: tuple[TransformerStage, ...]
    patch: int = 4
    stem: str = "patch"
    merge: str = "concat"
    position: str = "learned"
    inner: int = 0
    pool: str = "cls"
    distilled: bool = False
    layer_scale: float = 0.0  # where the scale of every branch starts, 0 for none
    kept: tuple[float, float, float] = (1.0, 1.0, 1.0)
    drop_path: float = field(default=0.0, compare=False)  # of the last block, rising from 0

    @property
    def prefix(self) -> int:
        """Return the tokens without a place."""
        return (1 + self.distilled) if self.pool == "cls" else 0

    @property
    def flat(self) -> bool:
        """Return whether there is one stage."""
        return len(self.stages) == 1

    def grid(self) -> Grid:
        """Return the grid that the stem leaves."""
        cells = -(-self.side // self.patch)
        return Grid(cells, cells, self.prefix)

    @property
    def normed_stem(self) -> bool:
        """Return whether the stem's tokens are normalised: in pyramids that merge by layers."""
        return not self.flat and self.merge != "pool"

    @property
    def normed(self) -> str:
        """Return where tokens are normalised behind blocks: after all "stages", or at the "end"."""
        return "stages" if self.merge == "conv" and not self.flat else "end"
