"""Assets: trained networks that other trials start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasx.space import Space


@dataclass(frozen=True)
class Asset:
    """A trained network of `candidate`, made with `samples` of its own recipe on first demand."""

    candidate: Space
    samples: int
    seed: int = 0
