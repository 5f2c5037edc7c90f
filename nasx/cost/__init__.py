"""What a network costs: operations, bytes, time.

The package answers to `nasx.cost(...)` too: importing any module of it puts the package in the
place of the public function of that name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nasx.cost.card import CostCard


class _Room(ModuleType):
    @property
    def __call__(self) -> Callable[..., CostCard]:
        from nasx.cost.api import cost

        return cost


sys.modules[__name__].__class__ = _Room
