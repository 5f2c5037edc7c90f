"""Training of a pruned network: a control group if the score wants one, surgery, fine-tuning.

It starts from the dense asset. The control phase learns mixing coefficients alone; the event
"prune" keeps the channels with the best scores and takes the others out; then the slim network is
trained. What was decided and found stands in `decisions`, so that a killed training resumes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn

from nasx.recalibrate import recalibrate
from nasx.recipe import Phase, Recipe, State, Step, adamw, one_cycle, sgd
from nasx.shape import Shape
from search_spaces._channel_scores import (
    COMPETING,
    best,
    competing_scores,
    plain_scores,
    training_batches,
)
from search_spaces._control_group import (
    BETAS,
    KNOCKOFFS,
    Betas,
    competing,
    group_of,
    learning,
    settle,
    spread,
)
from search_spaces._coupling import Channels, Mode
from search_spaces._knockoff_nets import Learnt
from search_spaces._knockoffs import Gaussian, Knockoffs, Permuted
from search_spaces._surgery import slim
from search_spaces._swap_units import units_of

Kind = Literal["permute", "gaussian2", "deep"]
BATCH = 32
DECAY = 1e-3
IMAGES = 4096  # that knockoffs are fitted to and tested on
TESTED = 8  # one of so many is kept for the test: few against those that are fitted


@dataclass(frozen=True)
class Pruning:
    """What a training prunes and how it chooses; `counts` says how many channels of each set stay.

    `share` of the samples goes to the control phase, or to nothing (`idle`) with scores that
    need none. `sets` are those that lose channels.
    """

    sets: tuple[Channels, ...]
    counts: Mapping[str, int]
    mode: Mode
    score: str
    knockoff: Kind = "permute"
    large: str = "patches"
    share: float = 0.0
    optimizer: str = "sgd"
    rate: float = 0.05
    stop: float = 1.0
    tune_rate: float = 3e-3

    @property
    def convs(self) -> tuple[str, ...]:
        """Return the convolutions that compete, in the order of the sets."""
        return tuple(conv for s in self.sets for conv in s.convs)

    def recipe(self) -> Recipe:
        """Return the phases."""
        step = Step(optimizer=adamw(self.tune_rate, DECAY), factor=one_cycle(warm=0.1))
        tune = Phase("tune", 1 - self.share, (step,))
        prune = Phase("prune", 0.0, begin=partial(cut, self))
        if self.score in COMPETING and self.sets:
            compete = Step(
                competing(self.convs),
                learning,
                self._optimizer(),
                one_cycle(0.0, 1.0),
                after=settle,
            )
            control = Phase("control", self.share, (compete,), begin=partial(prepare, self))
            phases: tuple[Phase, ...] = (control, prune, tune)
            return Recipe(
                phases, BATCH, augment=False, comparable_from=self.share,
                companions=partial(group, self),
            )  # fmt: skip
        idle = (Phase("idle", self.share),) if self.share else ()
        return Recipe((prune, *idle, tune), BATCH, augment=False, comparable_from=self.share)

    def _optimizer(self) -> Any:
        if self.optimizer == "adam":
            return partial(torch.optim.Adam, lr=self.rate, betas=(0.5, 0.9))
        return sgd(self.rate, 0.9, 0.0)


def group(pruning: Pruning, state: State) -> dict[str, nn.Module]:
    """Return the companions of a control phase: coefficients, and knockoffs that are not fitted."""
    sizes = [s.size for s in pruning.sets for _ in s.convs]
    made = knockoffs(pruning.knockoff, state.input, state.task.size("train"), pruning.large)
    return {BETAS: Betas(sizes, pruning.stop), KNOCKOFFS: made}


def knockoffs(kind: Kind, shape: Shape, samples: int, large: str) -> Knockoffs:
    """Return knockoffs of a kind for images of a shape, to be fitted.

    `large` says what images of more than 256 numbers are taken apart into. Permuted batches are
    tested on patches there: between PCA coefficients, which are not correlated, other images
    would pass. A generator that is trained always sees coefficients.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"knockoffs are {', '.join(get_args(Kind))}, not {kind!r}")
    of = {"permute": "patches", "gaussian2": large, "deep": "pca"}[kind]
    units = units_of(shape, min(samples, IMAGES), of)
    classes: dict[str, type[Knockoffs]] = {
        "permute": Permuted, "gaussian2": Gaussian, "deep": Learnt,
    }  # fmt: skip
    return classes[kind](units)


def dense_of(state: State) -> nn.Module:
    """Return a copy of the dense network that a training starts from."""
    return copy.deepcopy(state.assets["dense"]).train()


def prepare(pruning: Pruning, state: State) -> nn.Module:
    """Fit the knockoffs on training images and test them on others; return the dense network."""
    _, made = group_of(state)
    images = torch.cat([b.inputs for b in training_batches(state, 256, IMAGES)])
    held = max(2, len(images) // TESTED)
    made.fit(images[held:], state.generator)
    found = made.tested(images[:held], state.generator)
    state.decisions["knockoffs"] = {
        "kind": pruning.knockoff, "units": made.units.name, "numbers": made.units.size,
        "groups": made.units.groups, "statistic": found.statistic, "p": found.p,
        "tested_on": found.samples, "holds": found.holds,
    }  # fmt: skip
    return dense_of(state)


def cut(pruning: Pruning, state: State) -> nn.Module:
    """Return the network with the best channels alone; note them, and its score as it is."""
    if pruning.score in COMPETING and pruning.sets:
        betas, _ = group_of(state)
        scores = competing_scores(pruning.score, state.model, pruning.sets, betas)
        state.decisions["beta"] = spread(betas)
    else:
        state.model = dense_of(state)
        scores = plain_scores(pruning.score, state, pruning.sets)
    kept = best(scores, pruning.counts)
    model = slim(state.model, kept, pruning.mode)
    state.decisions["kept"] = kept
    seed = int(torch.randint(2**31, (), generator=state.generator, device=state.generator.device))
    recalibrate(model, state.task, state.input, BATCH, seed)
    untuned = state.task.score(model, "valid", state.input)
    state.decisions["untuned"] = {state.task.metrics[0]: untuned[state.task.metrics[0]]}
    tell(model, state.decisions)
    return model.train()


def tell(model: nn.Module, decisions: Mapping[str, Any]) -> None:
    """Leave in a network what its training found, for the report; no part of its weights."""
    found: dict[str, float] = dict(decisions.get("beta", {}))
    for name, value in decisions.get("untuned", {}).items():
        found[f"{name}_before_tuning"] = value
    tested = decisions.get("knockoffs")
    if tested:
        found[f"knockoff_{tested['units']}"] = float(tested["numbers"])
        found["swap_statistic"], found["swap_p"] = tested["statistic"], tested["p"]
        found["swap_holds"] = float(tested["holds"])
    vars(model)["told"] = found


def told(model: nn.Module) -> dict[str, float]:
    """Return what `tell` left in a network, nothing where it was not trained."""
    found: dict[str, float] = vars(model).get("told", {})
    return dict(found)


def is_cut(model: nn.Module, sets: Sequence[Channels], counts: Mapping[str, int]) -> bool:
    """Return whether a network has the widths of `counts` already."""
    return all(
        len(model.get_submodule(conv).get_parameter("weight")) == counts[s.name]
        for s in sets
        for conv in s.convs
    )
