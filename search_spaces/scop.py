"""Pruned networks: which channels can go, and how they are chosen (SCOP, arXiv:2010.10732).

A trained dense network loses whole channels for good and is trained on. SCOP lets every channel
compete with the same channel fed with knockoffs of the images. Our reading: docs/pruning.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

from torch import nn

from nasx.assets import Asset
from nasx.errors import SpaceError
from nasx.recipe import Phase, Recipe, Step, adamw, one_cycle
from nasx.shape import TaskShape
from nasx.space import Part, Space, choice, each, integer, real, when
from nasx.tasks.base import Task
from search_spaces._channel_scores import COMPETING, OTHERS
from search_spaces._coupling import Channels, Mode
from search_spaces._pruned_nets import STAGES, Dense, macs_of, sets_of, slimmed, uniform
from search_spaces._pruned_points import published_points
from search_spaces._pruning import BATCH, DECAY, Kind, Pruning, is_cut, tell, told
from search_spaces._surgery import Snap, kept_counts, slim

MOST_STAGES = 4
MOST_LAYERS = 99  # sets of channels of the deepest backbone
MOST = 0.9  # the largest ratio
APART = 0.02  # how far the MACs of a control may be off
_ANY = TaskShape("classify", (3, 32, 32), 10)
_DENSE = (
    "dense_samples", "score", "knockoff", "units", "control_share", "beta_rate", "beta_optimizer",
    "beta_stop", "spare", "tune_rate",
)  # fmt: skip
_COMPETING = ("knockoff", "units", "beta_rate", "beta_optimizer", "beta_stop")


class Scop(Space):
    """How many channels of each layer go, what goes with them, and what chooses them.

    The defaults are the dense network. Ratios are shares of channels to remove: of all sets, per
    stage or per set, as `grain` says. `mode` says what hangs together (see `coupled`). Counts that
    stay are multiples of `align`, on the side that `snap` says.

    `source` "dense" keeps channels of a dense network that was trained on `dense_samples`,
    "scratch" trains the same widths from the start. `score` chooses the channels. "scop" and
    "beta" learn in a control phase of `control_share`; with other scores that share is `spare`:
    fine-tuning takes it, or it lies idle, so that all are fine-tuned for as long.
    """

    name: ClassVar[str] = "scop"
    paper: ClassVar[str] = "arXiv:2010.10732"
    training: ClassVar[tuple[str, ...]] = ("source", *_DENSE)
    cautions: ClassVar[tuple[str, ...]] = (
        "Under Adam, the paper's optimizer, the mixing coefficients hardly disperse: 2 beta - 1 is "
        "nearly constant and SCOP ranks as |gamma| does. Compare with score gamma, and look at "
        "beta_sd.",
        "Knockoffs made by permuting the batch break the swap condition (swap_holds 0); "
        "second-order ones hold it in means and covariances alone.",
    )

    backbone: str = choice(*STAGES, default="micro")
    width: float = choice(0.25, 0.5, 1.0, default=1.0)  # of the dense network
    mode: Mode = choice("scatter", "inner", "group", default="group")
    grain: str = choice("shared", "stage", "layer", default="shared")
    ratio: float = when("grain", ("shared",), real(0.0, MOST, default=0.0))
    stage_ratios: tuple[float, ...] = when(
        "grain", ("stage",), each(MOST_STAGES, real(0.0, MOST, default=0.0))
    )
    layer_ratios: tuple[float, ...] = when(
        "grain", ("layer",), each(MOST_LAYERS, real(0.0, MOST, default=0.0))
    )
    align: int = choice(1, 2, 4, 8, 16, default=1)
    snap: Snap = when("align", (2, 4, 8, 16), choice("up", "down", "nearest", default="up"))
    source: str = choice("scratch", "dense", default="scratch")
    dense_samples: int = when("source", ("dense",), integer(400, 409_600, step=400, default=8000))
    tune_rate: float = when("source", ("dense",), real(3e-4, 3e-2, log=True, default=3e-3))
    score: str = when("source", ("dense",), choice(*COMPETING, *OTHERS, default="scop"))
    control_share: float = when("source", ("dense",), real(0.02, 1.0, log=True, default=0.2))
    spare: str = when("score", OTHERS, choice("tune", "idle", default="tune"))
    knockoff: Kind = when(
        "score", COMPETING, choice("permute", "gaussian2", "deep", default="permute")
    )
    units: str = when("knockoff", ("gaussian2",), choice("patches", "pca", default="patches"))
    beta_optimizer: str = when("score", COMPETING, choice("sgd", "adam", default="sgd"))
    beta_rate: float = when("score", COMPETING, real(1e-3, 1.0, log=True, default=0.03))
    beta_stop: float = when("score", COMPETING, real(0.55, 1.0, default=0.65))

    # -- which channels ---------------------------------------------------------------------

    def dense(self, shape: TaskShape = _ANY) -> Dense:
        """Return the dense network of this candidate; its channels do not depend on the task."""
        return Dense(self.backbone, self.width, shape)

    def sets(self) -> tuple[Channels, ...]:
        """Return the sets of channels that may go, from input to output."""
        return sets_of(self.dense(), self.mode)

    def ratios(self, sets: tuple[Channels, ...]) -> dict[str, float]:
        """Return the share to remove of every set; stem and head go with the nearest stage."""
        if self.grain == "shared":
            return {s.name: self.ratio for s in sets}
        if self.grain == "layer":
            return {s.name: p for s, p in zip(sets, self.layer_ratios, strict=False)}
        found, stage = {}, 0
        for s in sets:
            stage = stage if s.stage is None else s.stage
            found[s.name] = self.stage_ratios[stage]
        return found

    def counts(self) -> dict[str, int]:
        """Return how many channels of every set stay; to snap down takes no more than `MOST`."""
        sets = self.sets()
        found = kept_counts(sets, self.ratios(sets), self.align, self.snap)
        least = kept_counts(sets, MOST, self.align)
        return {name: max(count, least[name]) for name, count in found.items()}

    def losing(self) -> tuple[Channels, ...]:
        """Return the sets that lose channels."""
        counts = self.counts()
        return tuple(s for s in self.sets() if counts[s.name] < s.size)

    def macs(self, shape: TaskShape) -> int:
        """Return the multiply-accumulates of one image, in closed form."""
        return macs_of(self.dense(shape), self.mode, self.counts())

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return the widths that are left, by convolution: many ratios and modes give the same."""
        counts, losing = self.counts(), self.losing()
        return {
            "backbone": self.backbone,
            "width": self.width,
            "left": {conv: counts[s.name] for s in losing for conv in s.convs},
            "widened": [s.name for s in losing if s.widen],
        }

    def in_effect(self) -> dict[str, Any]:
        """Return the fields that change anything, so that equal trainings have equal keys."""
        values, idle = super().in_effect(), set[str]()
        if self.grain == "layer":
            sets = len(self.sets())
            values["layer_ratios"] = [*self.layer_ratios[:sets], *[0.0] * (MOST_LAYERS - sets)]
        if self.grain == "stage":
            stages = STAGES[self.backbone]
            values["stage_ratios"] = [*self.stage_ratios[:stages], *[0.0] * (MOST_STAGES - stages)]
        if self.source == "scratch":
            idle |= set(_DENSE)
        elif not self.losing():
            idle |= set(_DENSE) - {"dense_samples", "tune_rate"}
        elif self.score not in COMPETING:
            idle |= set(_COMPETING)
            if self.spare == "tune":
                idle |= {"control_share"}
        return {name: value for name, value in values.items() if name not in idle}

    def _whole(self) -> bool:
        """Return whether no channel is to go."""
        asked = {"shared": (self.ratio,), "stage": self.stage_ratios, "layer": self.layer_ratios}
        return max(asked[self.grain]) == 0

    def refusal(self, shape: TaskShape) -> str | None:
        """Say that the mode finds nothing to prune in the backbone."""
        said = f"mode '{self.mode}' finds nothing to prune in {self.backbone}: take another mode"
        return None if self.sets() or self._whole() else said

    # -- networks ---------------------------------------------------------------------------

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the network that training begins with: dense, or slim where it is from scratch."""
        refused = self.refusal(shape)
        if refused:
            raise SpaceError(refused)
        if self.source == "dense" or not self.losing():
            return self.dense(shape).network()
        return slimmed(self.dense(shape), self.mode, self.counts())

    def rebuild(self, shape: TaskShape, decisions: Mapping[str, Any]) -> nn.Module:
        """Return the network, slim once its channels are chosen."""
        model = self.build(shape)
        model = slim(model, decisions["kept"], self.mode) if "kept" in decisions else model
        tell(model, decisions)
        return model

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the slim network; one whose channels are not chosen yet keeps its first ones."""
        losing, counts = self.losing(), self.counts()
        if is_cut(model, losing, counts):
            return model
        return slim(model, {s.name: range(counts[s.name]) for s in losing}, self.mode)

    def control(self, shape: TaskShape) -> Self | None:
        """Return the network narrowed alike everywhere, of equal MACs, trained from scratch."""
        if self.source == "scratch":
            return None
        macs, sets = self.macs(shape), sets_of(self.dense(), "group")
        counts = uniform(self.dense(shape), macs)
        mode = {"backbone": self.backbone, "width": self.width, "mode": "group"}
        twin = type(self).from_json(mode)._left(counts[s.name] / s.size for s in sets)
        return twin if abs(twin.macs(shape) - macs) <= APART * macs else None

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return this candidate with all shares that stay made smaller alike, within the MACs."""
        cap = min(limits.get("macs", math.inf), limits.get("flops", math.inf) / 2)
        if self.macs(shape) <= cap or self.refusal(shape) is not None:
            return None

        low, high = 0.0, 1.0
        for _ in range(20):
            middle = (low + high) / 2
            fits = self._narrower(middle).macs(shape) <= cap
            low, high = (middle, high) if fits else (low, middle)
        found = self._narrower(low)
        return found if found.macs(shape) <= cap else None

    def _narrower(self, part: float) -> Self:
        """Return this candidate with only `part` of what stays of each set."""

        def more(p: float) -> float:
            return min(MOST, 1 - part * (1 - p))

        return replace(
            self,
            ratio=more(self.ratio),
            stage_ratios=tuple(map(more, self.stage_ratios)),
            layer_ratios=tuple(map(more, self.layer_ratios)),
        )

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return beta's mean and spread, the swap test, and the score before fine-tuning."""
        return told(model)

    def parts(self, shape: TaskShape) -> dict[str, Part]:
        """Return the stages, each by the channels of its first set that may go."""
        counts, found = self.counts(), {}
        for stage, first in self._first().items():
            widths = {
                counts[first.name],
                *range(first.size - int(MOST * first.size), first.size + 1),
            }
            found[f"stage {stage}"] = Part(counts[first.name], sorted(widths))
        return found

    def resized(self, widths: Mapping[str, int], shape: TaskShape) -> Self:
        """Return this candidate with all sets of these stages at the share of their first."""
        counts, first = self.counts(), self._first()
        shares = {s.name: counts[s.name] / s.size for s in self.sets()}
        for stage, lead in first.items():
            asked = widths.get(f"stage {stage}", counts[lead.name])
            if asked != counts[lead.name]:
                shares |= {s.name: asked / lead.size for s in self.sets() if s.stage == stage}
        return self if not widths else self._left(shares.values())

    def whole(self, shape: TaskShape) -> Self | None:
        """Return the dense network, or None where nothing was taken out of it."""
        dense = type(self).from_json({"backbone": self.backbone, "width": self.width})
        return dense if self.losing() else None

    def _left(self, shares: Iterable[float]) -> Self:
        """Return this candidate with these shares of its sets left."""
        # A touch more is taken than the share: its product with the size must not round down.
        taken = [min(MOST, max(0.0, 1 - share + 1e-9 * (share < 1))) for share in shares]
        ratios = (*taken, *[0.0] * (MOST_LAYERS - len(taken)))
        return replace(self, grain="layer", layer_ratios=ratios, align=1)

    def _first(self) -> dict[int, Channels]:
        """Return the first set of every stage."""
        return {s.stage: s for s in reversed(self.sets()) if s.stage is not None}

    # -- training ---------------------------------------------------------------------------

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the dense network that channels are taken from, one for each seed."""
        dense = Scop.from_json({"backbone": self.backbone, "width": self.width})
        made = {"dense": Asset(dense, self.dense_samples, seed=None)}
        return made if self.source == "dense" else {}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return one phase of AdamW from scratch; else control phase, surgery and fine-tuning."""
        now = type(self).from_json(self.active())
        if now.source == "scratch":
            step = Step(optimizer=adamw(6e-3, DECAY), factor=one_cycle(warm=0.3))
            return Recipe((Phase("train", 1.0, (step,)),), BATCH, augment=False)
        losing = now.losing()
        spends = bool(losing) and (now.score in COMPETING or now.spare == "idle")
        return Pruning(
            losing, now.counts(), now.mode, now.score, now.knockoff, now.units,
            now.control_share if spends else 0.0,
            now.beta_optimizer, now.beta_rate, now.beta_stop, now.tune_rate,
        ).recipe()  # fmt: skip


Scop.published = published_points()
