"""Low-bit super-resolution: how few bits the residual blocks of a small EDSR can have.

SLB searches every weight among its levels by gradient (arXiv:2009.08695, NeurIPS 2020); DoReFa and
uniform rounding are the baselines. Head, the body's last convolution and tail stay float: they are
a small share of the operations, and the output's precision is theirs.

Blocks read their input behind a ReLU, x + conv2(relu(conv1(relu(x)))), so that codes need no sign;
clipping to the steps of a learnt range is that ReLU. No normalisation follows a convolution: each
filter has a learnt scale and a bias in its place.
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
from nasx.space import Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._annealing import Pace, annealing
from search_spaces._layers.deploying import deploy
from search_spaces._layers.packed import mean_bits
from search_spaces._layers.rounding import RoundedConv2d, Rounding, Steps
from search_spaces._layers.slb import SlbConv2d
from search_spaces._quantised_nets import RELAXED
from search_spaces._sr_nets import Edsr, biased, edsr, micro_edsr
from search_spaces._sr_recipe import BATCH, RATE, WARM

W_BITS, A_BITS = (1, 2, 4, 8, 32), (2, 4, 8, 32)
MOST_BLOCKS = 8
WIDEST = 1.0  # where the range of features that are read in steps starts; it is learnt
PACE = Pace(RATE, 0.0, WARM, BATCH, augment=True)


class LowBitSr(Space):
    """Bits of weights and activations of every residual block of a small EDSR.

    `w_bits` and `a_bits` of blocks that are not there are idle; 32 bits are a float. Activations
    take at least the bits of the weights that they meet. Weights of 8 bits are rounded by DoReFa
    under `slb` too. `latent_rate` is how much faster than the rest the numbers behind low-bit
    weights learn: SLB's logits, or the floats that the baselines round.
    """

    name: ClassVar[str] = "low_bit_sr"
    paper: ClassVar[str] = "arXiv:2009.08695"
    tasks: ClassVar[tuple[str, ...]] = ("restore",)
    cautions: ClassVar[tuple[str, ...]] = (
        "Weights of less than 8 bits save memory, not time: what multiplies is 8 bits wide. "
        "bit_ops (MACs x bits x bits) is a count, no time.",
        "Low-bit weights beside activations of 32 bits run as floats: they save memory alone.",
    )
    training: ClassVar[tuple[str, ...]] = ("latent_rate", "t_final", "t_start", "t_end")

    features: int = choice(8, 16, 32, 64, default=16)
    blocks: int = integer(1, MOST_BLOCKS, default=4)
    method: str = choice("slb", "dorefa", "ste", default="slb")
    w_bits: tuple[int, ...] = each(MOST_BLOCKS, choice(*W_BITS, default=4))
    a_bits: tuple[int, ...] = each(MOST_BLOCKS, choice(*A_BITS, default=8))
    latent_rate: float = real(0.3, 30.0, log=True, default=3.0)
    init_std: float = when("method", ("slb",), real(0.01, 1.0, log=True, default=0.1))
    t_final: float = when("method", ("slb",), real(30.0, 1e4, log=True, default=1000.0))
    t_start: float = when("method", ("slb",), real(0.0, 0.4, default=0.2))
    t_end: float = when("method", ("slb",), real(0.6, 0.95, default=0.8))

    def active(self) -> dict[str, Any]:
        """Return the fields as they count; where nothing is relaxed, SLB is DoReFa."""
        w = self.w_bits[: self.blocks]
        if self.method == "slb" and not set(w) & set(RELAXED):
            return replace(self, method="dorefa").active()
        if set(w) == {32} and self.latent_rate != LowBitSr.latent_rate:
            return replace(self, latent_rate=LowBitSr.latent_rate).active()
        return super().active()

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network: the bits of blocks that are there, and the method."""
        now = type(self).from_json(self.active())
        w, a = now.w_bits[: now.blocks], now.a_bits[: now.blocks]
        return {
            "features": now.features,
            "w": w,
            "a": a,
            "method": now.method if set(w) != {32} else None,
            "init_std": now.init_std if now.method == "slb" else None,
        }

    def refusal(self, shape: TaskShape) -> str | None:
        """Say where activations have fewer bits than the weights that they meet."""
        for i in range(self.blocks):
            if self.a_bits[i] < self.w_bits[i]:
                return (
                    f"block {i} has weights of {self.w_bits[i]} bits and activations of "
                    f"{self.a_bits[i]}: give activations at least the bits of the weights"
                )
        return None

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return this candidate with activations of at least the weights' bits, if that is all."""
        if self.refusal(shape) is None:
            return None
        return replace(self, a_bits=tuple(map(max, self.w_bits, self.a_bits)))

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network in training: (N, 3, H, W) to (N, 3, scale H, scale W)."""
        refused = self.refusal(shape)
        if refused is not None:
            raise SpaceError(refused)
        return type(self).from_json(self.active())._network(shape)

    def _network(self, shape: TaskShape) -> Edsr:
        def operator(c_in: int, c_out: int, kernel: int, stride: int, where: str) -> nn.Module:
            if not where.endswith((".conv1", ".conv2")):
                return biased(c_in, c_out, kernel, stride, where)
            block = int(where.split(".")[1])
            w, a = self.w_bits[block], self.a_bits[block]
            read = nn.ReLU() if a == 32 else Steps(a, WIDEST, learnt=True)
            if w == 32:
                return nn.Sequential(read, biased(c_in, c_out, kernel, stride, where))
            size = (c_in, c_out, kernel, stride, kernel // 2)
            if self.method == "slb" and w in RELAXED:
                return SlbConv2d(
                    *size, bits=w, std=self.init_std, reading=read, scaled=True, bias=True
                )
            rounding: Rounding = "ste" if self.method == "ste" else "dorefa"
            return RoundedConv2d(
                *size, bits=w, rounding=rounding, reading=read, scaled=True, bias=True
            )

        def activation(where: str, channels: int) -> nn.Module:
            return nn.Identity()  # every convolution of a block brings its own

        return edsr(micro_edsr(shape, self.features, self.blocks), operator, activation)

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network on packed codes."""
        return deploy(model)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the same network in floats."""
        if set(self.w_bits[: self.blocks]) == {32}:
            return None
        return replace(self, w_bits=(32,) * MOST_BLOCKS, a_bits=(32,) * MOST_BLOCKS)

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return the mean bits of a stored weight, the low-bit layers' and all."""
        return mean_bits(model)

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of Adam; choices anneal from t_start to t_end and are hard after."""
        now = type(self).from_json(self.active())
        t = Schedule(1.0, now.t_final, now.t_start, now.t_end, "exponential")
        # Hard weights say nothing while the choice is soft.
        comparable = now.t_end if now.method == "slb" else 0.0
        return annealing(t, now.t_end, now.latent_rate, comparable, PACE)
