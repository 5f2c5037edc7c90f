"""How image processing transformers are trained: on many degradations first, then on the task's.

Adam on the mean absolute error with a warm-up and a cosine in each phase, no weight decay, as in
`search_spaces._sr_recipe`; in pre-training plus a contrastive loss of the decoder's tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nasx.errors import SpaceError
from nasx.recipe import Hook, Loss, Phase, Recipe, State, Step, adamw, one_cycle
from nasx.tasks.mixture import mixture
from search_spaces._ipt_ends import deployed, fitted
from search_spaces._ipt_nets import Ipt
from search_spaces._layers.contrast import Form, contrast

BATCH, WARM = 8, 0.1
LEVELS = 255  # the published weight of the contrastive loss is for images of that many levels
Pretrain = Literal["none", "phase", "asset", "only"]


@dataclass(frozen=True)
class IptTraining:
    """What is trained when, and how fast.

    `pretrain` "phase" spends `share` of the budget on the degradations of `weights`, "asset"
    begins with a body that was trained so before, "only" ends there. `weight` is the contrastive
    loss's. `crops` are the patches that fine-tuning may see, 0 for all that can be cut.
    """

    pretrain: Pretrain
    weights: Mapping[str, float]
    share: float
    weight: float
    form: Form
    temperature: float
    body_rate: float
    rate: float
    names: tuple[str, ...]
    crops: int

    def recipe(self) -> Recipe:
        """Return the phases; scores of another phase than the last are not compared."""
        phases = []
        if self.pretrain in ("phase", "only"):
            phases.append(self._pretraining(1.0 if self.pretrain == "only" else self.share))
        if self.pretrain != "only":
            phases.append(self._tuning(1.0 - self.share if phases else 1.0))
        start = self.share if len(phases) > 1 else 0.0
        return Recipe(tuple(phases), BATCH, comparable_from=start)

    def _pretraining(self, share: float) -> Phase:
        if not self.weights:
            raise SpaceError("pre-training on nothing: give one of the weights a number above 0")
        loss = contrastive(self.weight, self.form, self.temperature) if self.weight else plain
        step = Step(loss, optimizer=adamw(self.body_rate, 0.0), factor=one_cycle(warm=WARM))
        begin = knowing(tuple(self.weights))
        return Phase("pretrain", share, (step,), view=mixture(self.weights), begin=begin)

    def _tuning(self, share: float) -> Phase:
        step = Step(plain, optimizer=adamw(self.rate, 0.0), factor=one_cycle(warm=WARM))
        begin: dict[str, Hook] = {"phase": narrowed, "asset": supplied}
        view = mixture(dict.fromkeys(self.names, 1.0), self.crops) if self.crops else "train"
        return Phase("tune", share, (step,), view=view, begin=begin.get(self.pretrain))


def restorer(model: nn.Module | None) -> Ipt:
    """Return a network as what it must be here."""
    if not isinstance(model, Ipt):
        raise SpaceError(f"expected an image processing transformer, not {type(model).__name__}")
    return model


def plain(state: State) -> Tensor:
    """Return the task's loss of the head that the batch names."""
    batch = state.batch
    return state.task.loss(restorer(state.model)(batch.inputs, batch.head), batch)


def contrastive(weight: float, form: Form, temperature: float) -> Loss:
    """Return the task's loss plus that of the decoder's tokens, `weight` to 255 levels' error.

    The same pass gives both, so that the image is restored from what the tokens say. (A port of
    the released code skips the body as soon as this loss is on.)
    """

    def loss(state: State) -> Tensor:
        batch = state.batch
        restored, tokens = restorer(state.model).traced(batch.inputs, batch.head)
        apart = contrast(tokens, form, temperature)
        state.notes["contrast"] = float(apart.detach())
        return state.task.loss(restored, batch) + weight / LEVELS * apart

    return loss


def knowing(names: tuple[str, ...]) -> Hook:
    """Return the hook that gives a network the heads of these degradations."""

    def begin(state: State) -> nn.Module:
        state.decisions["heads"] = list(names)
        return fitted(restorer(state.model), names)

    return begin


def narrowed(state: State) -> nn.Module:
    """Leave a network only the heads of its task, trained ones where there are."""
    made = deployed(restorer(state.model))
    state.decisions["heads"] = list(made.plan.names)
    return made


def supplied(state: State) -> nn.Module:
    """Return the network of the body that was trained before, with the heads of its task."""
    names = restorer(state.model).plan.names
    return fitted(copy.deepcopy(restorer(state.assets.get("body"))), names)
