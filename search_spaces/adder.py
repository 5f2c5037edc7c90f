"""Adder networks, and how they learn from a convolutional twin (arXiv:1912.13200, 2009.13044).

    y[n, o, p] = - sum over taps | x[n, tap, p] - w[o, tap] |

Searched: which stages add instead of multiply, and the teacher, kernel and weights of progressive
kernel-based distillation (PKKD). An implementation of our reading of the paper: see docs/adder.md.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import nn

from nasx.assets import Asset
from nasx.cost.ops import count
from nasx.recipe import Phase, Recipe, State, Step, one_cycle, sgd
from nasx.shape import TaskShape
from nasx.space import Published, Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._backbones import Operator, conv, network, stage_of
from search_spaces._bases import micro, scaled
from search_spaces._distill import Blend, Lesson, Teaching
from search_spaces._layers.adder import AdderConv2d
from search_spaces._resnets import ResNetPlan, cifar_repeats, resnet
from search_spaces._similarity import Kernel, Sigma
from search_spaces._vgg import VggPlan, vgg

BACKBONES = ("micro", "resnet20", "resnet32", "vgg_small", "vgg_small_7")
TAUGHT = ("simultaneous", "pretrained")
_TAUGHT_FIELDS = (
    "teacher_samples", "alpha", "blend", "temperature", "beta", "kernel", "sigma", "sign", "rho"
)  # fmt: skip
COMPARABLE = 0.5  # share of the training before which an adder's score says little


class Adder(Space):
    """Networks whose convolutions add, stage by stage, and how a convolutional twin teaches them.

    The defaults are the convolutional network. `ends` is the operator of the stem and of a 1x1
    head. `teacher` "simultaneous" learns on the
    same batches, "pretrained" was trained before on `teacher_samples`. `beta` weighs the answers
    of the adder layers against the twin's, through `kernel` (search_spaces/_similarity.py); with
    beta 0 the teacher's logits alone are learnt.
    """

    name: ClassVar[str] = "adder"
    paper: ClassVar[str] = "arXiv:2009.13044"
    training: ClassVar[tuple[str, ...]] = ("rate", "eta", "teacher", *_TAUGHT_FIELDS)
    cautions: ClassVar[tuple[str, ...]] = (
        "Adder layers save modelled energy (arithmetic alone, 45 nm) and lose latency: CPUs and "
        "GPUs multiply and add in one instruction, so there an adder layer takes longer than the "
        "convolution it replaces. Only hardware made for additions could turn the saving into "
        "time.",
    )

    backbone: str = choice(*BACKBONES, default="micro")
    width: float = choice(0.25, 0.5, 1.0, default=1.0)  # times the backbone's own channels
    operators: tuple[str, ...] = each(3, choice("conv", "adder", default="conv"))
    ends: str = choice("conv", "adder", default="conv")
    rate: float = real(0.003, 0.3, log=True, default=0.03)
    eta: float = real(0.02, 1.0, log=True, default=0.2)
    teacher: str = choice("none", *TAUGHT, default="none")
    teacher_samples: int = when(
        "teacher", ("pretrained",), integer(400, 409_600, step=400, default=8000)
    )
    alpha: float = when("teacher", TAUGHT, real(0.0, 1.0, default=0.2))
    blend: Blend = when("teacher", TAUGHT, choice("share", "labels", default="share"))
    temperature: float = when("teacher", TAUGHT, choice(1.0, 2.0, 4.0, 8.0, default=4.0))
    beta: float = when("teacher", TAUGHT, choice(0.0, 0.1, 0.3, 1.0, 2.0, 5.0, 10.0, default=1.0))
    kernel: Kernel = when(
        "teacher",
        TAUGHT,
        choice("laplace", "gaussian", "cosine", "linear", "none", default="laplace"),
    )
    sigma: Sigma = when("teacher", TAUGHT, choice("channel", "layer", "fan_in", default="channel"))
    sign: int = when("teacher", TAUGHT, choice(1, -1, default=1))
    rho: str = when("teacher", TAUGHT, choice("conv", "none", default="conv"))

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network: (N, C, S, S) to (N, classes) logits."""
        inputs, operator = shape.input[0], self._operator()
        if self.backbone == "micro":
            return network(scaled(micro(shape), self.width, 1.0), operator)
        if self.backbone in ("resnet20", "resnet32"):
            repeats = cifar_repeats(int(self.backbone.removeprefix("resnet")))
            wide = round(16 * self.width)
            return resnet(
                ResNetPlan(inputs, shape.classes, repeats, wide, head="conv_bn"), operator
            )
        convolutions = (2, 2, 2) if self.backbone == "vgg_small" else (2, 2, 2, 1)
        wide = round(128 * self.width)
        return vgg(VggPlan(inputs, shape.classes, shape.side, wide, convolutions), operator)

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network; micro has two stages."""
        return {
            "backbone": self.backbone,
            "width": self.width,
            "operators": list(self._inner),
            "ends": self.ends,
        }

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything, so that equal recipes have equal keys.

        Without adders in the stages there is no layer to match, and a teacher that nothing is
        heard of is none.
        """
        values, idle = super().in_effect(), set[str]()
        if "adder" not in (self.ends, *self._inner):
            idle |= {"eta"}
        if self.teacher in TAUGHT:
            if not self._matches:
                values["beta"] = 0.0
                idle |= {"kernel", "sigma", "sign", "rho"}
            if not self._imitates:
                values["alpha"] = 0.0
                idle |= {"temperature", "blend"}
            if self.kernel != "laplace":
                idle |= {"sign"}
            if self.kernel not in ("laplace", "gaussian"):
                idle |= {"sigma"}
            if not (self._matches or self._imitates):
                values["teacher"] = "none"
                idle |= set(_TAUGHT_FIELDS)
        return {name: value for name, value in values.items() if name not in idle}

    @property
    def _inner(self) -> tuple[str, ...]:
        """Return the operators of the stages that the backbone has."""
        return self.operators[: 2 if self.backbone == "micro" else 3]

    @property
    def _matches(self) -> bool:
        """Return whether the layers' answers are matched."""
        return self.beta > 0 and "adder" in self._inner

    @property
    def _imitates(self) -> bool:
        """Return whether the teacher's logits have a part in the loss."""
        return self.blend == "labels" or self.alpha > 0

    def _operator(self) -> Operator:
        def operator(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
            stage = stage_of(where)
            # The seventh convolution of vgg_small_7 goes with the third stage.
            kind = self.ends if stage is None else self.operators[min(stage, 2)]
            if kind == "conv":
                return conv(c_in, c_out, kernel, stride, where)
            return AdderConv2d(c_in, c_out, kernel, stride, kernel // 2, eta=self.eta)

        return operator

    def control(self, shape: TaskShape) -> Self:
        """Return the convolutional network of the same form, without a teacher."""
        off = {"operators": ("conv",) * 3, "ends": "conv", "teacher": "none"}
        return type(self).from_json({**self.values(), **off}).plain()

    def plain(self) -> Self:
        """Return this candidate with every field that changes nothing at its default."""
        return type(self).from_json(self.active())

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the convolutional twin as a teacher where it is trained before."""
        if self.plain().teacher != "pretrained":
            return {}
        return {"teacher": Asset(self.control(shape), self.teacher_samples)}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return SGD with momentum, with the teacher's step before the student's on each batch.

        An adder's gradient has the norm eta * sqrt(numel) whatever the loss's scale, so its steps
        are those of SGD; under Adam that rule would nearly cancel. Decay comes after it.
        """
        now = self.plain()
        if now.teacher == "none":
            step = Step(optimizer=sgd(self.rate), factor=one_cycle())
            return Recipe(
                (Phase("train", 1.0, (step,)),), 32, augment=False, comparable_from=COMPARABLE
            )
        return now._taught(shape)

    def _taught(self, shape: TaskShape) -> Recipe:
        lesson = Lesson(
            self.alpha, self.temperature, self.blend, self.beta,
            self.kernel, self.sigma, self.sign, transform=self.rho == "conv",
        )  # fmt: skip
        teaching = Teaching(lesson, self._layers(shape) if self._matches else ())
        learn = Step(teaching.learn, teaching.learning, sgd(self.rate), one_cycle())
        steps: tuple[Step, ...] = (learn,)
        if self.teacher == "simultaneous":
            # At the student's own rate throughout: the two are to progress together.
            steps = (Step(teaching.teach, teaching.taught, sgd(self.rate), one_cycle()), learn)

        def companions(state: State) -> dict[str, nn.Module]:
            made = teaching.maps(state.model)
            if self.teacher == "simultaneous":
                made["teacher"] = self.control(shape).build(shape)
            return made

        return Recipe(
            (Phase("train", 1.0, steps),), 32, augment=False, comparable_from=COMPARABLE,
            companions=companions,
        )  # fmt: skip

    def _layers(self, shape: TaskShape) -> tuple[str, ...]:
        """Return the names of the adder layers inside the stages."""
        with torch.device("meta"):
            model = self.build(shape)
        named = model.get_submodule("stages").named_modules()
        return tuple(f"stages.{name}" for name, m in named if isinstance(m, AdderConv2d))

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the share of taps that add, in percent."""
        device = next(model.parameters()).device
        counted = count(model, torch.zeros(1, *self.input_shape(task.shape), device=device))
        taps = counted.adds / 2
        return {"adder_taps_percent": 100 * taps / max(1.0, taps + counted.macs)}


_CIFAR = TaskShape("classify", (3, 32, 32), 10)
_OFFICIAL = (
    "official AdderNet code (resnet20.py), counted: 2 additions per tap, stem and head multiply"
)
_PRINTED = (
    "AdderNet, table 1; the network that its authors name (LQ-Nets) counts 607.6 M, and .65 G with "
    "a seventh convolution (512 channels at 4 x 4), our guess at the difference"
)


def _published(
    name: str, backbone: str, operator: str, params: int | None, macs: int | None,
    adds: int | None, source: str, *, tolerance: float = 0.0, ends: str = "conv",
) -> Published:  # fmt: skip
    fields = {"backbone": backbone, "operators": [operator] * 3, "ends": ends}
    return Published(name, fields, _CIFAR, params, macs, adds, tolerance, source)


Adder.published = (
    _published("resnet20_conv", "resnet20", "conv", 272_484, 40_813_184, 0, _OFFICIAL),
    _published("resnet20", "resnet20", "adder", 272_484, 443_008, 80_740_352, _OFFICIAL),
    _published("resnet32_conv", "resnet32", "conv", 466_916, 69_124_736, 0, _OFFICIAL),
    _published("resnet32", "resnet32", "adder", 466_916, 443_008, 137_363_456, _OFFICIAL),
    _published(
        "vgg_small_conv", "vgg_small_7", "conv", None, 650_000_000, 0, _PRINTED, tolerance=0.01
    ),
    _published(
        "vgg_small",
        "vgg_small_7",
        "adder",
        None,
        None,
        1_300_000_000,
        _PRINTED,
        tolerance=0.01,
        ends="adder",
    ),
    _published(
        "vgg_small_lq",
        "vgg_small",
        "conv",
        4_660_106,
        607_600_640,
        0,
        "LQ-Nets code (cifar10-vgg-small.py), counted",
    ),
)
