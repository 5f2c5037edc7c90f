"""The control group of arXiv:2010.10732: real features compete with those of knockoffs.

Behind every convolution that may lose channels, channel j of the real stream becomes
beta_j * real + (1 - beta_j) * knockoff, before the BatchNorm; the knockoff stream passes on as it
is. Only beta learns, from one half on, within [0, 1].
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nasx.recipe import Loss, State
from search_spaces._knockoffs import Knockoffs

BETAS, KNOCKOFFS = "betas", "knockoffs"  # companions


class Betas(nn.Module):
    """One mixing coefficient for every output channel of every convolution, by number.

    Once their mean has passed `stop` they are done: knockoffs only ever harm, so that with time
    all of them go to 1 and say nothing.
    """

    done: Tensor  # 0 or 1
    last: Tensor  # all of them when they were done

    def __init__(self, sizes: Sequence[int], stop: float = 1.0) -> None:
        super().__init__()
        self.stop = stop
        self.values = nn.ParameterList(nn.Parameter(torch.full((n,), 0.5)) for n in sizes)
        self.register_buffer("done", torch.zeros((), dtype=torch.uint8))
        self.register_buffer("last", torch.zeros(sum(sizes)))

    def all(self) -> Tensor:
        """Return every coefficient in one row."""
        return torch.cat([value.detach() for value in self.values])

    @torch.no_grad()
    def settle(self) -> None:
        """Hold the coefficients within [0, 1], and where they were once they are done."""
        if self.done:  # an optimizer's momentum moves them without a gradient
            held = torch.split(self.last, [len(beta) for beta in self.values])
            for beta, value in zip(self.values, held, strict=True):
                beta.copy_(value)
            return
        for beta in self.values:
            beta.clamp_(0, 1)
        every = self.all()
        self.last.copy_(every)
        self.done.fill_(float(every.mean()) >= self.stop)


@contextlib.contextmanager
def mixing(model: nn.Module, convs: Sequence[str], betas: Betas) -> Iterator[None]:
    """Mix the two halves of every batch behind these convolutions while this is open.

    The first half are real samples, the second their knockoffs. What is computed has no gradients
    of the network's own weights. All is as before when it closes, also when the forward raises.
    """

    def mix(beta: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            real, copy = output.chunk(2)
            share = beta[:, None, None]
            return torch.cat([share * real + (1 - share) * copy, copy])

        return hook

    handles = [
        model.get_submodule(name).register_forward_hook(mix(beta))
        for name, beta in zip(convs, betas.values, strict=True)
    ]
    weights = [p for p in model.parameters() if p.requires_grad]
    try:
        for p in weights:
            p.requires_grad_(False)
        yield
    finally:
        for p in weights:
            p.requires_grad_(True)
        for handle in handles:
            handle.remove()


def competing(convs: tuple[str, ...]) -> Loss:
    """Return the task's loss of the mixed stream; the coefficients' mean and spread are noted."""

    def loss(state: State) -> Tensor:
        betas, knockoffs = group_of(state)
        if betas.done:
            return sum((beta.sum() * 0 for beta in betas.values), torch.zeros(()))
        real = state.batch.inputs
        with torch.no_grad():
            both = torch.cat([real, knockoffs(real, state.generator)])
        with mixing(state.model, convs, betas):
            outputs = state.model(both)
        state.notes |= spread(betas)
        return state.task.loss(outputs[: len(real)], state.batch)

    return loss


def group_of(state: State) -> tuple[Betas, Knockoffs]:
    """Return the coefficients and the knockoffs of a training."""
    betas, knockoffs = state.companions[BETAS], state.companions[KNOCKOFFS]
    assert isinstance(betas, Betas)
    assert isinstance(knockoffs, Knockoffs)
    return betas, knockoffs


def learning(state: State) -> list[nn.Parameter]:
    """Return the coefficients: the network itself rests."""
    return list(group_of(state)[0].values)


def settle(state: State) -> None:
    """Hold the coefficients within [0, 1], and end their learning when it is time."""
    group_of(state)[0].settle()


def spread(betas: Betas) -> dict[str, float]:
    """Return mean and standard deviation of the coefficients, and the share above one half."""
    every = betas.all()
    return {
        "beta_mean": float(every.mean()),
        "beta_sd": float(every.std(correction=0)),
        "beta_above_half": float((every > 0.5).float().mean()),
    }
