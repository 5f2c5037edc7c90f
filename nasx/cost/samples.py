"""What is asked of a timing and what comes back, whatever runs the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from nasx.cost.inputs import example, laid
from nasx.shape import Shape
from nasx.varying import varies, widest_of

if TYPE_CHECKING:
    from nasx.tasks.base import Task

FED = 16  # real samples that a network is timed on whose work depends on them


class Fed(NamedTuple):
    """A network, the shape of one sample, and the samples (N, *shape) that it is timed on."""

    model: nn.Module
    shape: Shape
    samples: Tensor


Networks = Mapping[str, tuple[nn.Module, Shape] | Fed]


def fed(model: nn.Module, shape: Shape, task: Task) -> tuple[nn.Module, Shape] | Fed:
    """Return a trained network as it is timed: with samples of valid, where its work varies."""
    from nasx.tasks.spread import spread_samples

    return Fed(model, shape, spread_samples(task, shape, FED)) if varies(model) else (model, shape)


class Visit(NamedTuple):
    """What one visit runs: a network on one input, or on several, whose mean time counts."""

    model: nn.Module
    shape: Shape
    calls: list[tuple[Tensor, ...]]
    real: bool  # whether the inputs decide what runs


def visit_of(asked: tuple[nn.Module, Shape] | Fed, batch: int) -> Visit:
    """Return how a network is timed in batches of `batch`.

    One whose work depends on the input is run on each of its samples, and in its widest form on
    a made-up input where it was given none.
    """
    if not isinstance(asked, Fed):
        model, shape = asked
        model = widest_of(model)
        return Visit(model, shape, [example(model, shape, batch)], real=False)
    model, shape, samples = asked
    whole = torch.cat(
        [samples] * (1 + -(-batch // len(samples)))
    )  # the last batches go on in front
    calls = [tuple(laid(model, [whole[i : i + batch]])) for i in range(len(samples))]
    return Visit(model, shape, calls, real=varies(model))


@dataclass(frozen=True)
class Plan:
    """How often and in which order candidates are visited.

    Nine passes are the fewest whose second smallest and second largest value bound the median at
    95 %.
    """

    seed: int = 0
    passes: int = 9
    runs: int = 4


@dataclass(frozen=True)
class Samples:
    """Raw samples, one row per visit, and all that they were taken under.

    `rows`, `machine` and `block` are those of `nasx.cost.probe.take`. `faults` says why a network
    could not be timed. `exclusive` says whether a lease kept the device free throughout; None
    where none was needed.
    """

    rows: list[dict[str, Any]]
    machine: dict[str, Any]
    block: dict[str, float | None]
    faults: dict[str, str] = field(default_factory=dict)
    exclusive: bool | None = None
