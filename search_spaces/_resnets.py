"""Residual networks through operator slots: CIFAR ResNets of depth 6n + 2, and ResNet-18.

    plan = ResNetPlan(inputs=3, classes=10, repeats=cifar_repeats(20))
    resnet(plan, operator, activation)     # (N, 3, S, S) to (N, 10) logits

A block is conv1, BatchNorm, activation, conv2, BatchNorm, sum, activation (arXiv:1512.03385). Slots
are named "stem", "stages.I.J.conv1", "stages.I.J.conv2", "stages.I.J.shortcut" and "head", so that
an operator can treat each as it likes; activations "stem", "stages.I.J.act1", "stages.I.J.act2".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from nasx.errors import SpaceError
from search_spaces._backbones import Activation, Classifier, Operator, conv, start


def relu(where: str, channels: int) -> nn.Module:
    """Return a ReLU, whatever the place."""
    return nn.ReLU()


@dataclass(frozen=True)
class ResNetPlan:
    """A residual network: channels double and the side halves from stage to stage.

    `shortcut` is what a block that changes the shape adds: "conv" a 1x1 operator with stride and
    BatchNorm, "pool" mean-pooling, a 1x1 operator and BatchNorm, "pad" every second pixel with
    zero channels around (option A: no parameters). `skip` "conv" sums after every convolution
    (arXiv:1808.00278), "block" after every second. `head` "linear" has a bias, "conv_bn" is a 1x1
    operator and BatchNorm over the logits. `stem` "large" is 7x7 with stride 2 and a max-pool.
    """

    inputs: int
    classes: int
    repeats: tuple[int, ...] = (3, 3, 3)
    width: int = 16
    shortcut: Literal["conv", "pool", "pad"] = "conv"
    head: Literal["linear", "conv_bn"] = "linear"
    stem: Literal["small", "large"] = "small"
    skip: Literal["block", "conv"] = "block"


def cifar_repeats(depth: int) -> tuple[int, int, int]:
    """Return the blocks per stage of a CIFAR ResNet of `depth` = 6n + 2 layers."""
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise SpaceError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}: take 8, 14, 20, 32, ...")
    return n, n, n


def resnet18(inputs: int, classes: int) -> ResNetPlan:
    """Return the plan of ResNet-18 for large images: four stages of two blocks from width 64."""
    return ResNetPlan(inputs, classes, (2, 2, 2, 2), 64, stem="large")


class Pad(nn.Module):
    """Keep every `stride`-th pixel and put zero channels on both sides: option A."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before = stride, (c_out - c_in) // 2
        self.after = c_out - c_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, ceil(H / stride), ceil(W / stride))."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two convolutions beside a shortcut; the first has the stride."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        where: str,
        plan: ResNetPlan,
        operator: Operator,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.twice = plan.skip == "conv"
        self.conv1 = operator(c_in, c_out, 3, stride, f"{where}.conv1")
        self.bn1 = nn.BatchNorm2d(c_out)
        self.act1 = activation(f"{where}.act1", c_out)
        self.conv2 = operator(c_out, c_out, 3, 1, f"{where}.conv2")
        self.bn2 = nn.BatchNorm2d(c_out)
        self.act2 = activation(f"{where}.act2", c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = _shortcut(c_in, c_out, stride, where, plan, operator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, ceil(H / stride), ceil(W / stride))."""
        aside: Tensor = self.shortcut(x)
        out = self.bn1(self.conv1(x))
        if self.twice:
            aside = out = self.act1(out + aside)
        else:
            out = self.act1(out)
        last: Tensor = self.act2(self.bn2(self.conv2(out)) + aside)
        return last


def _shortcut(
    c_in: int, c_out: int, stride: int, where: str, plan: ResNetPlan, operator: Operator
) -> nn.Module:
    if plan.shortcut == "pad":
        return Pad(c_in, c_out, stride)
    layers: list[nn.Module] = []
    if plan.shortcut == "pool" and stride != 1:
        layers += [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)]
        stride = 1
    layers += [operator(c_in, c_out, 1, stride, f"{where}.shortcut"), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers)


def _head(
    features: int, plan: ResNetPlan, operator: Operator, classifier: Classifier
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)]
    if plan.head == "linear":
        layers += [nn.Flatten(), classifier(features, plan.classes)]
    else:
        layers += [operator(features, plan.classes, 1, 1, "head"), nn.BatchNorm2d(plan.classes)]
        layers += [nn.Flatten()]
    return nn.Sequential(*layers)


def resnet(
    plan: ResNetPlan,
    operator: Operator = conv,
    activation: Activation = relu,
    classifier: Classifier = nn.Linear,
) -> nn.Sequential:
    """Return the untrained network of a plan: (N, inputs, S, S) to (N, classes) logits.

    Its children are `stem`, `stages` and `head`. Plain convolutions start from
    N(0, sqrt(2 / fan_out)); an operator's own layers keep their own start.
    """
    large = plan.stem == "large"
    kernel, stride = (7, 2) if large else (3, 1)
    stem = nn.Sequential(
        operator(plan.inputs, plan.width, kernel, stride, "stem"),
        nn.BatchNorm2d(plan.width),
        activation("stem", plan.width),
    )
    if large:
        stem.append(nn.MaxPool2d(3, 2, 1))
    stages = nn.Sequential()
    c_in = plan.width
    for i, repeats in enumerate(plan.repeats):
        stage, c_out = nn.Sequential(), plan.width * 2**i
        for j in range(repeats):
            stride = 2 if i and not j else 1
            where = f"stages.{i}.{j}"
            stage.append(Block(c_in, c_out, stride, where, plan, operator, activation))
            c_in = c_out
        stages.append(stage)
    model = nn.Sequential()
    model.add_module("stem", stem)
    model.add_module("stages", stages)
    model.add_module("head", _head(c_in, plan, operator, classifier))
    for layer in model.modules():
        start(layer, "in")
    return model
