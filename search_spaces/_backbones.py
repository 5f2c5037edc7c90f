"""Convolutional classifiers from a plain plan, and the plan's closed-form cost.

    plan = Plan(inputs=3, stem=32, stages=(Stage(16), Stage(24, 2, stride=2, expand=6)), classes=10)
    network(plan)                              # the module
    plan_macs(plan, side=224), plan_params(plan)   # the same network counted without building it

`blocks` is the one walk through a plan: the network is built from it and the cost is summed over
it, so the two cannot drift apart. Every convolution comes from an operator slot; a technique
that replaces convolutions passes its own operator and keeps the plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

Operator = Callable[[int, int, int, int, str], nn.Module]  # (c_in, c_out, kernel, stride, where)
Activation = Callable[[str, int], nn.Module]  # (where, channels)
Classifier = Callable[[int, int], nn.Module]  # (features, classes)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "relu": nn.ReLU,
}


class MeanAndMax(nn.Module):
    """Add the mean and the maximum of each channel: (N, C, H, W) to (N, C, 1, 1).

    The mean gives every place a gradient, the maximum finds an object that is small.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return mean + maximum over the places."""
        return x.mean((2, 3), True) + x.amax((2, 3), True)


POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AdaptiveAvgPool2d(1),
    "both": MeanAndMax,
}


@dataclass(frozen=True)
class Stage:
    """A run of alike blocks; the first one has the stride.

    `kind` "mbconv" is expand 1x1, depthwise k x k, squeeze-excite, project 1x1 (no expansion
    where `expand` is 1); "conv" is one dense k x k. `squeeze` is the squeeze-excite width
    relative to the block's input channels, 0 for none.
    """

    channels: int
    repeats: int = 1
    kernel: int = 3
    stride: int = 1
    expand: int = 1
    squeeze: float = 0.0
    kind: str = "mbconv"


@dataclass(frozen=True)
class Plan:
    """A whole classifier: stem, stages, 1x1 head, global pooling, linear layer."""

    inputs: int
    stem: int
    stages: tuple[Stage, ...]
    head: int
    classes: int
    stem_stride: int = 2
    activation: str = "silu"
    dropout: float = 0.0
    pool: str = "avg"  # how the last map becomes one vector: "avg" or "both" (mean + maximum)
    gain: float = 1.0  # at which a residual branch starts: the scale of its last normalisation
    fan: str = "out"  # side of the linear layer that sets how large it starts: "out" or "in"

    @property
    def stride(self) -> int:
        """Return by how much the last feature map is smaller than the input."""
        return self.stem_stride * math.prod(stage.stride for stage in self.stages)


class Block(NamedTuple):
    """One block with its channel counts worked out; `squeeze` is in channels, 0 for none."""

    where: str
    kind: str
    c_in: int
    c_mid: int
    c_out: int
    kernel: int
    stride: int
    squeeze: int


def blocks(plan: Plan) -> Iterator[Block]:
    """Yield the blocks of a plan from input to output."""
    c_in = plan.stem
    for i, stage in enumerate(plan.stages):
        stride = stage.stride
        for j in range(stage.repeats):
            yield Block(
                f"stages.{i}.{j}",
                stage.kind,
                c_in,
                c_in * stage.expand if stage.kind == "mbconv" else c_in,
                stage.channels,
                stage.kernel,
                stride,
                round(c_in * stage.squeeze) if stage.kind == "mbconv" else 0,
            )
            c_in, stride = stage.channels, 1


def last_channels(plan: Plan) -> int:
    """Return the channels that leave the last stage."""
    return plan.stages[-1].channels if plan.stages else plan.stem


def plan_macs(plan: Plan, side: int) -> int:
    """Return the multiply-accumulates of one square image of `side` pixels.

    Convolutions and the linear layer, as in the papers' "FLOPs"; normalisation, activations and
    pooling are not counted. Kernels are odd and padded by half, so a stride s makes a side n
    into ceil(n / s).
    """
    side = -(-side // plan.stem_stride)
    total = 9 * plan.inputs * plan.stem * side * side
    for _, kind, c_in, c_mid, c_out, kernel, stride, squeeze in blocks(plan):
        before = side * side
        side = -(-side // stride)
        area = side * side
        if kind == "conv":
            total += kernel * kernel * c_in * c_out * area
            continue
        if c_mid != c_in:
            total += c_in * c_mid * before
        total += c_mid * (kernel * kernel * area + 2 * squeeze + c_out * area)
    return total + last_channels(plan) * plan.head * side * side + plan.head * plan.classes


def plan_params(plan: Plan) -> int:
    """Return the trainable scalars: weights, normalisation scales and shifts, biases."""
    total = 9 * plan.inputs * plan.stem + 2 * plan.stem
    for _, kind, c_in, c_mid, c_out, kernel, _, squeeze in blocks(plan):
        if kind == "conv":
            total += kernel * kernel * c_in * c_out + 2 * c_out
            continue
        if c_mid != c_in:
            total += c_in * c_mid + 2 * c_mid
        total += c_mid * (kernel * kernel + 2) + c_mid * c_out + 2 * c_out
        if squeeze:
            total += 2 * c_mid * squeeze + squeeze + c_mid
    total += last_channels(plan) * plan.head + 2 * plan.head
    return total + plan.head * plan.classes + plan.classes


def conv(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
    """Return an ordinary convolution without bias; depthwise where `where` ends so.

    The last word of `where` is the role: stem, expand, depthwise, project, conv or head.
    """
    groups = c_in if where.endswith("depthwise") else 1
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def stage_of(where: str) -> int | None:
    """Return the stage that an operator slot is in, or None in stem and head."""
    return int(where.split(".")[1]) if where.startswith("stages.") else None


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeeze: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeeze, 1),
            activation(),
            nn.Conv2d(squeeze, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (N, C, H, W) with each channel scaled into (0, 1)."""
        gate: Tensor = self.gate(x)
        return x * gate


