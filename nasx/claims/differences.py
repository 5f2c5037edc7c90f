"""What really differs between two arms: fields, input, assets, and every part of the recipe."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nasx.claims.plan import Planned, altered
from nasx.recipe import Cycle, Phase, Recipe, Step
from nasx.shape import TaskShape
from nasx.space import Space


def differing(first: Planned, second: Planned, shape: TaskShape) -> dict[str, tuple[Any, Any]]:
    """Return what differs by name, with both values, in the terms of a claim's `differ`.

    A field of the space by its name; `input` where the networks take other inputs; `assets` where
    they start from others; parts of the recipe (`batch`, `augment`, `optimizer.lr`, ...) as far
    as the training fields that differ do not already say so.
    """
    a, b = first.candidate, second.candidate
    found = _unlike(a.in_effect(), b.in_effect())
    found |= _unlike({"input": a.input_shape(shape)}, {"input": b.input_shape(shape)})
    found |= _unlike({"assets": _assets(a, shape)}, {"assets": _assets(b, shape)})
    # A training field is there to change the recipe; what a field of the network changes in it
    # is a second difference, and a reader must be told.
    training = {name: b.values()[name] for name in type(b).training if name in found}
    same = altered(type(a).from_json({**a.values(), **training}), first.changes)
    return found | _unlike(recipe_facts(same.recipe(shape)), recipe_facts(b.recipe(shape)))


def recipe_facts(recipe: Recipe) -> dict[str, Any]:
    """Return every part of a recipe by name: steps with their functions, and what these hold."""
    facts: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name != "phases":
            facts |= _described(field.name, value)
    facts["phases"] = [(p.name, p.share, p.view, _shape_of(p)) for p in recipe.phases]
    for phase in recipe.phases:
        mark = f"{phase.name}." if len(recipe.phases) > 1 else ""
        for name in ("begin", "end"):
            facts |= _described(f"{mark}{name}", getattr(phase, name))
        steps = _steps(phase)
        for j, step in enumerate(steps):
            place = f"{mark}{j}." if len(steps) > 1 else mark
            for part in fields(Step):
                facts |= _described(f"{place}{part.name}", getattr(step, part.name))
    return facts


def _steps(phase: Phase) -> tuple[Step, ...]:
    steps = phase.steps
    return (*steps.first, *steps.second) if isinstance(steps, Cycle) else steps


def _shape_of(phase: Phase) -> Any:
    steps = phase.steps
    if isinstance(steps, Cycle):
        return len(steps.first), len(steps.second), steps.times
    return len(steps)


def _described(name: str, value: Any, depth: int = 3) -> dict[str, Any]:
    """Return a plain value, or a function's home and the values that it closes over."""
    if value is None or isinstance(value, bool | int | float | str):
        return {name: value}
    if isinstance(value, functools.partial):
        value = {**dict(enumerate(value.args)), **value.keywords, "function": value.func}
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    held: Mapping[Any, Any] = value if isinstance(value, dict) else {}
    found: dict[str, Any] = {}
    if not isinstance(value, dict):
        own = value if hasattr(value, "__qualname__") else type(value)  # no addresses of memory
        found[name] = f"{own.__module__}.{own.__qualname__}"
        held = _held(value)
    if depth:
        for part, inner in held.items():
            found |= _described(f"{name}.{part}", inner, depth - 1)
    return found


def _held(value: Any) -> dict[str, Any]:
    """Return what a function closes over or takes by default, or what an object keeps."""
    if inspect.ismethod(value):
        return {"self": value.__self__, **_held(value.__func__)}
    if inspect.isfunction(value):
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(value).parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        return {**defaults, **inspect.getclosurevars(value).nonlocals}
    return dict(getattr(value, "__dict__", {})) if not isinstance(value, type) else {}


def _assets(candidate: Space, shape: TaskShape) -> dict[str, str]:
    return {name: asset.key(shape) for name, asset in candidate.needs(shape).items()}


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*a, *b])
    return {n: (a.get(n), b.get(n)) for n in names if a.get(n) != b.get(n)}
