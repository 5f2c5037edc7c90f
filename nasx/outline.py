"""What a recipe is, as JSON values: for records and bundles, where functions have only names."""

from __future__ import annotations

from typing import Any

from nasx.recipe import Cycle, Phase, Recipe, Step


def outline(recipe: Recipe) -> dict[str, Any]:
    """Return phases with their shares and steps, batch size and augmentation."""
    return {
        "phases": [_phase(phase) for phase in recipe.phases],
        "batch": recipe.batch,
        "augment": recipe.augment,
        "comparable_from": recipe.comparable_from,
        "companions": recipe.companions is not None,
    }


def _phase(phase: Phase) -> dict[str, Any]:
    steps: Any
    if isinstance(phase.steps, Cycle):
        first, second = phase.steps.first, phase.steps.second
        steps = {"first": [_step(s) for s in first], "second": [_step(s) for s in second]}
        steps["times"] = phase.steps.times
    else:
        steps = [_step(s) for s in phase.steps]
    return {"name": phase.name, "share": phase.share, "view": phase.view, "steps": steps}


def _step(step: Step) -> dict[str, Any]:
    return {
        "loss": _name(step.loss),
        "parameters": _name(step.parameters),
        "optimizer": _name(step.optimizer),
        "clip": step.clip,
    }


def _name(function: Any) -> str:
    """Return where a function is written; of one made by another, the maker."""
    whole = str(getattr(function, "__qualname__", type(function).__qualname__))
    return f"{getattr(function, '__module__', '?')}.{whole.split('.<locals>')[0]}"
