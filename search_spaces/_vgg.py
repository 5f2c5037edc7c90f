"""VGG-small through operator slots: six 3x3 convolutions in three pairs, pooled after each.

    vgg(VggPlan(inputs=3, classes=10, side=32), operator, activation)

Slots are named "stem" (the first convolution), "stages.I.J.conv" and "head"; activations "stem" and
"stages.I.J.act". After arXiv:1702.00953 (there with one linear layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from nasx.errors import SpaceError
from search_spaces._backbones import Operator, conv, start
from search_spaces._resnets import Activation, Classifier, make_head, relu


@dataclass(frozen=True)
class VggPlan:
    """A plain network on square images of `side` pixels: channels double from stage to stage.

    `repeats` counts the convolutions of each stage. The first `pools` stages end in a 2x2
    max-pool. `head` as in `ResNetPlan`, on all features of the last map.
    """

    inputs: int
    classes: int
    side: int
    width: int = 128
    repeats: tuple[int, ...] = (2, 2, 2)
    pools: int = 3
    widest: int = 4  # times the width
    head: Literal["linear", "conv_bn"] = "linear"


def vgg(
    plan: VggPlan,
    operator: Operator = conv,
    activation: Activation = relu,
    classifier: Classifier = nn.Linear,
) -> nn.Sequential:
    """Return the untrained network of a plan: (N, inputs, side, side) to (N, classes) logits.

    Its children are `stem`, `stages` and `head`. SpaceError where the side cannot be halved.
    """
    last = plan.side >> plan.pools
    if last < 1:
        raise SpaceError(
            f"VGG-small halves the side {plan.pools} times: a side of {plan.side} is too small, "
            f"take at least {1 << plan.pools}"
        )
    model = nn.Sequential()
    stages = nn.Sequential()
    c_in = plan.inputs
    for i, repeats in enumerate(plan.repeats):
        stage, c_out = nn.Sequential(), plan.width * min(2**i, plan.widest)
        for j in range(repeats):
            first = i == j == 0
            where = "stem" if first else f"stages.{i}.{j}.conv"
            layer = nn.Sequential(
                operator(c_in, c_out, 3, 1, where),
                nn.BatchNorm2d(c_out),
                activation("stem" if first else f"stages.{i}.{j}.act", c_out),
            )
            if first:
                model.add_module("stem", layer)
            else:
                stage.append(layer)
            c_in = c_out
        if i < plan.pools:
            stage.append(nn.MaxPool2d(2))
        stages.append(stage)
    model.add_module("stages", stages)
    head = make_head(c_in * last * last, plan.classes, plan.head, operator, classifier)
    if plan.head != "linear":  # one place with all features, for a 1x1 operator
        head.insert(0, nn.Unflatten(1, (-1, 1, 1)))
        head.insert(0, nn.Flatten())
    model.add_module("head", head)
    for layer in model.modules():
        start(layer, "in")
    return model
