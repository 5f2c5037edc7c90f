"""What is wrong with a study once its space and task are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx import registry
from nasx.axes import AXES
from nasx.errors import MissingData, NasxError
from nasx.nearest import hint
from nasx.space import Space, unknown_field
from nasx.study import Study
from nasx.studyassets import asset_faults
from nasx.studyruntime import runtime_faults
from nasx.studyviews import view_faults
from nasx.userfile import is_file_reference, resolve
from nasx.yamlmarks import Path as Keys

if TYPE_CHECKING:
    from nasx.domain import Domain
    from nasx.tasks.base import Task

Said = tuple[Keys, str]

PLACES = ("path", "valid", "test")  # options of tasks that name files or folders


def meaning_faults(study: Study, base: Path) -> tuple[Study, list[Said], list[Said]]:
    """Return the study with its relative paths settled, all faults with their keys, and what
    is missing on this machine alone: the study itself may be sound.

    A path stays as written where it is found from the working directory; one that is found only
    beside the study file (`base`) becomes absolute, so that workers elsewhere find it too.
    """
    study = _settled(study, base)
    faults: list[Said] = []
    missing: list[Said] = []
    classes = _classes(study, base, faults)
    task = _task(study, base, faults, missing)
    if classes and len(classes) == len(study.spaces):
        faults += _fields(study, classes)
        faults += _start(study, classes)
    if task is not None:
        faults += _scores(study, task)
        for cls in classes:
            if task.shape.kind not in cls.tasks:
                said = f"space '{cls.name}' is for {', '.join(cls.tasks)}"
                faults.append((("task",), f"task: {task.name} is a {task.shape.kind} task; {said}"))
        if not faults:  # of a study that is sound otherwise: this builds networks
            faults += runtime_faults(study, classes, task.shape)
            faults += view_faults(study, classes, task)
            faults += asset_faults(study, classes, task.shape)
    for name, path in study.assets.items():
        if not Path(path).is_file():
            missing.append((("assets", name), f"assets.{name}: there is no file {path}"))
    return study, faults, missing


def _settled(study: Study, base: Path) -> Study:
    spaces = tuple(_reference(s, base) for s in study.spaces)
    task = study.task
    if isinstance(task, str):
        task = _reference(task, base)
    else:
        task = {**task, "name": _reference(str(task["name"]), base)}
        task |= {name: _places(task[name], base) for name in PLACES if name in task}
    assets = {name: _path(path, base) for name, path in study.assets.items()}
    space: str | tuple[str, ...] = spaces[0] if isinstance(study.space, str) else spaces
    return study.model_copy(update={"space": space, "task": task, "assets": assets})


def _places(value: Any, base: Path) -> Any:
    """Return a path, or each of a list of them, where it lies; other values as they are."""
    if isinstance(value, list | tuple):
        return [_places(one, base) for one in value]
    return _path(value, base) if isinstance(value, str) else value


def _reference(reference: str, base: Path) -> str:
    if not is_file_reference(reference):
        return reference
    file, colon, name = reference.rpartition(":")
    return _path(file, base) + colon + name


def _path(path: str, base: Path) -> str:
    here = Path(path).expanduser()
    return path if here.exists() or not (base / here).exists() else str((base / here).resolve())


def _classes(study: Study, base: Path, faults: list[Said]) -> list[type[Space]]:
    found: list[type[Space]] = []
    for i, reference in enumerate(study.spaces):
        keys: Keys = ("space",) if isinstance(study.space, str) else ("space", i)
        try:
            cls = registry.space(reference, base)
        except NasxError as error:
            faults.append((keys, f"space: {error}"))
            continue
        if cls.name in [c.name for c in found]:
            faults.append((keys, f"space: '{cls.name}' is named twice"))
        try:
            cls()
        except NasxError as error:
            faults.append((keys, f"space: {error}: the defaults must make a network"))
        found.append(cls)
    return found


def _task(study: Study, base: Path, faults: list[Said], missing: list[Said]) -> Task | None:
    spec = study.task
    name = spec if isinstance(spec, str) else str(spec["name"])
    if is_file_reference(name):
        try:
            resolve(name, base)
        except NasxError as error:
            faults.append((("task",), f"task: {error}"))
            return None
    try:
        return registry.task(spec, base)
    except MissingData as error:
        missing.append((("task",), f"task: {error}"))
        return None
    except NasxError as error:
        faults.append((("task",), f"task: {error}"))
        return None


def _fields(study: Study, classes: list[type[Space]]) -> Iterator[Said]:
    for section, asked in (("fix", study.fix), ("domains", study.domains)):
        for name, value in asked.items():
            owners = [c for c in classes if registry.field_leaves(c, name)]
            if not owners:
                yield (section, name), f"{section}: {_unknown(classes, name)}"
                continue
            if section == "domains" and name in study.fix:
                yield (section, name), f"domains: '{name}' is fixed already: keep one of the two"
                continue
            for cls in owners:
                fault = _refusal(study, cls, section, name, value)
                if fault:
                    yield (section, name), fault
                    break


def _refusal(study: Study, cls: type[Space], section: str, name: str, value: Any) -> str | None:
    alone = study.model_copy(
        update={"space": cls.name, "fix": {}, "domains": {}, section: {name: value}}
    )
    try:
        registry.study_domains(alone, cls)
    except NasxError as error:
        return str(error)
    return None


def _unknown(classes: list[type[Space]], name: str) -> str:
    if len(classes) == 1:
        fields = {leaf.rpartition(".")[0] or leaf for leaf in classes[0].domains()}
        near = hint(name, sorted(fields))
        return f"space '{classes[0].name}' has no field '{name}'; {near}"
    return "; ".join(unknown_field(c, name) for c in classes)


def _start(study: Study, classes: list[type[Space]]) -> Iterator[Said]:
    for i, name in enumerate(study.search.start):
        keys: Keys = ("search", "start", i)
        if name == "baseline":
            continue
        points = {p.name: (c, p) for c in classes for p in c.published}
        if name not in points:
            near = hint(name, ["baseline", *points])
            yield keys, f"search.start: there is no published point '{name}'; {near}"
            continue
        cls, point = points[name]
        try:
            domains = registry.study_domains(study, cls)
        except NasxError:
            continue  # told at the field itself
        outside = outside_of(domains, cls, dict(point.candidate))
        if outside:
            admitted = ["baseline"] + [
                n for n, (c, p) in points.items()
                if c is cls and not outside_of(domains, c, dict(p.candidate))
            ]  # fmt: skip
            said = f"'{name}' lies outside this study's domains ({outside})"
            yield keys, f"search.start: {said}; admitted are {', '.join(admitted)}"


def outside_of(
    domains: dict[str, Domain], cls: type[Space], candidate: dict[str, Any]
) -> str | None:
    """Say which field of a candidate lies outside `domains`, or return None."""
    for leaf, value in cls.from_json(candidate).flat().items():
        fault = domains[leaf].fault(value)
        if fault:
            return f"{leaf} = {value!r} {fault}"
    return None


def _scores(study: Study, task: Task) -> Iterator[Said]:
    for section in ("objectives", "constraints"):
        for axis in getattr(study, section):
            if AXES[axis].kind == "score" and axis not in task.metrics:
                valid = [*task.metrics, *(n for n, a in AXES.items() if a.kind != "score")]
                near = hint(axis, task.metrics)
                also = "" if near.startswith("valid") else f"{near} "
                said = f"task '{task.name}' does not score {axis}; {also}valid are"
                yield (section, axis), f"{section}: {said} {', '.join(valid)}"
