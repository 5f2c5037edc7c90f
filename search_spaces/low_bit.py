"""Low-bit networks: which layers take how many bits, and how their weights are found.

SLB searches every weight among its levels by gradient (arXiv:2009.08695, NeurIPS 2020); DoReFa and
uniform rounding with straight-through gradients are the baselines. What is deployed runs on codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import nn

from nasx.errors import SpaceError
from nasx.recipe import Recipe
from nasx.relax import Schedule
from nasx.shape import TaskShape
from nasx.space import Published, Space, choice, each, real, when
from nasx.tasks.base import Task
from search_spaces._annealing import annealing
from search_spaces._layers.deploying import deploy
from search_spaces._layers.packed import mean_bits
from search_spaces._layers.state_norm import fix
from search_spaces._quantised_nets import RELAXED, STAGES, Quantised, quantised

BITS = (1, 2, 4, 8, 32)
MOST_STAGES = max(len(stages) for stages in STAGES.values())
MOST_LAYERS = max(sum(stages) for stages in STAGES.values())


class LowBit(Space):
    """Bits of weights and activations, per stage or per layer, of a small or a published network.

    `grain` says which pair of bit fields counts; those beyond the network's stages or layers are
    idle. 32 bits are a float. Activations take at least the bits of the weights that they meet.
    Weights of 8 bits are rounded by DoReFa under `slb` too. `ends` are the bits of the first and
    the last layers and of shortcuts. `latent_rate` is how much faster than the rest the numbers
    behind low-bit weights learn: SLB's logits, or the floats that the baselines round.
    """

    name: ClassVar[str] = "low_bit"
    paper: ClassVar[str] = "arXiv:2009.08695"
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    cautions: ClassVar[tuple[str, ...]] = (
        "Weights of less than 8 bits save memory, not time: what multiplies is 8 bits wide. Only "
        "signs with signs run on bit operations. bit_ops (MACs x bits x bits) is a count, no time.",
        "Low-bit weights beside activations of 32 bits run as floats: they save memory alone.",
    )
    training: ClassVar[tuple[str, ...]] = ("latent_rate", "t_final", "t_start", "t_end")

    backbone: str = choice(*STAGES, default="micro")
    width: float = choice(0.25, 0.5, 1.0, default=0.5)
    method: str = choice("slb", "dorefa", "ste", default="slb")
    grain: str = choice("stage", "layer", default="stage")
    w_bits: tuple[int, ...] = when("grain", ("stage",), each(MOST_STAGES, choice(*BITS, default=2)))
    a_bits: tuple[int, ...] = when("grain", ("stage",), each(MOST_STAGES, choice(*BITS, default=8)))
    layer_w_bits: tuple[int, ...] = when(
        "grain", ("layer",), each(MOST_LAYERS, choice(*BITS, default=2))
    )
    layer_a_bits: tuple[int, ...] = when(
        "grain", ("layer",), each(MOST_LAYERS, choice(*BITS, default=8))
    )
    ends: int = choice(8, 32, default=32)
    act: str = choice("dorefa", "pact", default="pact")
    norm: str = choice("recalibrate", "state", "none", default="recalibrate")
    latent_rate: float = real(1.0, 30.0, log=True, default=3.0)
    init_std: float = when("method", ("slb",), real(0.01, 1.0, log=True, default=0.1))
    t_final: float = when("method", ("slb",), real(30.0, 1e4, log=True, default=1000.0))
    t_start: float = when("method", ("slb",), real(0.0, 0.4, default=0.2))
    t_end: float = when("method", ("slb",), real(0.6, 0.95, default=0.8))

    def bits(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the bits of weights and of activations of every low-bit layer, in order."""
        stages = STAGES[self.backbone]
        if self.grain == "layer":
            return self.layer_w_bits[: sum(stages)], self.layer_a_bits[: sum(stages)]
        w, a = (
            tuple(b for b, n in zip(field[: len(stages)], stages, strict=True) for _ in range(n))
            for field in (self.w_bits, self.a_bits)
        )
        return w, a

    def active(self) -> dict[str, Any]:
        """Return the fields as they count; where nothing is relaxed, SLB is DoReFa."""
        w, _ = self.bits()
        if self.method == "slb" and not set(w) & set(RELAXED):
            return replace(self, method="dorefa").active()
        if set(w) == {32} and self.ends == 32 and self.latent_rate != LowBit.latent_rate:
            return replace(self, latent_rate=LowBit.latent_rate).active()
        return super().active()

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network: bits by layer, and only what they leave to decide."""
        now = type(self).from_json(self.active())
        w, a = now.bits()
        rounded = any(b < 32 for b in w) or now.ends < 32
        relaxed = now.method == "slb"
        norm = now.norm
        if norm == "state" and not relaxed:  # hard outputs are the only ones
            norm = "none"
        return {
            "backbone": now.backbone,
            "width": now.width,
            "w": w,
            "a": a,
            "ends": now.ends,
            "method": now.method if any(b < 32 for b in w) else None,
            "act": now.act if any(2 <= b <= 8 for b in a) else None,
            "norm": norm if rounded else None,
            "init_std": now.init_std if relaxed else None,
        }

    def refusal(self, shape: TaskShape) -> str | None:
        """Say where activations have fewer bits than the weights that they meet."""
        for i, (w, a) in enumerate(zip(*self.bits(), strict=True)):
            if a < w:
                return (
                    f"low-bit layer {i} of {self.backbone} has weights of {w} bits and activations "
                    f"of {a}: give activations at least the bits of the weights"
                )
        return None

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return this candidate with activations of at least the weights' bits, if that is all."""
        if self.refusal(shape) is None:
            return None

        def raised(w: tuple[int, ...], a: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(map(max, w, a))

        return replace(
            self,
            a_bits=raised(self.w_bits, self.a_bits),
            layer_a_bits=raised(self.layer_w_bits, self.layer_a_bits),
        )

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network in training: (N, C, side, side) to (N, classes) logits."""
        refused = self.refusal(shape)
        if refused:
            raise SpaceError(refused)
        w, a = self.bits()
        how = Quantised(w, a, self.method, self.act, self.norm, self.ends, self.init_std)  # type: ignore[arg-type]
        return quantised(self.backbone, self.width, shape, how)

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network that runs on codes; its statistics are fixed unless recalibrated."""
        if self.norm != "recalibrate":
            fix(model)
        return deploy(model)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the same network in floats."""
        if set(self.bits()[0]) == {32} and self.ends == 32:
            return None
        stages, layers = (32,) * MOST_STAGES, (32,) * MOST_LAYERS
        return replace(
            self, ends=32,
            w_bits=stages, a_bits=stages, layer_w_bits=layers, layer_a_bits=layers,
        )  # fmt: skip

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the mean bits of a stored weight, the low-bit layers' and all."""
        return mean_bits(model)

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of AdamW; choices anneal from t_start to t_end and are hard after."""
        now = type(self).from_json(self.active())
        t = Schedule(1.0, now.t_final, now.t_start, now.t_end, "exponential")
        # Hard weights say nothing while the choice is soft.
        comparable = now.t_end if now.method == "slb" else 0.0
        return annealing(t, now.t_end, now.latent_rate, comparable)


_CIFAR = TaskShape("classify", (3, 32, 32), 10)
_IMAGENET = TaskShape("classify", (3, 224, 224), 1000)
_COUNTED = "bits and backbone: the paper; params and MACs of the float layers: counted by hand"


def _published(
    backbone: str, w: int, a: int, shape: TaskShape, params: int, macs: int
) -> Published:
    stages = MOST_STAGES
    fields = {"backbone": backbone, "width": 1.0, "w_bits": [w] * stages, "a_bits": [a] * stages}
    name = f"{backbone}_w{w}a{a}"
    return Published(name, fields, shape, params, macs, source=_COUNTED)


LowBit.published = (
    _published("resnet20", 1, 1, _CIFAR, 269_722, 443_008),
    _published("resnet20", 2, 2, _CIFAR, 269_722, 443_008),
    _published("resnet20", 4, 4, _CIFAR, 269_722, 443_008),
    _published("resnet20", 32, 32, _CIFAR, 269_722, 40_551_040),
    _published("vgg_small", 1, 1, _CIFAR, 4_660_106, 3_620_864),
    _published("vgg_small", 32, 32, _CIFAR, 4_660_106, 607_600_640),
    _published("resnet18", 1, 1, _IMAGENET, 11_689_512, 137_793_536),
    _published("resnet18", 32, 32, _IMAGENET, 11_689_512, 1_814_073_344),
)
