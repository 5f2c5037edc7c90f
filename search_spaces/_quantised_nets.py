"""Backbones whose convolutions have weights and inputs of few bits, through operator slots.

First and last layers and shortcuts stay float or take 8 bits. Where signs are read, no activation
stands before them: clipping at 0 would leave nothing but +1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from nasx.shape import TaskShape
from search_spaces._backbones import Activation, Classifier, Operator, conv, network, stage_of
from search_spaces._bases import micro, scaled
from search_spaces._layers.deploying import Shift
from search_spaces._layers.quantised import QuantisedConv2d
from search_spaces._layers.rounding import Act, RoundedConv2d, Rounding, Steps, reading
from search_spaces._layers.slb import SlbConv2d
from search_spaces._layers.state_norm import watch
from search_spaces._resnets import ResNetPlan, resnet, resnet18
from search_spaces._vgg import VggPlan, vgg

Method = Literal["slb", "dorefa", "ste"]
Norm = Literal["recalibrate", "state", "none"]

STAGES: dict[str, tuple[int, ...]] = {  # low-bit convolutions per stage
    "micro": (2, 3),
    "resnet20": (6, 6, 6),
    "vgg_small": (1, 2, 2),
    "resnet18": (4, 4, 4, 4),
}
RELAXED = (1, 2, 4)  # bits at which SLB searches; at 8 it would carry 256 logits for each weight
DARKEST, BRIGHTEST = -3.0, 3.0  # of an image with mean 0 and deviation 1, read in 8 bits
WIDEST = 6.0  # where the range of other inputs that are read in 8 bits starts; it is learnt


@dataclass(frozen=True)
class Quantised:
    """How a network is quantised: bits of each low-bit convolution from input to output.

    `ends` are the bits of the first and last layers and of shortcuts, `std` how far SLB's logits
    start apart.
    """

    w: tuple[int, ...]
    a: tuple[int, ...]
    method: Method
    act: Act
    norm: Norm
    ends: int
    std: float


class _Slots:
    """The operators and activations of one network; low-bit convolutions come in order."""

    def __init__(self, backbone: str, how: Quantised) -> None:
        self.how, self.stages = how, STAGES[backbone]
        self.met = 0
        reads, at = [], 0
        for layers in self.stages:
            reads.append(1 in how.a[at : at + layers])
            at += layers
        # A stage's output is read within it and by the first layer of the next one.
        self.signed = [now or later for now, later in zip(reads, [*reads[1:], False], strict=True)]
        self.reads_signs = reads

    def operator(self, c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
        """Return the convolution of one slot."""
        stage = stage_of(where)
        if stage is None or where.endswith("shortcut"):
            return self._end(c_in, c_out, kernel, stride, where)
        w, a = self.how.w[self.met], self.how.a[self.met]
        self.met += 1
        clipped = nn.ReLU() if self.signed[stage] and a == 32 else None
        if w == 32:
            plain = conv(c_in, c_out, kernel, stride, where)
            return plain if clipped is None else nn.Sequential(clipped, plain)
        read = clipped or reading(a, self.how.act)
        shape = (c_in, c_out, kernel, stride, kernel // 2)
        if self.how.method == "slb" and w in RELAXED:
            return SlbConv2d(*shape, bits=w, std=self.how.std, reading=read)
        rounding: Rounding = "ste" if self.how.method == "ste" else "dorefa"
        return RoundedConv2d(*shape, bits=w, rounding=rounding, reading=read)

    def _end(self, c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
        if self.how.ends == 32:
            return conv(c_in, c_out, kernel, stride, where)
        read: nn.Module = Steps(8, WIDEST, learnt=True)
        if where == "stem":
            read = nn.Sequential(Shift(-DARKEST), Steps(8, BRIGHTEST - DARKEST))
        return RoundedConv2d(c_in, c_out, kernel, stride, kernel // 2, bits=8, reading=read)

    def activation(self, where: str, channels: int) -> nn.Module:
        """Return the activation of one slot."""
        stage = stage_of(where)
        if where == "stem":
            return nn.Identity() if self.reads_signs[0] else nn.ReLU()
        # The last one feeds the head, which reads no signs.
        if stage is None or self.met == len(self.how.w):
            return nn.ReLU()
        return nn.Identity() if self.signed[stage] else nn.ReLU()

    def classifier(self, features: int, classes: int) -> nn.Module:
        """Return the last layer: (N, features) -> (N, classes)."""
        if self.how.ends == 32:
            return nn.Linear(features, classes)
        last = RoundedConv2d(
            features, classes, 1, bits=8, scaled=True, bias=True,
            reading=Steps(8, WIDEST, learnt=True),
        )  # fmt: skip
        return nn.Sequential(nn.Unflatten(1, (-1, 1, 1)), last, nn.Flatten())


def quantised(backbone: str, width: float, shape: TaskShape, how: Quantised) -> nn.Module:
    """Return the untrained network in training: (N, C, S, S) to (N, classes) logits."""
    slots = _Slots(backbone, how)
    three = (slots.operator, slots.activation, slots.classifier)
    model = _bare(backbone, width, shape, *three)
    if how.norm == "state":
        watch(model)
    return model


def _bare(
    backbone: str,
    width: float,
    shape: TaskShape,
    operator: Operator,
    activation: Activation,
    classifier: Classifier,
) -> nn.Module:
    inputs, classes = shape.input[0], shape.classes
    three = (operator, activation, classifier)
    if backbone == "micro":
        return network(scaled(micro(shape), width, 1.0), *three)
    if backbone == "vgg_small":
        return vgg(VggPlan(inputs, classes, shape.side, round(128 * width)), *three)
    if backbone == "resnet20":
        plan = ResNetPlan(inputs, classes, width=round(16 * width), shortcut="pad")
    else:  # with a shortcut around every convolution (arXiv:1808.00278)
        large = resnet18(inputs, classes)
        plan = replace(large, width=round(64 * width), skip="conv")
    return resnet(plan, *three)


def low_bit_layers(model: nn.Module) -> list[QuantisedConv2d]:
    """Return the quantised convolutions of a network in training, in order."""
    return [m for m in model.modules() if isinstance(m, QuantisedConv2d)]