class Residual(nn.Module):
    """Layers in a row, added to their input where stride 1 and equal channels allow it.

    `widen` brings what they give to the width of the network where they have fewer channels.
    """

    def __init__(self, layers: list[nn.Module], skip: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.widen: nn.Module = nn.Identity()
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.widen(self.layers(x))
        return x + out if self.skip else out


def build_block(block: Block, operator: Operator, activation: Activation, gain: float) -> Residual:
    """Return the module of one block; where it has a skip, its branch starts at `gain`.

    Activations are asked for as "stages.I.J.act", in an mbconv ".act1", ".act2" and ".gate".
    """
    where, kind, c_in, c_mid, c_out, kernel, stride, squeeze = block
    layers: list[nn.Module] = []
    if kind == "conv":
        layers += [operator(c_in, c_out, kernel, stride, f"{where}.conv"), nn.BatchNorm2d(c_out)]
        layers += [activation(f"{where}.act", c_out)]
    else:
        if c_mid != c_in:
            layers += [operator(c_in, c_mid, 1, 1, f"{where}.expand"), nn.BatchNorm2d(c_mid)]
            layers += [activation(f"{where}.act1", c_mid)]
        layers += [operator(c_mid, c_mid, kernel, stride, f"{where}.depthwise")]
        layers += [nn.BatchNorm2d(c_mid), activation(f"{where}.act2", c_mid)]
        if squeeze:
            gate = partial(activation, f"{where}.gate", squeeze)
            layers += [SqueezeExcite(c_mid, squeeze, gate)]
        layers += [operator(c_mid, c_out, 1, 1, f"{where}.project"), nn.BatchNorm2d(c_out)]
    skip = stride == 1 and c_in == c_out
    if skip:
        last = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)][-1]
        nn.init.constant_(last.weight, gain)
    return Residual(layers, skip)


def network(
    plan: Plan,
    operator: Operator = conv,
    activation: Activation | None = None,
    classifier: Classifier = nn.Linear,
) -> nn.Sequential:
    """Return the untrained network of a plan: (N, inputs, S, S) to (N, classes) logits.

    `activation` replaces the plan's own (asked for by "stem", "head" and as in `build_block`).

    Its children are `stem`, `stages`, `head` and `classifier`. Convolutions start from
    N(0, sqrt(2 / fan_out)), the linear layer from U(+-1 / sqrt(fan)), EfficientNet's fan being
    its outputs; an operator's own layers keep their own start.
    """
    usual = ACTIVATIONS[plan.activation]
    activation = activation or (lambda where, channels: usual())
    channels = last_channels(plan)
    stem = nn.Sequential(
        operator(plan.inputs, plan.stem, 3, plan.stem_stride, "stem"),
        nn.BatchNorm2d(plan.stem),
        activation("stem", plan.stem),
    )
    head = nn.Sequential(
        operator(channels, plan.head, 1, 1, "head"),
        nn.BatchNorm2d(plan.head),
        activation("head", plan.head),
    )
    last = nn.Sequential(
        POOLS[plan.pool](),
        nn.Flatten(),
        nn.Dropout(plan.dropout),
        classifier(plan.head, plan.classes),
    )
    model = nn.Sequential()
    model.add_module("stem", stem)
    body = [build_block(block, operator, activation, plan.gain) for block in blocks(plan)]
    model.add_module("stages", nn.Sequential(*body))
    model.add_module("head", head)
    model.add_module("classifier", last)
    for layer in model.modules():
        start(layer, plan.fan)
    return model


def start(layer: nn.Module, fan: str) -> None:
    """Draw the first weights of one plain convolution or linear layer; leave others alone."""
    if type(layer) is nn.Conv2d:
        fan_out = math.prod(layer.kernel_size) * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif type(layer) is nn.Linear:
        bound = 1.0 / math.sqrt(layer.out_features if fan == "out" else layer.in_features)
        nn.init.uniform_(layer.weight, -bound, bound)
        nn.init.zeros_(layer.bias)
