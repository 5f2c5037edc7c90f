"""What is asked of a timing and what comes back, whatever runs the networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nasx.shape import Shape

Networks = Mapping[str, tuple[nn.Module, Shape]]


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
