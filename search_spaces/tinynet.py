"""TinyNet: shrink a base network by resolution, depth and width (arXiv:2010.14819, NeurIPS 2020).

A candidate multiplies the base's input side by r, its block repeats by d, its channels by w (stem
and head keep theirs). w is a field, or solved so that the counted MACs meet c times the base's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

from torch import nn

from nasx.errors import NothingFeasible
from nasx.recipe import Phase, Recipe, Step, adamw, one_cycle
from nasx.shape import Shape, TaskShape
from nasx.space import Published, Space, choice, real, when
from nasx.tasks.base import Task
from search_spaces._backbones import Plan, Stage, network, plan_macs, plan_params

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # depth, width, resolution (arXiv:1905.11946, section 3.3)
LOWEST, HIGHEST = 0.35, 1.3  # widths
OVER = 0.01  # how far above its target a solved width may go
MEETS = 0.03  # how near to a budget a candidate made for it must come
LARGE = 160  # rules build on B0 from this input side on, on the micro base below


class Base(NamedTuple):
    """A network to multiply: its plan, the side it is meant for, and how channels round."""

    plan: Plan
    side: int
    divisor: int


def b0(shape: TaskShape) -> Base:
    """Return EfficientNet-B0 (arXiv:1905.11946, table 1); its side is 224 whatever the task's."""
    rows = (  # channels, repeats, kernel, stride, expand
        (16, 1, 3, 1, 1), (24, 2, 3, 2, 6), (40, 2, 5, 2, 6), (80, 3, 3, 2, 6),
        (112, 3, 5, 1, 6), (192, 4, 5, 2, 6), (320, 1, 3, 1, 6),
    )  # fmt: skip
    stages = tuple(Stage(*row, squeeze=0.25) for row in rows)
    plan = Plan(shape.input[0], 32, stages, 1280, shape.classes, dropout=0.2)
    return Base(plan, 224, 8)


