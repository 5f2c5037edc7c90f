"""Scores of channels: which of a set are kept, by what a trained network says of them.

    scop    |gamma| (2 beta - 1)         gamma: scale of the BatchNorm behind the convolution
    beta    2 beta - 1                   beta: from the control group
    gamma   |gamma|
    l1      mean |w| of a filter
    taylor  (d loss / d gate)^2, gate on the BatchNorm's output (arXiv:1906.10771, equation 8)
    random  a draw

Where several convolutions write one set, a channel's score is the mean of theirs. All are ranked
within a set alone, so the scale of a score does not matter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nasx.recalibrate import moved
from nasx.recipe import State
from nasx.tasks.base import Batch
from search_spaces._control_group import Betas
from search_spaces._coupling import Channels

COMPETING = ("scop", "beta")  # scores that want a control phase
OTHERS = ("gamma", "l1", "random", "taylor")
SAMPLES = 1024  # that Taylor's gradients are of, as many as statistics are taken from


def competing_scores(
    kind: str, model: nn.Module, sets: Sequence[Channels], betas: Betas
) -> dict[str, Tensor]:
    """Return "scop" or "beta" for every set; the coefficients stand in the order of the sets."""
    by_conv = dict(zip((c for s in sets for c in s.convs), betas.values, strict=True))
    found = {}
    for s in sets:
        parts = []
        for conv, norm in zip(s.convs, s.norms, strict=True):
            lead = 2 * by_conv[conv].detach() - 1
            parts.append(lead * _gamma(model, norm) if kind == "scop" and norm else lead)
        found[s.name] = torch.stack(parts).mean(0)
    return found


def plain_scores(kind: str, state: State, sets: Sequence[Channels]) -> dict[str, Tensor]:
    """Return "gamma", "l1", "taylor" or "random" for every set of the network in training."""
    model = state.model
    slopes = taylor(state, {n for s in sets for n in s.norms if n}) if kind == "taylor" else {}
    found = {}
    for s in sets:
        if kind == "random":
            draw = torch.rand(s.size, generator=state.generator, device=state.generator.device)
            found[s.name] = draw
            continue
        parts = []
        for conv, norm in zip(s.convs, s.norms, strict=True):
            if kind == "l1":
                parts.append(
                    model.get_submodule(conv).get_parameter("weight").abs().mean((1, 2, 3))
                )
            elif norm:  # a shortcut without BatchNorm has no gate to ask
                parts.append(slopes[norm] if kind == "taylor" else _gamma(model, norm))
        found[s.name] = torch.stack(parts).mean(0).detach()
    return found


def _gamma(model: nn.Module, norm: str) -> Tensor:
    return model.get_submodule(norm).get_parameter("weight").detach().abs()


def taylor(state: State, norms: Iterable[str]) -> dict[str, Tensor]:
    """Return the mean over batches of (gamma dL/dgamma + b dL/db)^2 by BatchNorm, in eval mode.

    What a gate on the BatchNorm's output would have for a gradient; of at most 1024 samples.
    """
    model = copy.deepcopy(state.model).eval()
    layers = {name: model.get_submodule(name) for name in norms}
    found: dict[str, Tensor] = {}
    for batch in training_batches(state, 64, SAMPLES):
        model.zero_grad()
        state.task.loss(model(batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
        for name, layer in layers.items():
            slope = torch.zeros(())
            for part in ("weight", "bias"):
                p = layer.get_parameter(part)
                assert p.grad is not None
                slope = slope.to(p.device) + (p * p.grad).detach()
            found[name] = found.get(name, torch.zeros_like(slope)) + slope**2
    return found


def training_batches(state: State, size: int, most: int) -> Iterable[Batch]:
    """Yield batches of training images as they are, in random order, `most` images at most."""
    seed = int(torch.randint(2**31, (), generator=state.generator, device=state.generator.device))
    device = next(state.model.parameters()).device
    size = min(size, state.task.size("train"))
    order = torch.Generator().manual_seed(seed)
    for i, batch in enumerate(state.task.batches("train", state.input, size, order)):
        if i * size >= most:
            return
        yield moved(batch, device)


def best(scores: Mapping[str, Tensor], counts: Mapping[str, int]) -> dict[str, list[int]]:
    """Return the channels of every set with the highest scores, in order; equal ones: the first."""
    found = {}
    for name, score in scores.items():
        ranked = torch.sort(score, descending=True, stable=True).indices
        found[name] = sorted(ranked[: counts[name]].tolist())
    return found
