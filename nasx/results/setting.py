"""What a scaling rule stands on: the space as the study fixes it, its shape, its base network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasx.domain import Integer, Real
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from nasx.space import Space
from nasx.study import Study
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.tasks.base import Task

Counter = Callable[[Space, TaskShape], int]  # the MACs of a candidate, counted


@dataclass(frozen=True)
class Setting:
    """A space with the study's fixed fields as its defaults, and how its networks are counted."""

    space: type[Space]
    shape: TaskShape
    valid_samples: int
    base_macs: int
    count: Counter

    def domains(self, study: Study) -> dict[str, Integer | Real]:
        """Return the axes' domains, as narrow as the study makes them.

        Raises SpaceError for an axis that is no field of the space, or no number.
        """
        from nasx.registry import study_domains

        narrowed, found = study_domains(study, self.space), {}
        for axis in self.space.axes:
            domain = narrowed.get(axis)
            if not isinstance(domain, Integer | Real):
                raise SpaceError(fault_of_axis(self.space, axis))
            found[axis] = domain
        return found


def fault_of_axis(space: type[Space], axis: str) -> str:
    """Say why a field cannot be an axis of a scaling rule."""
    leaves = space.domains()
    if axis in leaves:
        return f"axis '{axis}' of space '{space.name}' is no number: name integer or real fields"
    inner = [leaf for leaf in leaves if leaf.startswith(f"{axis}.")]
    hint = f"name its values, such as '{inner[0]}'" if inner else f"it has {', '.join(leaves)}"
    return f"axis '{axis}' is no single field of space '{space.name}'; {hint}"


def setting_of(
    snapshot: Snapshot,
    space: type[Space] | None = None,
    task: Task | None = None,
    count: Counter | None = None,
) -> Setting:
    """Return the setting of a run; what is not given is looked up in the registry.

    The base network is the study's baseline, its MACs those that the record holds if it was
    tried. Raises SpaceError where no space, or more than one, declares axes.
    """
    study = snapshot.study
    plain = space or _with_axes(study)
    if not plain.axes:
        raise SpaceError(f"space '{plain.name}' declares no axes: it has no scaling rule")
    if task is None:
        from nasx import registry

        task = registry.task(study.task)
    counter = count or counted_macs
    own = fixed(plain, study.fix)
    for trial in snapshot.trials:
        if trial.origin == "start:baseline" and of_space(trial.space, own, study):
            known = trial.card.get("macs_max") or trial.card.get("macs")
            if known:
                return Setting(own, task.shape, task.size("valid"), int(known), counter)
    base = counter(own(), task.shape)
    return Setting(own, task.shape, task.size("valid"), base, counter)


def counted_macs(candidate: Space, shape: TaskShape) -> int:
    """Count the MACs of a candidate's deployed network, untrained."""
    from nasx.cost.card import card_of

    model = candidate.decide(candidate.build(shape))
    macs: int = card_of(model, candidate.input_shape(shape)).macs
    return macs


def of_space(reference: str, space: type[Space], study: Study) -> bool:
    """Say whether a trial's space is this one (the only one, or the one of that name)."""
    names = (space.name, space.__name__)
    return len(study.spaces) == 1 or reference.rpartition(":")[2] in names


def fixed(space: type[Space], fix: Mapping[str, Any]) -> type[Space]:
    """Return the space with the study's fixed fields as defaults, so that its methods heed them."""
    leaves = list(space.domains())
    flat: dict[str, Any] = {}
    for name, value in fix.items():
        members = [leaf for leaf in leaves if leaf == name or leaf.startswith(f"{name}.")]
        values = value if isinstance(value, list | tuple) else [value] * len(members)
        flat.update(zip(members, values, strict=False))
    baseline = space.from_flat(flat)
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(space):  # type: ignore[arg-type]
        value = getattr(baseline, field.name)
        if value != field.default:
            changed[field.name] = dataclasses.field(default=value, metadata=field.metadata)
    if not changed:
        return space
    # A subclass of the same name: `from_axes` and `null_from_macs` are class methods, and take
    # what they are not given from the defaults.
    body = {**changed, "__annotations__": dict.fromkeys(changed, Any), "__doc__": space.__doc__}
    return type(space.__name__, (space,), {**body, "__module__": space.__module__})


def _with_axes(study: Study) -> type[Space]:
    from nasx import registry

    found = [s for s in map(registry.space, study.spaces) if s.axes]
    if len(found) == 1:
        return found[0]
    names = ", ".join(study.spaces)
    if not found:
        raise SpaceError(f"no scaling rule: {names} declares no axes (see Space.axes)")
    raise SpaceError(f"a rule speaks of one space, and {names} all declare axes: name one")