def micro(shape: TaskShape) -> Base:
    """Return a base for small images, in B0's manner: its side is the task's own.

    It divides the side by at most 8 and leaves a map of 8 x 8 where the side allows it: strides
    are given up from the stem on (total 8 from side 64 on, 4 from 32, 2 from 16, else 1).
    """
    side = shape.side
    twice = min(3, max(0, (side // 8).bit_length() - 1))  # halvings that leave 8 pixels
    first, second, stem = (2 if twice > i else 1 for i in range(3))
    stages = (
        Stage(20, 2, stride=first, kind="conv"),
        Stage(40, 3, stride=second, kind="conv"),
    )
    plan = Plan(shape.input[0], 16, stages, 96, shape.classes, stem, activation="relu", pool="max")
    return Base(plan, side, 2)


BASES: dict[str, Callable[[TaskShape], Base]] = {"micro": micro, "b0": b0}


def rounded(channels: float, divisor: int) -> int:
    """Return channels rounded to a multiple, at least 8 and never below 90 % (EfficientNet)."""
    whole = max(8, int(channels + divisor / 2) // divisor * divisor)
    return whole + divisor if whole < 0.9 * channels else whole


def scaled(base: Base, w: float, d: float) -> Plan:
    """Return the base's plan at width w and depth d; Python's round, halves to even."""
    plan = base.plan
    stages = tuple(
        dataclasses.replace(
            stage,
            channels=rounded(stage.channels * w, base.divisor),
            repeats=max(1, round(stage.repeats * d)),
        )
        for stage in plan.stages
    )
    head = max(plan.head, rounded(plan.head * w, base.divisor))
    return dataclasses.replace(plan, stages=stages, head=head)


def side_at(base: Base, r: float) -> int:
    """Return the even input side at resolution r, cut off as the paper does, >= the stride."""
    least = base.plan.stride + base.plan.stride % 2
    return max(2 * int(base.side * r / 2), least, 2)


def w_identity(r: float, d: float, c: float) -> float:
    """Return the width of the paper's identity c = r^2 d w^2.

    It is not the cost: stem, head and classifier keep their size and channels and repeats round,
    so the counted MACs lie above c, the more the smaller the network (E: .035 against .063).
    """
    return float((c / (r * r * d)) ** 0.5)


def largest(fits: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest value in [low, high] that fits, by bisection; `low` if none does."""
    if fits(high):
        return high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@lru_cache(maxsize=4096)
def w_solved(base: str, r: float, d: float, macs: float, shape: TaskShape) -> float:
    """Return the width whose counted MACs come nearest to `macs`, at most 1 % above.

    Counted MACs are a rising step function of the width. Where even the narrowest network is
    above, or the widest below, that one is returned.
    """
    root = BASES[base](shape)
    side = side_at(root, r)

    def count(w: float) -> int:
        return plan_macs(scaled(root, w, d), side)

    def below(limit: float) -> float:
        return largest(lambda w: count(w) <= limit, LOWEST, HIGHEST)

    under, over = below(macs), below(macs * (1 + OVER))
    return min(under, over, key=lambda w: abs(count(w) - macs))


class TinyNet(Space):
    """Resolution r, depth d and width w of a small network, relative to a base.

    `width` "solved" takes w from the MAC target c (relative to the base), "free" from the field w.
    """

    name: ClassVar[str] = "tinynet"
    paper: ClassVar[str] = "arXiv:2010.14819"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    axes: ClassVar[tuple[str, ...]] = ("r", "d")

    base: str = choice("micro", "b0", default="micro")
    width: str = choice("solved", "free", default="solved")
    r: float = real(0.3, 1.3, default=1.0)
    d: float = real(0.35, 1.6, default=1.0)
    c: float = when("width", ("solved",), real(0.03, 1.05, log=True, default=1.0))
    w: float = when("width", ("free",), real(LOWEST, HIGHEST, default=1.0))

    def _root(self, shape: TaskShape) -> Base:
        return BASES[self.base](shape)

    def solved_width(self, shape: TaskShape) -> float:
        """Return w: the field, or the width solved for c (clamped where c is out of reach)."""
        if self.width == "free":
            return self.w
        return w_solved(self.base, self.r, self.d, self.c * base_macs(self.base, shape), shape)

    def side(self, shape: TaskShape) -> int:
        """Return the input side in pixels, an even number of at least the total stride."""
        return side_at(self._root(shape), self.r)

    def plan(self, shape: TaskShape) -> Plan:
        """Return the plan of this candidate's network."""
        return scaled(self._root(shape), self.solved_width(shape), self.d)

    def macs(self, shape: TaskShape) -> int:
        """Return the multiply-accumulates of one image, in closed form."""
        return plan_macs(self.plan(shape), self.side(shape))

    def params(self, shape: TaskShape) -> int:
        """Return the number of parameters, in closed form."""
        return plan_params(self.plan(shape))

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network: (N, C, side, side) to (N, classes) logits."""
        return network(self.plan(shape))

    def input_shape(self, shape: TaskShape) -> Shape:
        """Return (C, side, side)."""
        return shape.input[0], self.side(shape), self.side(shape)

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return the side and the plan: many r, d, c and w round to one network."""
        return {"side": self.side(shape), **dataclasses.asdict(self.plan(shape))}

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the width, which is solved and so stands in no field."""
        return {"w": self.solved_width(task.shape)}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of AdamW; unvaried images: in few samples a small net loses by it."""
        step = Step(optimizer=adamw(4e-3, 1e-3), factor=one_cycle(warm=0.1))
        return Recipe((Phase("train", 1.0, (step,)),), batch=32, augment=False)

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return the nearest candidate within the limits on macs, flops and params, or None.

        The width goes down first, then the resolution, then the depth, each only so far.
        """

        def fits(candidate: TinyNet) -> bool:
            macs = candidate.macs(shape)
            known = {"macs": macs, "flops": 2 * macs, "params": candidate.params(shape)}
            return all(known[k] <= limit for k, limit in limits.items() if k in known)

        now, domains = self, self.domains()
        for field in ("c" if self.width == "solved" else "w", "r", "d"):
            if fits(now):
                return now

            def moved(value: float, field: str = field, held: Self = now) -> Self:
                return type(held).from_flat({**held.flat(), field: value})

            low = domains[field].lo  # type: ignore[attr-defined]
            now = moved(largest(lambda v, at=moved: fits(at(v)), low, getattr(now, field)))  # type: ignore[misc]
        return now if fits(now) else None

    @classmethod
    def from_axes(cls, values: Mapping[str, float], macs: int, shape: TaskShape) -> Self:
        """Return the candidate at r and d whose width is solved for `macs`, within 3 %.

        `values` may name the base; otherwise the task's side does: B0 from 160 pixels on.
        Raises NothingFeasible where no width between .35 and 1.3 comes near enough.
        """
        base = str(values.get("base", base_for(shape)))
        r, d = float(values["r"]), float(values["d"])
        w = w_solved(base, r, d, float(macs), shape)
        made = cls.from_flat({"base": base, "width": "free", "r": r, "d": d, "w": w})
        return made._meeting(macs, shape)

    @classmethod
    def null_from_macs(cls, macs: int, shape: TaskShape) -> Self:
        """Return the candidate of the inverse compound rule at `macs`, within 3 %.

        d = 1.2^phi, w = 1.1^phi, r = 1.15^phi (arXiv:1905.11946, equation 3), phi solved on counted
        MACs. Sides and repeats round in steps above 3 %, so the width is then solved at that r
        and d. Raises NothingFeasible outside the reach of the rule.
        """
        base, domains = base_for(shape), cls.domains()

        def at(phi: float) -> TinyNet:
            fields = {"d": ALPHA**phi, "w": BETA**phi, "r": GAMMA**phi}
            for name, value in fields.items():  # where the rule leaves a domain, its end is kept
                low, high = domains[name].lo, domains[name].hi  # type: ignore[attr-defined]
                fields[name] = min(max(value, low), high)
            return cls.from_flat({"base": base, "width": "free", **fields})

        phi = largest(lambda phi: at(phi).macs(shape) <= macs, -11.0, 3.0)
        for step in range(41):  # a side or a repeat may round away from the budget: go on nearby
            near = at(phi + (-1) ** step * ((step + 1) // 2) * 0.05)
            w = w_solved(base, near.r, near.d, float(macs), shape)
            made = cls.from_flat({**near.flat(), "w": w})
            if abs(made.macs(shape) - macs) <= MEETS * macs:
                return made
        return made._meeting(macs, shape)

    def _meeting(self, macs: int, shape: TaskShape) -> Self:
        got = self.macs(shape)
        if abs(got - macs) <= MEETS * macs:
            return self
        raise NothingFeasible(
            f"space '{self.name}': at r = {self.r:.3g}, d = {self.d:.3g} the nearest width "
            f"w = {self.w:.3g} has {got:,} MACs for {macs:,}; ask for a budget nearer to that"
        )


@lru_cache(maxsize=256)
def base_macs(base: str, shape: TaskShape) -> int:
    """Return the MACs of a base itself, r = d = w = 1."""
    root = BASES[base](shape)
    return plan_macs(root.plan, side_at(root, 1.0))


def base_for(shape: TaskShape) -> str:
    """Return the base that a rule builds on for images of this size."""
    return "b0" if shape.side >= LARGE else "micro"


_IMAGENET = TaskShape("classify", (3, 224, 224), 1000)
_COUNTED = "widths: official TinyNet code; params and MACs (conv + linear): counted on timm's nets"


def _published(name: str, r: float, w: float, d: float, params: int, macs: int) -> Published:
    fields = {"base": "b0", "width": "free", "r": r, "w": w, "d": d}
    return Published(name, fields, _IMAGENET, params, macs, source=_COUNTED)


TinyNet.published = (
    _published("b0", 1.0, 1.0, 1.0, 5_288_548, 385_814_752),
    _published("a", 0.86, 1.0, 1.2, 6_187_972, 336_867_712),
    _published("b", 0.84, 0.75, 1.1, 3_730_562, 200_709_360),
    _published("c", 0.825, 0.54, 0.85, 2_457_234, 99_536_432),
    _published("d", 0.68, 0.54, 0.695, 2_338_446, 51_580_656),
    _published("e", 0.475, 0.51, 0.60, 2_042_972, 24_356_848),
)
