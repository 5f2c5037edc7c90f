"""A space in words and numbers, for `nasx spaces`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from nasx.domain import Choice, Each, Integer, Real, When
from nasx.space import Space


def describe(space: type[Space]) -> dict[str, Any]:
    """Return name, paper, tasks, fields and published points as JSON values.

    The published numbers are those that the paper or its official code states.
    """
    points = [
        {
            "name": p.name, "params": p.params, "macs": p.macs, "adds": p.adds,
            "tolerance": p.tolerance, "source": p.source, "counted": p.counted,
        }
        for p in space.published
    ]  # fmt: skip
    fields = {
        f.name: _field(f.metadata["domain"])
        for f in dataclasses.fields(space)  # type: ignore[arg-type]
    }
    return {
        "name": space.name,
        "paper": space.paper,
        "tasks": list(space.tasks),
        "about": inspect.getdoc(space) or "",
        "cautions": list(space.cautions),
        "axes": list(space.axes),
        "fields": fields,
        "published": points,
    }


def _field(domain: Any) -> dict[str, Any]:
    if isinstance(domain, When):
        values = ", ".join(map(str, domain.values))
        return {**_field(domain.domain), "when": f"{domain.name} is {values}"}
    if isinstance(domain, Each):
        return {**_field(domain.domain), "each": domain.n}
    if isinstance(domain, Integer):
        step = f" step {domain.step}" if domain.step > 1 else ""
        return {"domain": f"{domain.lo} to {domain.hi}{step}", "default": domain.default}
    if isinstance(domain, Real):
        log = " (log)" if domain.log else ""
        return {"domain": f"{domain.lo} to {domain.hi}{log}", "default": domain.default}
    if isinstance(domain, Choice):
        return {"domain": " | ".join(map(str, domain.values)), "default": domain.default}
    return {"domain": repr(domain), "default": domain.default}
