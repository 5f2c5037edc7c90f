"""Whether a study's task has the data that the first candidates of its search train on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nasx.errors import NasxError
from nasx.space import Space
from nasx.studyruntime import starts
from nasx.tasks.base import Task, demand_view
from nasx.yamlmarks import Path as Keys

if TYPE_CHECKING:
    from nasx.study import Study


def view_faults(study: Study, classes: list[type[Space]], task: Task) -> Iterator[tuple[Keys, str]]:
    """Yield the data view that a phase asks for and the task does not have.

    Asked are the recipes of `search.start` and of the trained networks that these start from.
    """
    for name, candidate in starts(study, classes):
        try:
            assets = candidate.needs(task.shape).values()
            recipes = [c.recipe(task.shape) for c in (candidate, *(a.candidate for a in assets))]
        except Exception:  # it has none on this shape: the search says so, with its trial
            continue
        try:
            for recipe in recipes:
                for phase in recipe.phases:
                    demand_view(task, phase.view)
        except NasxError as error:
            yield ("task",), f"task: {name} cannot be trained: {error}"
            return
