"""nasx: neural architecture search and scaling rules.

    import nasx
    run = nasx.search(nasx.load("studies/tinynet.yaml"))
    nasx.front(run)

Names are loaded on first use, so that `import nasx` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasx.cost.api import cost, measure
    from nasx.export import export
    from nasx.registry import spaces
    from nasx.report import report
    from nasx.results.front import front
    from nasx.results.rule import rule
    from nasx.run import Run
    from nasx.search.search import search
    from nasx.studyfile import load

__version__ = "0.1.0"

_HOME = {
    "load": "nasx.studyfile",
    "search": "nasx.search.search",
    "Run": "nasx.run",
    "front": "nasx.results.front",
    "rule": "nasx.results.rule",
    "report": "nasx.report",
    "export": "nasx.export",
    "cost": "nasx.cost.api",
    "measure": "nasx.cost.api",
    "spaces": "nasx.registry",
}

__all__ = [  # noqa: RUF022 - in the order of use
    "load", "search", "Run", "front", "rule", "report", "export", "cost", "measure", "spaces",
]  # fmt: skip


class _Package(ModuleType):
    """This package; a public name stays what it is when a module of that name is imported.

    Importing `nasx.search.engine` would bind the folder `search` over the function `search`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Load one of the ten public names."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nasx' has no attribute '{name}'")
