"""Super-resolution networks through operator slots: EDSR of any size, and VDSR.

    plan = SrPlan(scale=2, features=64, blocks=16)
    edsr(plan, operator, activation)       # (N, 3, H, W) to (N, 3, 2 H, 2 W)

Slots are "head", "body.I.conv1", "body.I.conv2", "body.end", "up.I" and "tail", of VDSR "head",
"body.I.conv" and "tail"; those of activations "body.I.act", of VDSR also "head". `light` makes
operators of cheaper bodies.

Images are in [0, 1]. Shifting them by the mean colour is part of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._backbones import Activation, Operator, conv, start
from search_spaces._layers.upscale import Centre, Skip, enlarging
from search_spaces._resnets import relu

MOST_SCALE = 8


@dataclass(frozen=True)
class SrPlan:
    """An enhanced deep residual network (arXiv:1707.02921).

    `residual` scales each block's branch before it is added. `skip` is what the output is added
    to: nothing (the published form) or the enlarged input. `up` "shuffle" enlarges the features
    before the last convolution (published), "direct" makes the s x s pixels in the last one
    (arXiv:1609.05158), which costs a fraction. With `zero_tail` the last convolution starts at 0:
    with a skip the untrained network is the skip. `scale` 1 restores without enlarging.
    """

    inputs: int = 3
    scale: int = 2
    features: int = 64
    blocks: int = 16
    residual: float = 1.0
    skip: Skip = "none"
    up: Literal["shuffle", "direct"] = "shuffle"
    zero_tail: bool = False


@dataclass(frozen=True)
class VdsrPlan:
    """A very deep network that corrects an enlarged image (arXiv:1511.04587).

    `layers` counts all convolutions. At `scale` 1 it takes the enlarged image itself, as
    published; at others it enlarges its input first. With `zero_tail` it starts as the bicubic
    image. `residual` off leaves out the sum with the enlarged image.
    """

    inputs: int = 1
    scale: int = 1
    features: int = 64
    layers: int = 20
    residual: bool = True
    zero_tail: bool = False


def scale_of(shape: TaskShape) -> int:
    """Return by how much a restoration task enlarges: 1 for noise and rain.

    SpaceError for several heads, whose networks these are not, and for a head of no known scale.
    """
    heads = shape.outputs
    if shape.kind != "restore" or not isinstance(heads, tuple):
        raise SpaceError(f"a {shape.kind} task has no scale: take a restore task")
    if len(heads) != 1:
        raise SpaceError(
            f"this network restores one degradation, the task has {len(heads)} "
            f"({', '.join(heads)}): give the task one of them"
        )
    (head,) = heads
    if head[:1] == "x" and head[1:].isdecimal():
        return int(head[1:])
    return 1


def micro_edsr(shape: TaskShape, features: int = 32, blocks: int = 4) -> SrPlan:
    """Return the plan of a small network that starts as bicubic enlargement and learns the rest."""
    return SrPlan(
        shape.input[0], scale_of(shape), features, blocks,
        skip="bicubic", up="direct", zero_tail=True,
    )  # fmt: skip


def biased(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
    """Return an ordinary convolution with bias, as EDSR has them."""
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2)


class Regroup(nn.Module):
    """Deal channels out so that the next grouped convolution sees every group (1707.01083)."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) with channel i C/g + j at j g + i."""
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def light(groups: int | None) -> Operator:
    """Return an operator of cheaper bodies; head, enlargement and tail stay dense.

    None: a depthwise convolution, then a 1x1 over channels. A number: a grouped convolution with
    its channels dealt out afterwards. SpaceError where channels do not divide.
    """

    def operator(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
        if not where.startswith("body."):
            return biased(c_in, c_out, kernel, stride, where)
        if groups is None:
            return nn.Sequential(
                nn.Conv2d(c_in, c_in, kernel, stride, kernel // 2, groups=c_in, bias=False),
                nn.Conv2d(c_in, c_out, 1),
            )
        if c_in % groups or c_out % groups:
            raise SpaceError(
                f"{where}: {c_in} to {c_out} channels cannot be split into {groups} groups"
            )
        grouped = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
        return nn.Sequential(grouped, Regroup(groups)) if groups > 1 else grouped

    return operator


class Block(nn.Module):
    """Convolution, activation, convolution, scaled and added to the input; no normalisation."""

    def __init__(
        self, features: int, residual: float, where: str, operator: Operator, activation: Activation
    ) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = operator(features, features, 3, 1, f"{where}.conv1")
        self.act = activation(f"{where}.act", features)
        self.conv2 = operator(features, features, 3, 1, f"{where}.conv2")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        branch: Tensor = self.conv2(self.act(self.conv1(x)))
        return x + (branch if self.residual == 1 else branch * self.residual)


def _factors(scale: int) -> list[int]:
    """Return the factors by which features are enlarged one after the other."""
    if not 1 <= scale <= MOST_SCALE:
        raise SpaceError(f"cannot enlarge by {scale}: take a scale from 1 to {MOST_SCALE}")
    if scale & (scale - 1):
        return [scale]
    return [2] * (scale.bit_length() - 1)


class Edsr(nn.Module):
    """A built `SrPlan`: (N, inputs, H, W) to (N, inputs, scale H, scale W)."""

    def __init__(self, plan: SrPlan, operator: Operator, activation: Activation) -> None:
        super().__init__()
        width, factors = plan.features, _factors(plan.scale)
        self.centre = Centre(plan.inputs)
        self.head = operator(plan.inputs, width, 3, 1, "head")
        self.body = nn.Sequential()
        for i in range(plan.blocks):
            self.body.append(Block(width, plan.residual, f"body.{i}", operator, activation))
        self.body.add_module("end", operator(width, width, 3, 1, "body.end"))
        self.up = nn.Sequential()
        out = plan.inputs
        if plan.up == "direct":
            out *= plan.scale**2
        else:
            for factor in factors:
                stage = operator(width, width * factor**2, 3, 1, f"up.{len(self.up) // 2}")
                self.up.append(stage).append(nn.PixelShuffle(factor))
        self.tail = operator(width, out, 3, 1, "tail")
        direct = plan.up == "direct" and plan.scale > 1
        self.shuffle = nn.PixelShuffle(plan.scale) if direct else nn.Identity()
        self.skip = enlarging(plan.skip, plan.inputs, plan.scale)
        self.back = Centre(plan.inputs, back=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the restored images."""
        features = self.head(self.centre(x))
        features = self.up(features + self.body(features))
        y: Tensor = self.shuffle(self.tail(features))
        out: Tensor = self.back(y) if self.skip is None else y + self.skip(x)
        return out


class Vdsr(nn.Module):
    """A built `VdsrPlan`: (N, inputs, H, W) to (N, inputs, scale H, scale W)."""

    def __init__(self, plan: VdsrPlan, operator: Operator, activation: Activation) -> None:
        super().__init__()
        _factors(plan.scale)
        if plan.layers < 2:
            raise SpaceError(f"VDSR needs at least 2 layers, not {plan.layers}")
        width = plan.features
        self.enlarge = enlarging("bicubic", plan.inputs, plan.scale) or nn.Identity()
        self.centre = Centre(plan.inputs)
        self.head = nn.Sequential(
            operator(plan.inputs, width, 3, 1, "head"), activation("head", width)
        )
        self.body = nn.Sequential()
        for i in range(plan.layers - 2):
            layer = nn.Sequential()
            layer.add_module("conv", operator(width, width, 3, 1, f"body.{i}.conv"))
            layer.add_module("act", activation(f"body.{i}.act", width))
            self.body.append(layer)
        self.tail = operator(width, plan.inputs, 3, 1, "tail")
        self.back = None if plan.residual else Centre(plan.inputs, back=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the restored images."""
        x = self.enlarge(x)
        y: Tensor = self.tail(self.body(self.head(self.centre(x))))
        out: Tensor = x + y if self.back is None else self.back(y)
        return out


def _zero(tail: nn.Module) -> None:
    if not isinstance(tail, nn.Conv2d):
        raise SpaceError(
            f"a tail that starts at 0 must be a convolution, not {type(tail).__name__}"
        )
    nn.init.zeros_(tail.weight)
    if tail.bias is not None:
        nn.init.zeros_(tail.bias)


def edsr(plan: SrPlan, operator: Operator = biased, activation: Activation = relu) -> Edsr:
    """Return the untrained network of a plan; layers keep their own start, as in EDSR."""
    model = Edsr(plan, operator, activation)
    if plan.zero_tail:
        _zero(model.tail)
    return model


def vdsr(plan: VdsrPlan, operator: Operator = conv, activation: Activation = relu) -> Vdsr:
    """Return the untrained network of a plan; plain convolutions start from He's normal."""
    model = Vdsr(plan, operator, activation)
    for layer in model.modules():
        start(layer, "in")
    if plan.zero_tail:
        _zero(model.tail)
    return model
