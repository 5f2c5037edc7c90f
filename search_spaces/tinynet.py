"""TinyNet: shrink a base network by resolution, depth and width (arXiv:2010.14819, NeurIPS 2020).

A candidate multiplies the base's input side by r, its block repeats by d, its channels by w (stem
and head keep theirs). w is a field, or solved so that the counted MACs meet c times the base's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

from torch import nn

from nasx.errors import NothingFeasible
from nasx.recipe import Phase, Recipe, Step, adamw, one_cycle
from nasx.shape import Shape, TaskShape
from nasx.space import Part, Published, Space, choice, real, when
from nasx.tasks.base import Task
from search_spaces._backbones import Plan, network, plan_macs, plan_params
from search_spaces._bases import BASES, Base, base_for, base_macs, rounded, scaled, side_at

ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # depth, width, resolution (arXiv:1905.11946, section 3.3)
LOWEST, HIGHEST = 0.35, 1.3  # widths
OVER = 0.01  # how far above its target a solved width may go
NEAR = 0.05  # how far a searched candidate may be from its c, in units of the base's MACs
ALL_STAGES = "all stages, by the last"
MEETS = 0.03  # how near to a budget a candidate made for it must come


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
    """Return the largest width whose counted MACs are at most 1 % above `macs`.

    Counted MACs are a rising step function of the width. Where even the narrowest network is
    above, its width is returned.
    """
    root = BASES[base](shape)
    side = side_at(root, r)
    most = macs * (1 + OVER) + 0.5  # counts are whole, so half of one only forgives rounding
    return largest(lambda w: plan_macs(scaled(root, w, d), side) <= most, LOWEST, HIGHEST)


class TinyNet(Space):
    """Resolution r, depth d and width w of a small network, relative to a base.

    `width` "solved" takes w from the MAC target c (relative to the base), "free" from the field w.
    A c that no width of [.35, 1.3] meets at this r and d is refused (see `refusal`).
    """

    name: ClassVar[str] = "tinynet"
    paper: ClassVar[str] = "arXiv:2010.14819"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    axes: ClassVar[tuple[str, ...]] = ("r", "d")

    base: str = choice("micro", "b0", default="micro")
    width: str = choice("solved", "free", default="solved")
    r: float = real(0.3, 1.3, default=1.0)
    d: float = real(0.35, 1.6, default=1.0)
    # Its default is met by the base itself and, 1 % above included, by no wider network.
    c: float = when("width", ("solved",), real(0.03, 1.05, log=True, default=1 / (1 + OVER)))
    w: float = when("width", ("free",), real(LOWEST, HIGHEST, default=1.0))

    def _root(self, shape: TaskShape) -> Base:
        return BASES[self.base](shape)

    def solved_width(self, shape: TaskShape) -> float:
        """Return w: the field, or the width solved for c (the nearest where none is: `refusal`)."""
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
        return {"side": self.side(shape), **asdict(self.plan(shape))}

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the width, which is solved and so stands in no field."""
        return {"w": self.solved_width(task.shape)}

    def parts(self, shape: TaskShape) -> dict[str, Part]:
        """Return all stages as one part, for one width scales them: the channels of the last."""
        root = self._root(shape)
        most, own = root.plan.stages[-1].channels, self.plan(shape).stages[-1].channels
        lowest, highest = (int(most * w) for w in (LOWEST, HIGHEST))
        widths = range(lowest - lowest % root.divisor, highest + 1, root.divisor)
        able = {c for c in widths if c >= LOWEST * most and rounded(c, root.divisor) == c}
        return {ALL_STAGES: Part(own, sorted({own, *able}))}

    def resized(self, widths: Mapping[str, int], shape: TaskShape) -> Self:
        """Return the candidate of the same r and d whose last stage has so many channels."""
        own = self.plan(shape).stages[-1].channels
        channels = widths.get(ALL_STAGES, own)
        if channels == own:
            return self
        most = self._root(shape).plan.stages[-1].channels
        return replace(self, width="free", w=channels / most)

    def whole(self, shape: TaskShape) -> Self | None:
        """Return the base itself, r = d = w = 1, where this candidate has fewer MACs."""
        base = type(self).from_flat({"base": self.base})
        return base if self.macs(shape) < base.macs(shape) else None

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of AdamW; unvaried images: in few samples a small net loses by it."""
        step = Step(optimizer=adamw(6e-3, 1e-3), factor=one_cycle(warm=0.3))
        return Recipe((Phase("train", 1.0, (step,)),), batch=32, augment=False)

    def refusal(self, shape: TaskShape) -> str | None:
        """Say that no width meets the MAC target c at this r and d, or return None."""
        if self.width == "free":
            return None
        c, w = self.macs(shape) / base_macs(self.base, shape), self.solved_width(shape)
        beyond = c > self.c * (1 + OVER) or (w == HIGHEST and c < self.c * (1 - OVER))
        if not beyond and abs(c - self.c) <= NEAR:
            return None
        return (
            f"c = {self.c:.3g} is out of reach at r = {self.r:.3g}, d = {self.d:.3g}: "
            f"the nearest width, {w:.3g}, has c = {c:.3g}"
        )

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return the nearest candidate within the limits on macs, flops and params, or None.

        The width goes down first, then the resolution, then the depth, each only so far; where the
        width is solved, c then follows.
        """

        def fits(candidate: TinyNet) -> bool:
            macs = candidate.macs(shape)
            known = {"macs": macs, "flops": 2 * macs, "params": candidate.params(shape)}
            return all(known[k] <= limit for k, limit in limits.items() if k in known)

        domains: dict[str, Any] = self.domains()
        now = replace(self, width="free", w=self.solved_width(shape))
        for field in ("w", "r", "d"):
            if fits(now):
                break

            def reach(value: float, field: str = field, held: Self = now) -> Self:
                return type(held).from_flat({**held.flat(), field: value})

            low, high = domains[field].lo, getattr(now, field)
            now = reach(largest(lambda v, at=reach: fits(at(v)), low, high))  # type: ignore[misc]
        if self.width == "solved":
            # As the default: this very network meets it, and no wider one.
            c = now.macs(shape) / base_macs(self.base, shape) / (1 + OVER)
            c = min(max(c, domains["c"].lo), domains["c"].hi)
            now = replace(now, width="solved", c=c, w=self.w)
        return now if fits(now) and now.refusal(shape) is None else None

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

        d = 1.2^phi, w = 1.1^phi, r = 1.15^phi (arXiv:1905.11946, equation 3). Sides and repeats
        round in steps above 3 %, so where no phi gives the budget, the width is solved at the phi
        where that changes it least. Raises NothingFeasible outside the reach of the rule.
        """
        base, domains = base_for(shape), cls.domains()

        def at(phi: float) -> TinyNet:
            fields = {"d": ALPHA**phi, "w": BETA**phi, "r": GAMMA**phi}
            for name, value in fields.items():  # where the rule leaves a domain, its end is kept
                low, high = domains[name].lo, domains[name].hi  # type: ignore[attr-defined]
                fields[name] = min(max(value, low), high)
            return cls.from_flat({"base": base, "width": "free", **fields})

        def off(candidate: TinyNet) -> float:
            return abs(candidate.macs(shape) - macs) / macs

        middle = largest(lambda phi: at(phi).macs(shape) <= macs, -11.0, 3.0)
        near: list[tuple[bool, float, float, Self]] = []
        for step in range(-20, 21):
            own = at(middle + step / 20)
            solved = off(own) > MEETS
            w = w_solved(base, own.r, own.d, float(macs), shape) if solved else own.w
            made = cls.from_flat({**own.flat(), "w": w})
            widened = abs(math.log(w / own.w))
            near.append((off(made) > MEETS, widened, off(made), made))
        return min(near, key=lambda found: found[:3])[-1]._meeting(macs, shape)

    def _meeting(self, macs: int, shape: TaskShape) -> Self:
        got = self.macs(shape)
        if abs(got - macs) <= MEETS * macs:
            return self
        raise NothingFeasible(
            f"space '{self.name}': at r = {self.r:.3g}, d = {self.d:.3g} the nearest width "
            f"w = {self.w:.3g} has {got:,} MACs for {macs:,}; ask for a budget nearer to that"
        )


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
