"""Vision transformers as one space: the taxonomy of the survey (arXiv:2012.12556), field by field.

Flat (ViT, DeiT, TNT, T2T) or pyramid (PVT, Swin, Twins, PiT), each stage with its own attention,
and the convolutional network beside them. Every combination of fields is a network: heads follow
from widths, grids are padded, and a field that means nothing where it stands counts as its default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nasx.assets import Asset
from nasx.cost.ops import count
from nasx.errors import SpaceError
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space, choice, each, integer, real, when
from search_spaces._backbones import Plan, network, plan_macs
from search_spaces._bases import micro, scaled
from search_spaces._head_pruning import cut, kept_of, ranked, worth_by_size
from search_spaces._layers.deploying import deploy
from search_spaces._layers.low_bit_linear import lower
from search_spaces._transformer import transformer
from search_spaces._transformer_plan import TransformerPlan, TransformerStage, settled
from search_spaces._transformer_points import POINTS
from search_spaces._transformer_training import convolutional, training

MOST = 4  # stages of a pyramid
MADE = ("flat", "pyramid")
PREFIXED = {"global", "reduced", "induced"}  # attention that takes tokens without a place
SHARES = (0.25, 0.5, 0.75, 1.0)


class VisionTransformer(Space):
    """Layout, stem, attention of each stage, positions, pooling, compression and distillation.

    `patch` is by how much the stem makes the image smaller; heads are dim / head_dim. `twins` is a
    window in one block and a reduced grid in the next. `heads_kept` and `mlp_kept` are what stays
    of heads and hidden units after half of the training, `tokens_kept` what stays of the tokens
    after each quarter of a flat network, `bits` those of linear weights (memory, not time).
    """

    name: ClassVar[str] = "vision_transformer"
    paper: ClassVar[str] = "arXiv:2012.12556"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    cautions: ClassVar[tuple[str, ...]] = (
        "Weights of less than 32 bits save memory, not time: inputs stay float.",
        "Small transformers learn slowly: of digits in photos they need 32,000 varied samples.",
    )
    training: ClassVar[tuple[str, ...]] = (
        "rate", "decay", "drop_path", "teacher_samples", "augment",
    )  # fmt: skip

    layout: str = choice("flat", "pyramid", "cnn", default="pyramid")
    width: float = when("layout", ("cnn",), real(0.25, 4.0, log=True, default=1.0))
    stages: int = when("layout", ("pyramid",), choice(2, 3, 4, default=2))
    depth: tuple[int, ...] = when("layout", MADE, each(MOST, integer(1, 40, default=2)))
    dim: tuple[int, ...] = when("layout", MADE, each(MOST, integer(16, 1024, step=16, default=64)))
    head_dim: int = when("layout", MADE, choice(16, 32, 48, 64, default=16))
    mlp_ratio: tuple[int, ...] = when("layout", MADE, each(MOST, choice(1, 2, 3, 4, 8, default=2)))
    attention: tuple[str, ...] = when(
        "layout", MADE,
        each(MOST, choice(
            "global", "window", "twins", "reduced", "induced", "conv", default="global")),
    )  # fmt: skip
    window: int = when("layout", MADE, choice(4, 7, 8, default=4))
    reduction: tuple[int, ...] = when("layout", MADE, each(MOST, choice(1, 2, 4, 8, default=2)))
    points: int = when("layout", MADE, choice(4, 8, 16, 32, default=8))
    qkv: str = when("layout", MADE, choice("linear", "conv", default="linear"))
    ffn: str = when("layout", MADE, choice("mlp", "conv", default="mlp"))
    stem: str = when("layout", MADE, choice("patch", "overlap", "conv", "t2t", default="conv"))
    patch: int = when("layout", MADE, choice(2, 4, 8, 16, default=4))
    merge: str = when("layout", ("pyramid",), choice("concat", "conv", "pool", default="conv"))
    position: str = when(
        "layout", MADE, choice("none", "learned", "sine", "relative", "conv", default="conv")
    )
    inner: int = when("layout", ("flat",), choice(0, 8, 12, 24, 40, default=0))
    pool: str = when(
        "layout", MADE, choice("cls", "mean", "mean_max", "class_attention", default="mean_max")
    )
    layer_scale: float = when("layout", MADE, choice(0.0, 0.1, 1.0, default=0.0))
    heads_kept: float = when("layout", MADE, choice(*SHARES, default=1.0))
    mlp_kept: float = when("layout", MADE, choice(*SHARES, default=1.0))
    tokens_kept: tuple[float, ...] = when(
        "layout", ("flat",), each(3, choice(0.5, 0.7, 1.0, default=1.0))
    )
    bits: int = when("layout", MADE, choice(4, 8, 32, default=32))
    distill: str = when("layout", MADE, choice("none", "hard", "soft", default="none"))
    teacher_samples: int = when(
        "distill", ("hard", "soft"), integer(400, 409_600, step=400, default=8000)
    )
    rate: float = when("layout", MADE, real(1e-4, 1e-2, log=True, default=5e-3))
    decay: float = when("layout", MADE, real(1e-3, 0.3, log=True, default=0.05))
    drop_path: float = when("layout", MADE, real(0.0, 0.3, default=0.0))
    augment: str = choice("none", "light", default="none")

    # -- which fields count -----------------------------------------------------------------

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that matter where they stand."""
        values = super().in_effect()
        if self.layout == "cnn":
            return {"layout": "cnn", "width": self.width, "augment": self.augment}
        idle = {name for name, counts in self._counting().items() if not counts}
        n, defaults = self._stages, type(self).from_flat({}).values()
        for name in ("depth", "dim", "mlp_ratio", "attention", "reduction"):
            values[name] = [*getattr(self, name)[:n], *defaults[name][n:]]
        for i, kind in enumerate(self.attention[:n]):
            if kind not in ("reduced", "twins"):
                values["reduction"][i] = defaults["reduction"][i]
        if not self._takes_prefix and self.pool == "cls":
            values["pool"] = "mean"
        if self.position == "relative" and not self._kinds & {"global", "window", "twins"}:
            values["position"] = "none"
        return {name: value for name, value in values.items() if name not in idle}

    def _counting(self) -> dict[str, bool]:
        """Return for fields that may be idle whether they count."""
        kinds, kept = self._kinds, self.keeps_tokens
        return {
            "window": bool(kinds & {"window", "twins"}),
            "points": "induced" in kinds,
            "qkv": "global" in kinds,
            "inner": self.layout == "flat" and self.stem == "patch" and self.patch >= 4,
            "head_dim": kinds != {"conv"} or self.pool == "class_attention",
            "heads_kept": any(left < heads for heads, left in self._heads),
            "tokens_kept": kept,
            "teacher_samples": self.distill != "none",
        }

    @property
    def _stages(self) -> int:
        return 1 if self.layout == "flat" else self.stages

    @property
    def _dims(self) -> list[int]:
        """Return the widths of stages; a depthwise convolution widens by whole factors."""
        dims = list(self.dim[: self._stages])
        if self.layout == "pyramid" and self.merge == "pool":
            for i in range(1, len(dims)):
                dims[i] = dims[i - 1] * max(1, round(dims[i] / dims[i - 1]))
        return dims

    @property
    def _heads(self) -> list[tuple[int, int]]:
        """Return the heads of each stage that has any, and how many of them stay."""
        last = self._stages - 1 if self.pool == "class_attention" else -1
        counts = [
            max(1, dim // self.head_dim)
            for i, dim in enumerate(self._dims)
            if self.attention[i] != "conv" or i == last
        ]
        return [(heads, kept_of(heads, self.heads_kept)) for heads in counts]

    @property
    def _kinds(self) -> set[str]:
        return set(self.attention[: self._stages])

    @property
    def _takes_prefix(self) -> bool:
        """Return whether a class token can stand before the others in every stage."""
        return (self.layout == "flat" or self.merge == "pool") and self._kinds <= PREFIXED

    @property
    def keeps_tokens(self) -> bool:
        """Return whether tokens may leave: nothing behind needs their grid."""
        return (
            self.layout == "flat" and self._kinds == {"global"} and self.inner == 0
            and self.qkv == "linear" and self.ffn == "mlp"
            and self.position in ("none", "learned", "sine")
        )  # fmt: skip

    def counted(self) -> Self:
        """Return this candidate with every field that does not count at its default."""
        return type(self).from_json(self.active())

    # -- the network ------------------------------------------------------------------------

    def plan(self, shape: TaskShape) -> TransformerPlan | Plan:
        """Return what the network is made of, unpruned; SpaceError for images not square."""
        if shape.input[-1] != shape.side:
            size = f"{shape.side} x {shape.input[-1]}"
            raise SpaceError(f"grids of tokens are squares, the task's images are {size} pixels")
        now = self.counted()
        if now.layout == "cnn":
            return scaled(micro(shape), now.width, 1.0)
        n, dims = now._stages, now._dims
        patch = max(now.patch, 4) if now.stem == "t2t" and not now.inner else now.patch
        sides = [math.ceil(shape.side / patch / 2**i) for i in range(n)]
        stages = tuple(
            settled(
                TransformerStage(
                    now.depth[i], dims[i], now.head_dim, now.mlp_ratio[i], now.attention[i],
                    now.window, now.reduction[i], now.points,
                    now.qkv if now.attention[i] == "global" else "linear", now.ffn,
                ),
                sides[i],
            )
            for i in range(n)
        )  # fmt: skip
        stem = "patch" if now.inner else now.stem
        return TransformerPlan(
            shape.input[0], shape.side, shape.classes, stages,
            patch, stem, now.merge, now.position,
            now.inner, now.pool, now.distill != "none", now.layer_scale,
            now.tokens_kept,  # type: ignore[arg-type]
            now.drop_path,
        )  # fmt: skip

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return the plan and what compression leaves of it."""
        now, made = self.counted(), self.plan(shape)
        plan = asdict(made)
        plan.pop("drop_path", None)
        if isinstance(made, TransformerPlan):  # by blocks: shallow networks pass shares over
            plan["kept"] = made.kept_by_block()
        heads = [left for _, left in now._heads]
        kept = {"heads": heads, "units": now.mlp_kept, "bits": now.bits}
        return {"cnn": now.layout == "cnn", "distill": now.distill, **plan, **kept}

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network in training, unpruned: (N, C, S, S) to (N, classes) logits."""
        plan = self.plan(shape)
        if isinstance(plan, Plan):
            return network(plan)
        model = transformer(plan)
        if self.counted().bits < 32:
            lower(model.stages, self.bits)
        return model

    def rebuild(self, shape: TaskShape, decisions: Mapping[str, Any]) -> nn.Module:
        """Return the network, without the heads and units that training dropped."""
        model = self.build(shape)
        return cut(model, decisions["kept"]) if decisions.get("kept") else model

    @property
    def prunes(self) -> bool:
        """Return whether heads or hidden units are dropped in training."""
        now = self.counted()
        return now.heads_kept < 1 or now.mlp_kept < 1

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network with its low-bit weights packed, and pruned if it was not yet."""
        now = self.counted()
        if self.prunes and getattr(model, "whole", False):
            cut(model, ranked(model, worth_by_size(model), now.heads_kept, now.mlp_kept))
        return deploy(model)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the convolutional network of as many MACs, within 2 % where its width allows."""
        if self.layout == "cnn":
            return None
        return self.cnn(shape, self.macs(shape), self.augment)

    @classmethod
    def cnn(cls, shape: TaskShape, macs: float, augment: str = "none") -> Self:
        """Return the micro convolutional network whose MACs come nearest."""
        widths = [0.25 * 16 ** (i / 400) for i in range(401)]
        base = micro(shape)
        near = min(widths, key=lambda w: abs(plan_macs(scaled(base, w, 1.0), shape.side) - macs))
        return cls.from_json({"layout": "cnn", "width": near, "augment": augment})

    def macs(self, shape: TaskShape) -> float:
        """Return the MACs of the deployed network."""
        with torch.random.fork_rng(devices=[]):
            model = self.decide(self.build(shape)).eval()
        return float(count(model, torch.zeros(1, *self.input_shape(shape))).macs)

    # -- training ---------------------------------------------------------------------------

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the convolutional teacher where there is one: the micro network at width 1."""
        if self.counted().distill == "none":
            return {}
        return {"teacher": Asset(type(self).from_json({"layout": "cnn"}), self.teacher_samples)}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return AdamW with warm-up; pruning, where there is any, after half of it."""
        now = self.counted()
        if now.layout == "cnn":
            recipe = convolutional()
        else:
            pruned = (now.heads_kept, now.mlp_kept) if self.prunes else None
            recipe = training(now.rate, now.decay, now.distill, pruned)
        return replace(recipe, augment=now.augment == "light")


VisionTransformer.published = POINTS
