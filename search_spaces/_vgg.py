"""VGG-small through operator slots: six 3x3 convolutions in three pairs, pooled after each.

    vgg(VggPlan(inputs=3, classes=10, side=32), operator, activation)

Convolution, max-pool at the end of a stage, BatchNorm, activation. Slots are named "stem" (the
first convolution) and "stages.I.J.conv"; activations "stem" and "stages.I.J.act". The network of
arXiv:1807.10029 (LQ-Nets), which papers on adder and low-bit networks mean by this name.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nasx.errors import SpaceError
from search_spaces._backbones import Activation, Classifier, Operator, conv, start
from search_spaces._resnets import relu


@dataclass(frozen=True)
class VggPlan:
    """A plain network on square images of `side` pixels, with one linear layer at the end.

    `repeats` counts the convolutions of each stage. Channels double from stage to stage, up to
    `widest` times the width. The first `pools` stages end in a 2x2 max-pool.
    """

    inputs: int
    classes: int
    side: int
    width: int = 128
    repeats: tuple[int, ...] = (2, 2, 2)
    pools: int = 3
    widest: int = 4


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
    model, stages = nn.Sequential(), nn.Sequential()
    c_in = plan.inputs
    for i, repeats in enumerate(plan.repeats):
        stage, c_out = nn.Sequential(), plan.width * min(2**i, plan.widest)
        for j in range(repeats):
            first = i == j == 0
            where = "stem" if first else f"stages.{i}.{j}.conv"
            layer = nn.Sequential(operator(c_in, c_out, 3, 1, where))
            if j == repeats - 1 and i < plan.pools:
                layer.append(nn.MaxPool2d(2))
            layer.append(nn.BatchNorm2d(c_out))
            layer.append(activation("stem" if first else f"stages.{i}.{j}.act", c_out))
            if first:
                model.add_module("stem", layer)
            else:
                stage.append(layer)
            c_in = c_out
        stages.append(stage)
    model.add_module("stages", stages)
    model.add_module("head", nn.Sequential(nn.Flatten(), classifier(c_in * last**2, plan.classes)))
    for module in model.modules():
        start(module, "in")
    return model
