"""The networks that TinyNet multiplies: EfficientNet-B0, and a micro base for small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from nasx.shape import TaskShape
from search_spaces._backbones import Plan, Stage, plan_macs

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
    plan = Plan(
        shape.input[0], 16, stages, 96, shape.classes, stem,
        activation="relu", pool="max", fan="in",  # few classes: fan "out" would start too large
    )  # fmt: skip
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
        replace(
            stage,
            channels=rounded(stage.channels * w, base.divisor),
            repeats=max(1, round(stage.repeats * d)),
        )
        for stage in plan.stages
    )
    head = max(plan.head, rounded(plan.head * w, base.divisor))
    return replace(plan, stages=stages, head=head)


def side_at(base: Base, r: float) -> int:
    """Return the even input side at resolution r, cut off as the paper does, >= the stride."""
    least = base.plan.stride + base.plan.stride % 2
    return max(2 * int(base.side * r / 2), least, 2)


@lru_cache(maxsize=256)
def base_macs(base: str, shape: TaskShape) -> int:
    """Return the MACs of a base itself, r = d = w = 1."""
    root = BASES[base](shape)
    return plan_macs(root.plan, side_at(root, 1.0))


def base_for(shape: TaskShape) -> str:
    """Return the base that a rule builds on for images of this size."""
    return "b0" if shape.side >= LARGE else "micro"
