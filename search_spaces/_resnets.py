"""Residual networks through operator slots: CIFAR ResNets of depth 6n + 2, ResNet-18 to 101.

    plan = ResNetPlan(inputs=3, classes=10, repeats=cifar_repeats(20))
    resnet(plan, operator, activation)     # (N, 3, S, S) to (N, 10) logits

A block is conv1, BatchNorm, activation, conv2, BatchNorm, sum, activation (arXiv:1512.03385); a
bottleneck has three convolutions. Slots are named "stem", "stages.I.J.conv1", "stages.I.J.conv2"
(conv3), "stages.I.J.shortcut" and "head", so that an operator can treat each as it likes;
activations "stem", "stages.I.J.act1", "stages.I.J.act2" (act3).
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
    BatchNorm, "bare" the same without BatchNorm, "pool" mean-pooling, a 1x1 operator and BatchNorm,
    "pad" every second pixel with zero channels around (option A: no parameters). `skip` "conv" sums
    after every convolution (arXiv:1808.00278), "block" at the end of each block. `head` "linear"
    has a bias, "conv_bn" is a 1x1 operator and BatchNorm over the logits. `stem` "large" is 7x7
    with stride 2 and a max-pool. `block` "bottleneck" is 1x1, 3x3 (with the stride) and 1x1 to
    four times the stage's width.
    """

    inputs: int
    classes: int
    repeats: tuple[int, ...] = (3, 3, 3)
    width: int = 16
    shortcut: Literal["conv", "bare", "pool", "pad"] = "conv"
    head: Literal["linear", "conv_bn"] = "linear"
    stem: Literal["small", "large"] = "small"
    skip: Literal["block", "conv"] = "block"
    block: Literal["basic", "bottleneck"] = "basic"


def cifar_repeats(depth: int) -> tuple[int, int, int]:
    """Return the blocks per stage of a CIFAR ResNet of `depth` = 6n + 2 layers."""
    n, rest = divmod(depth - 2, 6)
    if rest or n < 1:
        raise SpaceError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}: take 8, 14, 20, 32, ...")
    return n, n, n


LARGE: dict[int, tuple[int, int, int, int]] = {  # blocks per stage, by depth
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}


def large_resnet(depth: int, inputs: int, classes: int) -> ResNetPlan:
    """Return the plan of ResNet-18, 34, 50 or 101 for large images (arXiv:1512.03385, table 1)."""
    if depth not in LARGE:
        raise SpaceError(
            f"no ResNet for large images has {depth} layers here: take 18, 34, 50, 101"
        )
    kind: Literal["basic", "bottleneck"] = "basic" if depth < 50 else "bottleneck"
    return ResNetPlan(inputs, classes, LARGE[depth], 64, stem="large", block=kind)


def resnet18(inputs: int, classes: int) -> ResNetPlan:
    """Return the plan of ResNet-18 for large images: four stages of two blocks from width 64."""
    return large_resnet(18, inputs, classes)


class Pad(nn.Module):
    """Keep every `stride`-th pixel and put zero channels on both sides: option A."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.c_in, self.c_out, self.stride = c_in, c_out, stride
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, ceil(H / stride), ceil(W / stride))."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


class Block(nn.Module):
    """Two convolutions beside a shortcut; the first has the stride.

    `widen` brings the branch to the width of the shortcut where it has fewer channels.
    """

    convolutions, widening = 2, 1

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
        self.widen: nn.Module = nn.Identity()
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
        last: Tensor = self.act2(aside + self.widen(self.bn2(self.conv2(out))))
        return last


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 has the stride.

    The inner two have a quarter of the `c_out` channels. `widen` is as in `Block`.
    """

    convolutions, widening = 3, 4

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
        if plan.skip == "conv":
            raise SpaceError(f"{where}: a bottleneck cannot sum after every convolution")
        inner = c_out // self.widening
        self.conv1 = operator(c_in, inner, 1, 1, f"{where}.conv1")
        self.bn1 = nn.BatchNorm2d(inner)
        self.act1 = activation(f"{where}.act1", inner)
        self.conv2 = operator(inner, inner, 3, stride, f"{where}.conv2")
        self.bn2 = nn.BatchNorm2d(inner)
        self.act2 = activation(f"{where}.act2", inner)
        self.conv3 = operator(inner, c_out, 1, 1, f"{where}.conv3")
        self.bn3 = nn.BatchNorm2d(c_out)
        self.widen: nn.Module = nn.Identity()
        self.act3 = activation(f"{where}.act3", c_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.shortcut = _shortcut(c_in, c_out, stride, where, plan, operator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, ceil(H / stride), ceil(W / stride))."""
        out = self.act1(self.bn1(self.conv1(x)))
        out = self.act2(self.bn2(self.conv2(out)))
        last: Tensor = self.act3(self.shortcut(x) + self.widen(self.bn3(self.conv3(out))))
        return last


BLOCKS: dict[str, type[Block] | type[Bottleneck]] = {"basic": Block, "bottleneck": Bottleneck}


def _shortcut(
    c_in: int, c_out: int, stride: int, where: str, plan: ResNetPlan, operator: Operator
) -> nn.Module:
    if plan.shortcut == "pad":
        return Pad(c_in, c_out, stride)
    layers: list[nn.Module] = []
    if plan.shortcut == "pool" and stride != 1:
        layers += [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)]
        stride = 1
    layers += [operator(c_in, c_out, 1, stride, f"{where}.shortcut")]
    if plan.shortcut != "bare":
        layers += [nn.BatchNorm2d(c_out)]
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
    stages, block = nn.Sequential(), BLOCKS[plan.block]
    c_in = plan.width
    for i, repeats in enumerate(plan.repeats):
        stage, c_out = nn.Sequential(), plan.width * 2**i * block.widening
        for j in range(repeats):
            stride = 2 if i and not j else 1
            where = f"stages.{i}.{j}"
            stage.append(block(c_in, c_out, stride, where, plan, operator, activation))
            c_in = c_out
        stages.append(stage)
    model = nn.Sequential()
    model.add_module("stem", stem)
    model.add_module("stages", stages)
    model.add_module("head", _head(c_in, plan, operator, classifier))
    for layer in model.modules():
        start(layer, "in")
    return model
