"""One relaxed choice: a discrete choice among k values, learnt through its k logits.

    p = weights(logits, "gumbel", temperature=schedule(state.progress), generator=state.generator)
    y = (p * branches).sum(-1)      # tensors are mixed by the caller
    w = relax(logits, levels)       # numbers are mixed here
    best = decide(logits)           # what is deployed

Logits have the shape (..., k): the last dimension runs over the choices. They may be parameters
(a weight's value, a shift's orientation) or a network's output (a gate).
Softmax relaxation: Maddison et al., arXiv:1611.00712; straight-through: Jang et al.,
arXiv:1611.01144.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

How = Literal["softmax", "gumbel", "straight_through", "direct"]
Rank = Literal["signed", "abs"]


def weights(
    logits: Tensor,
    how: How = "softmax",
    *,
    temperature: float = 1.0,
    noise: float = 1.0,
    rank: Rank = "signed",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the weight of every choice, (..., k) summing to 1 over the last dimension.

    `softmax` is noiseless. `gumbel` adds `noise` times standard Gumbel noise to the logits.
    `straight_through` takes that noise too, gives the winner weight 1 (equal ones: the first) and
    has the gradient of the soft weights; `direct` hands the gradient of the weights on to the
    logits as it is (arXiv:1308.3432). `rank="abs"` compares magnitudes, as `decide` does.
    Noise is drawn from `generator`, and a ValueError says so where there is none.
    """
    if temperature <= 0:
        raise ValueError(f"temperature = {temperature} must be > 0")
    if how not in get_args(How):
        raise ValueError(f"how = {how!r} is not one of {', '.join(get_args(How))}")
    given = logits
    if how != "softmax" and noise > 0:
        if generator is None:
            raise ValueError(f"how = {how!r} with noise = {noise} needs a generator")
        logits = logits + noise * _gumbel(logits, generator)
    scores = _ranked(logits, rank)
    soft = given if how == "direct" else torch.softmax(scores / temperature, -1)
    if how in ("softmax", "gumbel"):
        return soft
    hard = torch.zeros_like(soft).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())  # the bracket is exactly 0 and carries the gradient


def relax(
    logits: Tensor,
    values: Tensor,
    how: How = "softmax",
    *,
    temperature: float = 1.0,
    noise: float = 1.0,
    rank: Rank = "signed",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the sum over choices of weight times value: logits (..., k), values (k,) -> (...)."""
    p = weights(logits, how, temperature=temperature, noise=noise, rank=rank, generator=generator)
    return p @ values


def decide(logits: Tensor, rank: Rank = "signed") -> Tensor:
    """Return the index of the winning choice: (..., k) -> (...) int64; equal ones: the first."""
    return _ranked(logits, rank).argmax(-1)


def entropy(p: Tensor) -> Tensor:
    """Return the entropy of weights (..., k) in nats; its gradient is finite at weight 0."""
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1)


def expected_cost(p: Tensor, costs: Tensor | Sequence[float]) -> Tensor:
    """Return the mean cost under weights p (..., k); costs (k,) or broadcastable to p."""
    return (p * torch.as_tensor(costs, dtype=p.dtype, device=p.device)).sum(-1)


@dataclass(frozen=True)
class Schedule:
    """A number as a function of progress: `start` up to `first`, `end` from `last` on.

    Between them it moves on a straight line, or in equal ratios (`exponential`).
    """

    start: float
    end: float
    first: float = 0.0
    last: float = 1.0
    kind: Literal["linear", "exponential"] = "linear"

    def __post_init__(self) -> None:
        if not self.first < self.last:
            raise ValueError(f"first = {self.first} must be < last = {self.last}")
        if self.kind == "exponential" and min(self.start, self.end) <= 0:
            raise ValueError(f"exponential from {self.start} to {self.end}: both must be > 0")

    def __call__(self, progress: float) -> float:
        """Return the value at `progress`."""
        share = (progress - self.first) / (self.last - self.first)
        if share <= 0:
            return self.start
        if share >= 1:
            return self.end
        if self.kind == "exponential":
            return self.start * math.exp(share * math.log(self.end / self.start))
        return self.start + share * (self.end - self.start)


def _ranked(logits: Tensor, rank: Rank) -> Tensor:
    if rank not in ("signed", "abs"):
        raise ValueError(f"rank = {rank!r} is not one of signed, abs")
    return logits.abs() if rank == "abs" else logits


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard Gumbel noise, -log of unit exponentials, shaped like `like`."""
    waits = torch.empty_like(like, requires_grad=False).exponential_(generator=generator)
    return -waits.clamp_min(torch.finfo(like.dtype).tiny).log()
