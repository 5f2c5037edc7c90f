"""Binary networks learnt with noisy supervision (LNS, arXiv:2010.04871, ICML 2020), our reading.

Weights and inputs of whole stages are signs. A plain binary network is trained first; then either
it is trained on ("none"), or a mapping over whole filters is attached to every binary convolution
("mapping"), held near the signs it began with by a loss that takes them for noisy labels ("noisy").
All three deploy the same network: the mappings are dropped, their signs stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from nasx.recipe import Phase, Recipe, State, Step, adamw, one_cycle, task_loss
from nasx.shape import TaskShape
from nasx.space import Published, Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._backbones import Plan, conv, network, stage_of
from search_spaces._bases import micro, scaled
from search_spaces._layers.binary import BinaryConv2d
from search_spaces._layers.mapping import FilterMapping, unbiased_loss
from search_spaces._layers.signs import sign
from search_spaces._layers.xnor import XnorConv2d
from search_spaces._resnets import ResNetPlan, cifar_repeats, resnet, resnet18
from search_spaces._vgg import VggPlan, vgg

RATE, DECAY = 1e-2, 1e-3  # of AdamW; latents do not decay, which would only turn their signs
TUNED = 0.3  # the rate of fine-tuning, relative to RATE
MOST = 4  # stages of the deepest backbone
STAGES = {"micro": 2, "resnet20": 3, "vgg_small": 3, "resnet18": 4}
MAPPED = ("mapping", "noisy")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"hardtanh": nn.Hardtanh, "prelu": nn.PReLU}


class Binary(Space):
    """Which stages are binary, how wide the network is, and how its signs are learnt.

    Stem, head and 1x1 shortcuts stay float. Activations keep the sign of what they get (a ReLU
    would leave a binary convolution ones only). `act` is the gradient of an input's sign,
    `weights` the quantiser of weights: signs, signs times each filter's mean |w|, or DoReFa's.
    """

    name: ClassVar[str] = "binary"
    paper: ClassVar[str] = "arXiv:2010.04871"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    training: ClassVar[tuple[str, ...]] = (
        "act", "supervision", "depth", "times", "mapping_rate", "rho", "alpha", "labels", "share",
    )  # fmt: skip

    backbone: str = choice("micro", "resnet20", "vgg_small", "resnet18", default="micro")
    width: float = real(0.125, 2.0, log=True, default=1.0)
    stages: tuple[int, ...] = each(MOST, choice(1, 32, default=1))
    skip: str = when("backbone", ("resnet20", "resnet18"), choice("conv", "block", default="conv"))
    activation: str = choice("hardtanh", "prelu", default="prelu")
    weights: str = choice("sign", "scaled", "dorefa", default="sign")
    act: str = choice("clip", "approx_sign", default="approx_sign")
    share: float = real(0.1, 0.6, default=0.3)  # of the budget, for fine-tuning
    supervision: str = choice("none", "mapping", "noisy", default="noisy")
    depth: int = when("supervision", MAPPED, integer(1, 3, default=3))
    times: int = when("supervision", MAPPED, integer(1, 2, default=2))
    mapping_rate: float = when("supervision", MAPPED, real(0.003, 1.0, log=True, default=0.1))
    rho: float = when("supervision", ("noisy",), real(0.0, 0.2, default=0.1))
    alpha: float = when("supervision", ("noisy",), real(1e-6, 1e-2, log=True, default=1e-4))
    labels: str = when("supervision", ("noisy",), choice("frozen", "epoch", default="frozen"))

    def bits(self) -> tuple[int, ...]:
        """Return the bits of weights and inputs for the stages that the backbone has."""
        return self.stages[: STAGES[self.backbone]]

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that matter: stages that are there, signs where there are any."""
        values = super().in_effect()
        values["stages"] = [*self.bits(), *[1] * (MOST - len(self.bits()))]
        if 1 not in self.bits():
            for name in {"weights", *self.training} - {"share"}:
                values.pop(name, None)
        return values

    def plan(self, shape: TaskShape) -> Plan | ResNetPlan | VggPlan:
        """Return the plan of this candidate's network."""
        inputs, classes = shape.input[0], shape.classes

        def wide(channels: int) -> int:
            return max(4, 4 * round(channels * self.width / 4))

        if self.backbone == "vgg_small":
            return VggPlan(inputs, classes, shape.side, wide(128))
        if self.backbone == "resnet18":
            plan = resnet18(inputs, classes)
        elif self.backbone == "resnet20":
            plan = ResNetPlan(inputs, classes, cifar_repeats(20), shortcut="pad")
        else:
            return scaled(micro(shape), self.width, 1.0)
        skip: Any = self.skip
        return replace(plan, width=wide(plan.width), skip=skip)

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the plain binary network: (N, C, S, S) to (N, classes) logits."""
        bits, plan = self.bits(), self.plan(shape)

        def operator(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
            stage = stage_of(where)
            if stage is None or bits[stage] == 32 or where.endswith("shortcut"):
                return conv(c_in, c_out, kernel, stride, where)
            return BinaryConv2d(c_in, c_out, kernel, stride, act=self.act, weights=self.weights)

        def activation(where: str, channels: int) -> nn.Module:
            return ACTIVATIONS[self.activation]()

        if isinstance(plan, Plan):
            return network(plan, operator, activation)
        if isinstance(plan, VggPlan):
            return vgg(plan, operator, activation)
        return resnet(plan, operator, activation)

    def rebuild(self, shape: TaskShape, decisions: Mapping[str, Any]) -> nn.Module:
        """Return the network, with its mappings once fine-tuning has begun."""
        model = self.build(shape)
        if decisions.get("mapped"):
            self.attach(model)
        return model

    def attach(self, model: nn.Module) -> None:
        """Attach a mapping to every binary convolution; the network computes what it did."""
        for layer in binary_layers(model):
            filters, channels, kernel, _ = layer.weight.shape
            layer.attach(
                FilterMapping(filters, channels, kernel, depth=self.depth, times=self.times)
            )

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return the plan, the bits and what a layer multiplies its signs by."""
        plan, bits = asdict(self.plan(shape)), list(self.bits())
        weights = self.weights if 1 in bits else "sign"
        return {
            "backbone": self.backbone, **plan, "bits": bits, "activation": self.activation,
            "weights": weights,
        }  # fmt: skip

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return the training of a plain binary network, then its fine-tuning at a lower rate."""
        mapped = 1 in self.bits() and self.supervision in MAPPED
        noisy = mapped and self.supervision == "noisy"
        first = Step(parameters=parameters(RATE, 1.0), optimizer=adamw(RATE, DECAY), after=clamp)

        def attach(state: State) -> None:
            self.attach(state.model)
            state.decisions["mapped"] = True

        tune = replace(
            first,
            loss=supervised(self.rho, self.alpha if noisy else 0.0) if mapped else task_loss,
            parameters=parameters(RATE * TUNED, self.mapping_rate),
            optimizer=adamw(RATE * TUNED, DECAY),
            factor=one_cycle(warm=0.1),
            after=refresh if noisy and self.labels == "epoch" else clamp,
        )
        phases = (
            Phase("binary", 1 - self.share, (first,)),
            Phase("tune", self.share, (tune,), begin=attach if mapped else None),
        )
        return Recipe(phases, batch=32, augment=False, comparable_from=1 - self.share)

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network whose binary convolutions run on packed bits; mappings are dropped."""
        for parent in list(model.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BinaryConv2d):
                    setattr(parent, name, layer.deployed())
        return model

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the share of binary weights that are +1: one rho for both signs supposes half."""
        codes = [m.weight_codes().flatten() for m in model.modules() if isinstance(m, XnorConv2d)]
        return {"plus_share": float(torch.cat(codes).float().mean())} if codes else {}

    def control(self, shape: TaskShape) -> Self:
        """Return the same network in float."""
        return replace(self, stages=(32,) * MOST)


def binary_layers(model: nn.Module) -> list[BinaryConv2d]:
    """Return the binary convolutions of a network in training, from input to output."""
    return [layer for layer in model.modules() if isinstance(layer, BinaryConv2d)]


def parameters(rate: float, mapping_rate: float) -> Callable[[State], Iterable[Any]]:
    """Return what makes parameter groups: latents, scales and shifts do not decay.

    A mapping adds up a whole filter's taps, so that one step of it moves every latent by many of
    theirs: its rate is `mapping_rate` of the others'.
    """

    def groups(state: State) -> Iterable[Any]:
        layers = binary_layers(state.model)
        latents = {id(layer.weight) for layer in layers}
        mapped = {id(p) for m in layers if m.mapping is not None for p in m.mapping.parameters()}
        members = [p for p in state.model.parameters() if p.requires_grad and id(p) not in mapped]
        kept = [p for p in members if id(p) in latents or p.ndim <= 1]
        others = [p for p in members if id(p) not in latents and p.ndim > 1]
        found: list[dict[str, Any]] = [{"params": kept, "weight_decay": 0.0}, {"params": others}]
        if mapped:
            own = [p for p in state.model.parameters() if id(p) in mapped]
            found.append({"params": own, "weight_decay": 0.0, "lr": rate * mapping_rate})
        return found

    return groups


@torch.no_grad()
def clamp(state: State) -> None:
    """Hold latents where their signs have a gradient."""
    for layer in binary_layers(state.model):
        layer.weight.clamp_(-1, 1)


def refresh(state: State) -> None:
    """Clamp, and take the labels afresh from the latents after every pass over the data."""
    clamp(state)
    for layer in binary_layers(state.model):
        if layer.mapping is not None:
            layer.mapping.seen += len(state.batch.inputs)
            if layer.mapping.seen >= state.task.size("train"):
                layer.mapping.labels.copy_(sign(layer.weight))
                layer.mapping.seen.zero_()


def supervised(rho: float, alpha: float) -> Callable[[State], Tensor]:
    """Return the task's loss plus `alpha` times the noisy one, summed over all binary weights.

    The noisy loss sees tanh of what the signs are taken of: on signs themselves, rho would only
    be another alpha. The share of signs that left their labels is noted as `flips`.
    """

    def loss(state: State) -> Tensor:
        layers = [(m, m.mapping) for m in binary_layers(state.model) if m.mapping is not None]
        try:
            for layer, _ in layers:
                layer.mapped = layer.latent()  # once, for the forward pass and for the noisy loss
            total = task_loss(state)
            turned = entries = 0.0
            for layer, mapping in layers:
                latent, labels = layer.latent(), mapping.labels
                turned += float((sign(latent.detach()) != labels).sum())
                entries += labels.numel()
                if alpha:
                    noisy = unbiased_loss(latent.tanh(), labels, rho, rho)
                    total = total + alpha * noisy.sum()
            state.notes["flips"] = turned / entries
            return total
        finally:
            for layer, _ in layers:
                layer.mapped = None

    return loss


_CIFAR, _IMAGENET = (
    TaskShape("classify", (3, 32, 32), 10),
    TaskShape("classify", (3, 224, 224), 1000),
)
_SIZES = "sizes of ResNet-20, VGG-small and ResNet-18 by arithmetic; MACs of the float layers"


def _published(name: str, backbone: str, shape: TaskShape, params: int, macs: int) -> Published:
    fields = {"backbone": backbone, "activation": "hardtanh", "supervision": "noisy"}
    return Published(name, fields, shape, params, macs, source=_SIZES)


Binary.published = (
    _published("resnet20", "resnet20", _CIFAR, 269_722, 443_008),
    _published("vgg_small", "vgg_small", _CIFAR, 4_660_106, 3_620_864),
    _published("resnet18", "resnet18", _IMAGENET, 11_689_512, 137_793_536),
)
