"""Super-resolution by additions: adder layers with self-shortcut and power (arXiv:2009.08891).

    y = x - sum over taps | x - w |        then        sign(y) |y|^alpha, alpha learnt

Searched: which part of a network adds instead of multiplying, what its adder layers add to
themselves, what follows them, and where the network is normalised. An implementation of our
reading of the paper: see docs/adder_sr.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import torch
from torch import nn

from nasx.cost.ops import count
from nasx.recipe import Groups, Phase, Recipe, State, Step, adamw, one_cycle
from nasx.shape import TaskShape
from nasx.space import Published, Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._backbones import Activation, Operator, conv
from search_spaces._layers.adder import AdderConv2d
from search_spaces._layers.power import Power, exponents
from search_spaces._layers.self_shortcut import NORMS, Norm, ShortcutAdder2d
from search_spaces._layers.upscale import Skip
from search_spaces._resnets import relu
from search_spaces._sr_nets import SrPlan, VdsrPlan, biased, edsr, scale_of, vdsr

MICRO = ("micro_edsr", "micro_vdsr")
PUBLISHED = {"vdsr": (64, 18), "edsr": (256, 32)}  # channels, depth
POWERS = ("power", "relu_power")
KINDS = ("conv", "adder")
BATCH = 8
COMPARABLE = 0.5  # share of the training before which an adder's score says little


class AdderSr(Space):
    """Networks that enlarge images, whose convolutions add, part by part.

    The defaults are the convolutional network. `operators` are those of the first, middle and
    last third of the body; `head`, `up` and `tail` the layers around it. `depth` is EDSR's blocks
    of two layers, VDSR's layers between its first and last. `shortcut`, `norm` and `eta` are of
    adder layers; `alpha_grain` says whether a layer has one exponent or one for each channel.
    """

    name: ClassVar[str] = "adder_sr"
    paper: ClassVar[str] = "arXiv:2009.08891"
    tasks: ClassVar[tuple[str, ...]] = ("restore",)
    training: ClassVar[tuple[str, ...]] = ("rate", "adder_rate")
    cautions: ClassVar[tuple[str, ...]] = (
        "Adder layers save modelled energy (arithmetic alone, 45 nm) and lose latency: CPUs and "
        "GPUs multiply and add in one instruction, so there an adder layer takes longer than the "
        "convolution it replaces. The model has no price for normalisation and for the power "
        "activation, which needs a logarithm and an exponential for every value.",
    )

    backbone: str = choice(*MICRO, *PUBLISHED, default="micro_edsr")
    width: int = when("backbone", MICRO, choice(8, 16, 32, default=16))  # channels
    depth: int = when("backbone", MICRO, integer(1, 6, default=4))
    operators: tuple[str, ...] = each(3, choice(*KINDS, default="conv"))
    head: str = choice(*KINDS, default="conv")
    up: str = when("backbone", ("edsr",), choice(*KINDS, default="conv"))
    tail: str = choice(*KINDS, default="conv")
    shortcut: bool = choice(True, False, default=True)
    norm: Norm = choice(*NORMS, default="branch")
    activation: str = choice("relu", "prelu", *POWERS, default="relu")
    alpha_start: float = when("activation", POWERS, choice(0.7, 1.0, 1.4, default=1.0))
    alpha_grain: str = when("activation", POWERS, choice("layer", "channel", default="layer"))
    skip: Skip = choice("none", "nearest", "bicubic", default="bicubic")
    residual: float = when("backbone", ("micro_edsr", "edsr"), choice(0.1, 1.0, default=1.0))
    rate: float = real(3e-4, 3e-2, log=True, default=2e-3)
    adder_rate: float = real(1.0, 30.0, log=True, default=10.0)

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network: (N, C, H, W) to (N, C, scale H, scale W)."""
        inputs, scale = shape.input[0], scale_of(shape)
        width, depth = self._size
        zero = self.skip != "none"
        zero_conv = zero and self.tail == "conv"
        if self._plain:
            plan = VdsrPlan(inputs, scale, width, depth + 2, zero, zero_conv)
            return vdsr(plan, self._operator(zero), self._activation())
        direct = self.backbone == "micro_edsr"
        return edsr(
            SrPlan(
                inputs, scale, width, depth, self.residual, self.skip,
                "direct" if direct else "shuffle", zero_conv,
            ),
            self._operator(zero),
            self._activation(),
        )  # fmt: skip

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network, its body layer by layer."""
        values = {k: v for k, v in self.in_effect().items() if k not in self.training}
        values["operators"] = [self._kind(where) for where in self._body()]
        if scale_of(shape) == 1 and self.skip != "none":
            values["skip"] = "input"
        return values

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything, so that equal networks have equal keys."""
        values, idle = super().in_effect(), set[str]()
        body = [self._kind(where) for where in self._body()]
        if "adder" not in body:
            idle |= {"shortcut"}
        if not self._adds():
            idle |= {"norm", "adder_rate"}
        if self._plain and self.skip != "none":
            values["skip"] = "bicubic"  # it takes the enlarged image
        return {name: value for name, value in values.items() if name not in idle}

    @property
    def _plain(self) -> bool:
        """Return whether the body is VDSR's, without sums of its own."""
        return self.backbone.endswith("vdsr")

    @property
    def _size(self) -> tuple[int, int]:
        """Return channels and depth."""
        return PUBLISHED.get(self.backbone, (self.width, self.depth))

    def _body(self) -> list[str]:
        """Return the places of the body's layers."""
        depth = self._size[1]
        if self._plain:
            return [f"body.{i}.conv" for i in range(depth)]
        blocks = [f"body.{i}.conv{j}" for i in range(depth) for j in (1, 2)]
        return [*blocks, "body.end"]

    def _kind(self, where: str) -> str:
        """Return what the layer at a place does; the body's last layer goes with the last third."""
        part, _, rest = where.partition(".")
        if part == "body":
            block = rest.partition(".")[0]
            return self.operators[3 * int(block) // self._size[1] if block.isdecimal() else 2]
        return {"head": self.head, "up": self.up, "tail": self.tail}[part]

    def _adds(self) -> bool:
        """Return whether any layer adds."""
        ends = (self.head, self.tail, *((self.up,) if self.backbone == "edsr" else ()))
        return "adder" in (*ends, *map(self._kind, self._body()))

    def _operator(self, zero: bool) -> Operator:
        """Return the layers of this candidate; with `zero` the network starts as its skip."""
        multiplies = conv if self._plain else biased

        def operator(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
            if self._kind(where) == "conv":
                return multiplies(c_in, c_out, kernel, stride, where)
            layer = ShortcutAdder2d(
                c_in, c_out, kernel, stride, kernel // 2, norm=self.norm, shortcut=self.shortcut
            )
            if where == "tail" and zero:
                layer.start_at_zero()
            return layer

        return operator

    def _activation(self) -> Activation:
        def activation(where: str, channels: int) -> nn.Module:
            if self.activation == "relu":
                return relu(where, channels)
            if self.activation == "prelu":
                return nn.PReLU(channels)
            grain = channels if self.alpha_grain == "channel" else None
            power = Power(grain, self.alpha_start)
            return power if self.activation == "power" else nn.Sequential(nn.ReLU(), power)

        return activation

    def control(self, shape: TaskShape) -> Self:
        """Return the convolutional network of the same form."""
        off = {"operators": ("conv",) * 3, "head": "conv", "up": "conv", "tail": "conv"}
        return type(self).from_json({**self.values(), **off, "activation": "relu"}).plain()

    def plain(self) -> Self:
        """Return this candidate with every field that changes nothing at its default."""
        return type(self).from_json(self.active())

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return Adam on the task's loss; an adder's filters move `adder_rate` times as fast.

        They are about 1 in size, a convolution's weights a tenth of that, and Adam's steps know
        no size. Nothing decays: least of all exponents, which would go to the middle of their
        bounds.
        """
        step = Step(
            parameters=_groups(self.rate, self.adder_rate),
            optimizer=adamw(self.rate, 0.0),
            factor=one_cycle(warm=0.1),
        )
        return Recipe((Phase("train", 1.0, (step,)),), BATCH, comparable_from=COMPARABLE)

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the share of taps that add, in percent, and the exponents that were learnt."""
        device = next(model.parameters()).device
        counted = count(model, torch.zeros(1, *self.input_shape(task.shape), device=device))
        taps = counted.adds / 2
        found = {"adder_taps_percent": 100 * taps / max(1.0, taps + counted.macs)}
        powers = [m.alpha.detach() for m in model.modules() if isinstance(m, Power)]
        if powers:
            alpha = torch.cat(powers)
            found |= {"alpha_least": float(alpha.min()), "alpha_most": float(alpha.max())}
        return found


def _groups(rate: float, adder_rate: float) -> Groups:
    """Return how parameters are moved: adder filters faster, exponents never decayed."""

    def grouped(state: State) -> Iterable[dict[str, Any]]:
        adders = [m.weight for m in state.model.modules() if isinstance(m, AdderConv2d)]
        powers = exponents(state.model)
        apart = {id(p) for p in (*adders, *powers)}
        rest = [p for p in state.model.parameters() if p.requires_grad and id(p) not in apart]
        found: list[dict[str, Any]] = [
            {"params": rest},
            {"params": adders, "lr": rate * adder_rate},
            {"params": powers, "weight_decay": 0.0},
        ]
        return [group for group in found if group["params"]]

    return grouped


_COUNTED = "layers as published; their taps counted by hand, two additions for each that adds"


def _point(name: str, shape: TaskShape, body: int, around: int, **size: Any) -> Published:
    """Return a published network whose body adds; head, enlargement and tail multiply."""
    fields = {**size, "operators": ["adder"] * 3}
    return Published(name, fields, shape, None, around, 2 * body, source=_COUNTED)


def _edsr(scale: int, high: int, wide: int, body: int, around: int) -> Published:
    shape = TaskShape("restore", (3, high, wide), (f"x{scale}",))
    return _point(f"edsr_x{scale}", shape, body, around, **_EDSR)


def _multiplying(name: str, point: Published, params: int) -> Published:
    """Return the network of a point with convolutions everywhere."""
    fields = {**point.candidate, "operators": ["conv"] * 3}
    macs = (point.macs or 0) + (point.adds or 0) // 2
    return Published(name, fields, point.shape, params, macs, 0, source=_COUNTED)


_EDSR = {"backbone": "edsr", "residual": 0.1, "skip": "none"}
_HD = TaskShape("restore", (1, 720, 1280), ("denoise",))  # at scale 1: the enlarged image itself
_X2 = _edsr(2, 360, 640, 8_833_204_224_000, 551_544_422_400)
_VDSR = _point("vdsr", _HD, 611_529_523_200, 1_061_683_200, backbone="vdsr")

AdderSr.published = (  # outputs of 1280 x 720 pixels
    _multiplying("edsr_x2_conv", _X2, 40_729_603),
    _X2,
    _edsr(4, 180, 320, 2_208_301_056_000, 686_245_478_400),
    _multiplying("vdsr_conv", _VDSR, 664_704),
    _VDSR,
)
