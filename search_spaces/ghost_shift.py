"""Super-resolution with ghost maps: which share of each layer is computed, and how the rest moves.

Half of a layer's maps, say, are computed, the others are copies of them moved by a pixel
(GhostSR, arXiv:2101.08525): no weight, no multiplication. The move is learned with the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from nasx.assets import Asset
from nasx.errors import SpaceError
from nasx.recipe import Groups, Hook, Loss, Recipe, State, task_loss
from nasx.relax import Rank, Schedule
from nasx.shape import TaskShape
from nasx.space import Published, Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._ghosts import inherit
from search_spaces._layers.ghost_conv import GhostConv2d
from search_spaces._layers.shift import Ghosts, Mode, deploy, set_noise
from search_spaces._sr_nets import Edsr, SrPlan, biased, edsr, micro_edsr, scale_of
from search_spaces._sr_recipe import restoring

STRETCHES = 8
RATIOS = (1.0, 0.75, 0.5, 0.375, 0.25)
FROZEN = 2 / 3  # of the training: from here on orientations stay
QUIET = 0.05  # noise at which they are frozen
MOVING: tuple[Mode, ...] = ("learned", "fixed", "random")


class GhostShift(Space):
    """EDSR whose blocks compute a share `ratio` of their maps and copy the others.

    `ratio` is given for eight stretches of the body's convolutions, in order: a layer each in
    micro (four blocks), two blocks in edsr_baseline (16 blocks of 64), four in edsr (32 of 256).
    `mode` says how copies move, `orientation` whether a layer's go together, `reach` by how many
    pixels at most; "depthwise" filters them instead. `init` takes the filters from a dense network
    trained on `dense_samples` before: the middles of clusters, or drawn ones.
    """

    name: ClassVar[str] = "ghost_shift"
    paper: ClassVar[str] = "arXiv:2101.08525"
    tasks: ClassVar[tuple[str, ...]] = ("restore",)
    cautions: ClassVar[tuple[str, ...]] = (
        "A ghost costs no multiplication and is not free: it is written and read like any map. "
        "Times are those of our operator, eager or aot; onnxruntime slices, pads and joins.",
    )
    training: ClassVar[tuple[str, ...]] = (
        "rank", "init", "dense_samples", "noise", "orientation_rate", "rate"
    )  # fmt: skip

    backbone: str = choice("micro", "edsr_baseline", "edsr", default="micro")
    features: int = when("backbone", ("micro",), integer(8, 64, step=8, default=32))
    ratio: tuple[float, ...] = each(STRETCHES, choice(*RATIOS, default=0.5))
    mode: Mode = choice("learned", "fixed", "random", "copy", "depthwise", default="learned")
    orientation: Literal["layer", "channel"] = when(
        "mode", ("learned", "random"), choice("layer", "channel", default="layer")
    )
    reach: int = when("mode", MOVING, choice(1, 2, default=1))
    rank: Rank = when("mode", ("learned",), choice("signed", "abs", default="signed"))
    noise: float = when("mode", ("learned",), real(0.1, 1.0, default=1.0))
    orientation_rate: float = when("mode", ("learned",), real(0.001, 0.1, log=True, default=0.05))
    init: str = choice("none", "cluster", "random", default="none")
    dense_samples: int = when(
        "init", ("cluster", "random"), integer(400, 409_600, step=400, default=8000)
    )
    rate: float = real(2e-4, 6e-3, log=True, default=1e-3)

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything: without ghosts there is nothing to move."""
        values = super().in_effect()
        if set(self.ratio) == {1.0}:
            kept = ("backbone", "features", "ratio", "rate")
            return {name: value for name, value in values.items() if name in kept}
        return values

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network."""
        now = self.in_effect()
        names = ("backbone", "features", "ratio", "mode", "orientation", "reach")
        return {name: now.get(name) for name in names}

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network in training: (N, 3, H, W) to (N, 3, s H, s W)."""
        plan = self._plan(shape)
        return edsr(plan, lambda *layer: self._operator(plan, *layer))

    def _plan(self, shape: TaskShape) -> SrPlan:
        if self.backbone == "micro":
            return micro_edsr(shape, self.features, STRETCHES // 2)
        inputs, scale = shape.input[0], scale_of(shape)
        if self.backbone == "edsr_baseline":
            return SrPlan(inputs, scale, 64, 16)
        return SrPlan(inputs, scale, 256, 32, residual=0.1)

    def _operator(
        self, plan: SrPlan, c_in: int, c_out: int, kernel: int, stride: int, where: str
    ) -> nn.Module:
        _, _, rest = where.partition("body.")
        block, _, name = rest.partition(".")
        if name not in ("conv1", "conv2"):
            return biased(c_in, c_out, kernel, stride, where)
        layer = 2 * int(block) + (name == "conv2")
        ratio = self.ratio[layer * STRETCHES // (2 * plan.blocks)]
        if ratio == 1:
            return biased(c_in, c_out, kernel, stride, where)
        return Ghosts(
            c_in, c_out, kernel, ratio=ratio, mode=self.mode, each=self.orientation,
            reach=self.reach, rank=self.rank,
        )  # fmt: skip

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network with every orientation frozen into its layer's operator."""
        return deploy(model)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the network at the same cost whose ghosts are plain copies."""
        if self.plain().mode not in MOVING or set(self.ratio) == {1.0}:
            return None
        return replace(self, mode="copy").plain()

    def whole(self, shape: TaskShape) -> Self | None:
        """Return the network without ghosts, for those that measure slower than it."""
        return None if set(self.ratio) == {1.0} else self.dense()

    def dense(self) -> Self:
        """Return the same network without ghosts."""
        return replace(self, ratio=(1.0,) * STRETCHES).plain()

    def plain(self) -> Self:
        """Return this candidate with every field that changes nothing at its default."""
        return type(self).from_json(self.active())

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the dense network that this one starts from."""
        now = self.plain()
        return {} if now.init == "none" else {"dense": Asset(self.dense(), now.dense_samples)}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of Adam; orientations have a rate of their own and freeze at 2/3.

        Their noise falls to .05 until then; scores before say little of the deployed network.
        """
        now = self.plain()
        learned = now.mode == "learned" and set(now.ratio) != {1.0}
        noise = Schedule(now.noise, min(now.noise, QUIET), 0.0, FROZEN, "exponential")
        found = restoring(now.rate, loss=noisy(noise), groups=groups(now.orientation_rate))
        (phase,) = found.phases
        begin = None if now.init == "none" else starting(now.init)
        return replace(
            found,
            phases=(replace(phase, begin=begin),),
            comparable_from=FROZEN if learned else 0.0,
        )

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the share of learned orientations that training changed, in percent."""
        layers = [m for m in model.modules() if isinstance(m, GhostConv2d)]
        moved = [changed for layer in layers for changed in layer.moved]
        return {"moved_percent": 100 * sum(moved) / len(moved)} if moved else {}


def starting(init: str) -> Hook:
    """Return the hook that fills a network from its dense asset."""

    def begin(state: State) -> None:
        model, dense = state.model, state.assets.get("dense")
        if not (isinstance(model, Edsr) and isinstance(dense, Edsr)):
            raise SpaceError(f"init {init} needs the trained dense network")
        inherit(model, dense, "cluster" if init == "cluster" else "random", seed=0)

    return begin


def noisy(noise: Schedule) -> Loss:
    """Return the task's loss while orientations are drawn with falling noise, then frozen."""

    def loss(state: State) -> Tensor:
        now, frozen = noise(state.progress), state.progress >= FROZEN
        set_noise(state.model, now, state.generator, frozen=frozen)
        if any(isinstance(m, Ghosts) and m.logits is not None for m in state.model.modules()):
            state.notes["noise"] = 0.0 if frozen else now
        return task_loss(state)

    return loss


def groups(orientation_rate: float) -> Groups:
    """Return how parameters are moved: orientations at a rate of their own."""

    def grouped(state: State) -> Iterable[dict[str, Any]]:
        layers = [m for m in state.model.modules() if isinstance(m, Ghosts)]
        logits = [m.logits for m in layers if m.logits is not None]
        known = {id(p) for p in logits}
        rest = [p for p in state.model.parameters() if p.requires_grad and id(p) not in known]
        of_logits = [{"params": logits, "lr": orientation_rate}] if logits else []
        return [{"params": rest}, *of_logits]

    return grouped


_COUNTED = (
    "counted from the official layout: the residual blocks' convolutions at ratio .5, high "
    "resolution 1280 x 720; 9 orientation weights a layer in training"
)


def _published(
    backbone: str, scale: int, size: tuple[int, int], params: int, macs: int, trained: int = 0
) -> Iterable[Published]:
    shape = TaskShape("restore", (3, *size), (f"x{scale}",))
    name, ghosts = f"{backbone}_x{scale}", trained > 0
    fields = {"backbone": backbone, "ratio": [0.5 if ghosts else 1.0] * STRETCHES}
    name += "_ghost" if ghosts else ""
    yield Published(name, fields, shape, params, macs, source=_COUNTED)
    if ghosts:
        yield Published(
            f"{name}_in_training", fields, shape, trained, None, source=_COUNTED, counted="trained"
        )


_SIZES = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
GhostShift.published = tuple(
    point
    for row in (
        ("edsr", 2, _SIZES[2], 40_729_603, 9_384_748_646_400),
        ("edsr", 2, _SIZES[2], 21_847_043, 5_036_094_259_200, 21_847_619),
        ("edsr", 3, _SIZES[3], 24_797_443, 2_539_818_270_720, 24_798_019),
        ("edsr", 4, _SIZES[4], 24_207_363, 1_807_382_937_600, 24_207_939),
        ("edsr_baseline", 2, _SIZES[2], 779_011, 180_353_433_600, 779_299),
        ("edsr_baseline", 3, _SIZES[3], 963_651, 99_760_066_560, 963_939),
        ("edsr_baseline", 4, _SIZES[4], 926_723, 80_256_614_400, 927_011),
    )
    for point in _published(*row)
)
