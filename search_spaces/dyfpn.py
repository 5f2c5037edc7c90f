"""Object detection with a feature pyramid that decides, image by image, how much to compute.

Where a pyramid brings a backbone's maps to one width, a sum of seven convolutions finds more than
one 1 x 1, at many times its cost; a small gate runs it only for images and levels that need it, and
a budget of MACs holds the gates to what may be spent (DyFPN, arXiv:2012.00779).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from torch import nn

from nasx.errors import SpaceError
from nasx.recipe import Cycle, Phase, Recipe, Step, adamw, one_cycle, task_loss
from nasx.relax import Schedule
from nasx.shape import Boxes, TaskShape
from nasx.space import Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._budget import Budget
from search_spaces._detectors import Detector, DetectPlan, detector, micro_plan
from search_spaces._gate_training import DECAY, Part, moving, within
from search_spaces._gated_nets import (
    GatedDetector,
    GatedOnFeatures,
    OnFeatures,
    features_of,
    gates_on,
)
from search_spaces._gates import Gate, GateKind, See, even_odds, gate_of, start_open
from search_spaces._neck_points import neck_points
from search_spaces._necks import BRANCHES, Kernel, Neck, NeckPlan, Way

MOST = 4  # levels
SEVERAL = ("inception", "choose", "skip")
CHOOSING = ("choose", "skip")
LEARNT = (  # fields of a gate that learns
    "see", "reduction", "strength", "per", "opened", "settled", "alternate", "gate_rate"
)  # fmt: skip
BATCH = 8
# Of the backbone's stages, before they are scaled: one for each halving down to the last stride.
WIDTHS = (16, 24, 32, 48, 64, 96)
NAMES = ("k1", "k3", "k3d2", "k3d3", "k5", "k5d2", "k5d3")


class DyFpn(Space):
    """A small detector around one of four necks.

    `neck` "fpn" has one convolution of side `kernel` at each level, "inception" the sum of several;
    "choose" (the paper's structure A) runs one of them for each image, "skip" (structure B) none
    or all, beside a 1 x 1 that always runs. k1 to k5d3 say which of the seven there are (side,
    dilation), at each level, fine to coarse (of four values a network of three levels uses the
    first three); a level without any has the 1 x 1. Without a `gate` everything runs.
    `alpha` and `strength` are the budget's target and weight; for gate "random" `alpha` is the
    share that it spends. `widen` scales the backbone, whose stages have `depth` more layers, `out`
    is the width of the pyramid, `tower` the layers of the head before its answers.
    """

    name: ClassVar[str] = "dyfpn"
    paper: ClassVar[str] = "arXiv:2012.00779"
    tasks: ClassVar[tuple[str, ...]] = ("detect", "features")
    training: ClassVar[tuple[str, ...]] = (
        "alpha", "strength", "per", "opened", "settled", "alternate", "rate", "gate_rate"
    )  # fmt: skip

    neck: Literal["fpn", "inception", "choose", "skip"] = choice("fpn", *SEVERAL, default="skip")
    kernel: int = when("neck", ("fpn",), choice(1, 3, 5, 7, default=1))
    k1: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k3: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k3d2: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k3d3: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k5: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k5d2: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    k5d3: tuple[bool, ...] = when("neck", SEVERAL, each(MOST, choice(True, False, default=True)))
    gate: GateKind | Literal["none"] = when(
        "neck",
        CHOOSING,
        choice(
            "cnn_a", "cnn_b", "gru_up", "gru_down", "lstm_up", "lstm_down", "random", "none",
            default="cnn_a",
        ),
    )  # fmt: skip
    see: See = when("neck", CHOOSING, choice("mean", "both", default="mean"))
    reduction: int = when("gate", ("cnn_a",), choice(4, 8, default=4))
    alpha: float = when("neck", CHOOSING, real(0.05, 0.8, default=0.4))
    strength: float = when("neck", CHOOSING, real(0.1, 50.0, log=True, default=1.0))
    per: Literal["image", "batch"] = when(
        "neck", CHOOSING, choice("image", "batch", default="image")
    )
    opened: float = when("neck", ("skip",), real(0.0, 2.0, default=2.0))
    settled: float = when("neck", CHOOSING, choice(0.3, 0.5, 0.7, 1.0, default=0.5))
    alternate: int = when("neck", CHOOSING, choice(0, 8, 64, default=0))
    gate_rate: float = when("neck", CHOOSING, real(0.1, 10.0, log=True, default=1.0))
    widen: float = choice(0.5, 0.75, 1.0, 1.5, default=0.5)
    depth: int = choice(0, 1, 2, default=1)
    tower: int = choice(0, 1, 2, default=1)
    out: int = integer(8, 64, step=8, default=16)
    rate: float = real(3e-4, 2e-2, log=True, default=3e-3)

    # -- which network ----------------------------------------------------------------------

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything, so that equal candidates have equal keys."""
        values = super().in_effect()
        idle = set[str]()
        if self.neck not in CHOOSING or self.gate == "none":
            idle = {*LEARNT, "alpha"}
        elif self.gate == "random":
            idle = {*LEARNT}
        return {name: value for name, value in values.items() if name not in idle}

    def plain(self) -> Self:
        """Return this candidate with every field that changes nothing at its default."""
        return type(self).from_json(self.active())

    def _kernels(self, level: int) -> tuple[Kernel, ...]:
        """Return the convolutions of a level's lateral."""
        if self.neck == "fpn":
            return ((self.kernel, 1),)
        chosen = [getattr(self, name)[level] for name in NAMES]
        found = tuple(kernel for kernel, there in zip(BRANCHES, chosen, strict=True) if there)
        return found or BRANCHES[:1]

    def _plans(self, shape: TaskShape) -> tuple[NeckPlan, DetectPlan | None]:
        """Return the plan of the neck and of the detector around it, None on bare features."""
        if shape.kind == "features":
            maps, out = features_of(shape)
            channels, around = tuple(one[0] for one in maps), None
        else:
            stages = _strides(shape)[-1].bit_length() - 1
            widths = tuple(round(self.widen * width) for width in WIDTHS[:stages])
            around = micro_plan(shape, widths, self.depth, self.out, self.tower)
            channels, out = around.features, self.out
        laterals = tuple(self._kernels(level) for level in range(len(channels)))
        way: Way = "skip" if self.neck == "skip" else "all"
        if self.neck == "choose" and self.gate != "none" and max(map(len, laterals)) > 1:
            way = "choose"
        return NeckPlan(channels, out, laterals, way), around

    def _chooses(self, plan: NeckPlan) -> bool:
        return bool(plan.gated) and self.gate != "none"

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network: its plans, its gate, and the odds of a random one."""
        plan, around = self._plans(shape)
        gate = self.gate if self._chooses(plan) else "none"
        see = None if gate in ("none", "random") else self.see
        return {
            "neck": [plan.channels, plan.out, plan.laterals, plan.way],
            "around": None if around is None else [around.widths, around.depth, around.tower],
            "gate": [gate, self.reduction if gate == "cnn_a" else 0, see],
            "odds": self.alpha if gate == "random" else None,
        }

    def refusal(self, shape: TaskShape) -> str | None:
        """Say that there are too many levels, strides that do not double, or maps under 3 x 3.

        The convolution of gate cnn_b has no padding.
        """
        sizes = _sizes(shape)
        if len(sizes) > MOST:
            return f"the task has {len(sizes)} levels, dyfpn knows {MOST} at most: take some away"
        if shape.kind != "features":
            strides = _strides(shape)
            if strides != tuple(strides[-1] >> i for i in reversed(range(len(strides)))):
                return f"the task's strides {strides} do not double from level to level"
            if strides[0] < 2 or strides[-1] > 2 ** len(WIDTHS):
                return f"the task has strides {strides}, dyfpn 2 to {2 ** len(WIDTHS)}"
        least = min(map(min, sizes))
        if self.gate == "cnn_b" and self.neck in CHOOSING and least < 3:
            return f"gate cnn_b needs maps of 3 x 3 or more, the coarsest has a side of {least}"
        return None

    def build(self, shape: TaskShape) -> nn.Module:
        """Return a detector, (N, 3, H, W) to (N, P, 4 + classes), or a neck on bare features."""
        plan, around = self._plans(shape)
        chooses = self._chooses(plan)
        neck = Neck(plan, self._gate(plan, shape) if chooses else None)
        if around is None:
            return GatedOnFeatures(neck) if chooses else OnFeatures(neck)
        return detector(around, neck, GatedDetector if chooses else Detector)

    def _gate(self, plan: NeckPlan, shape: TaskShape) -> Gate:
        refusal = self.refusal(shape)
        if refusal is not None or self.gate == "none":
            raise SpaceError(refusal or "there is no gate to build")
        budget = self._budget(plan, shape)
        gate = gate_of(
            self.gate,
            [plan.channels[level] for level in plan.gated],
            plan.ways,
            reduction=self.reduction,
            see=self.see,
            odds=[even_odds(costs, self.alpha) for costs in budget.costs],
        )
        if plan.way == "skip":
            start_open(gate, self.opened)
        return gate

    def _budget(self, plan: NeckPlan, shape: TaskShape) -> Budget:
        costs = plan.costs([height * width for height, width in _sizes(shape)])
        return Budget(costs, self.alpha, self.strength, self.per)

    # -- how it is trained ------------------------------------------------------------------

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return AdamW on the task's loss and the budget's; gates at `gate_rate` times the rate.

        `alternate` batches move all but the gates, as many the gates alone, and so on.
        """
        plan, _ = self._plans(shape)
        chooses = self._chooses(plan)
        loss = within(self._budget(plan, shape), self._noise()) if chooses else task_loss
        rates = (self.rate, self.rate * self.gate_rate)

        def step(which: Part) -> Step:
            return Step(loss, moving(which, *rates), adamw(self.rate, DECAY), one_cycle(warm=0.15))

        if not (chooses and self.gate != "random" and self.alternate):
            return Recipe((Phase("train", 1.0, (step("all"),)),), BATCH)
        turns = Cycle((step("network"),), (step("gate"),), self.alternate)
        return Recipe((Phase("train", 1.0, turns),), BATCH)

    def _noise(self) -> Schedule:
        """Return the gates' noise over the training: none from `settled` on, or always all."""
        always = self.settled == 1 or self.gate == "random"
        return Schedule(1.0, 1.0 if always else 0.0, 0.0, self.settled)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the same network with a gate that learns nothing and spends the budget."""
        plan, _ = self._plans(shape)
        if not self._chooses(plan) or self.gate == "random":
            return None
        return replace(self, gate="random").plain()

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return what gates did on valid (see `gates_on`): open, spent, small_r."""
        if not isinstance(model, GatedDetector):
            return {}
        return gates_on(model, task, self._budget(self._plans(task.shape)[0], task.shape))


def _sizes(shape: TaskShape) -> list[tuple[int, int]]:
    """Return height and width of every level's map."""
    if shape.kind == "features":
        return [one[1:] for one in features_of(shape)[0]]
    _, height, width = shape.input
    return [(-(-height // s), -(-width // s)) for s in _strides(shape)]


def _strides(shape: TaskShape) -> tuple[int, ...]:
    if not isinstance(shape.outputs, Boxes):
        raise SpaceError(f"a {shape.kind} task has no boxes: take a detect task")
    return shape.outputs.strides


DyFpn.published = tuple(neck_points())
