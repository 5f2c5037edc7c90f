"""Find spaces, tasks, figures and studies: by folder, by a user's path, by entry point.

Nothing is registered by hand: a file in `search_spaces/` or `dashboards/`, a `TASKS` mapping in
`nasx/tasks/`, a YAML in `studies/` is enough.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nasx.domain import When
from nasx.errors import NasxError, SpaceError
from nasx.nearest import hint
from nasx.space import Space, unknown_field
from nasx.userfile import is_file_reference, load_name, resolve

if TYPE_CHECKING:
    from nasx.domain import Domain
    from nasx.study import Study
    from nasx.tasks.base import Task

HOME = Path(__file__).resolve().parent.parent
CLAIMS = "claims"  # the folder of studies/ that holds claim studies


def spaces() -> dict[str, type[Space]]:
    """Return every installed space by name; a name used twice is refused with both files."""
    return dict(_spaces())


@functools.cache
def _spaces() -> dict[str, type[Space]]:
    found: dict[str, type[Space]] = {}
    for module in _modules("search_spaces"):
        for value in vars(module).values():
            if _is_space(value) and value.__module__ == module.__name__:
                _add(found, value.name, value)
    for point in importlib.metadata.entry_points(group="nasx.spaces"):
        value = _load_point(point)
        if not _is_space(value):
            raise SpaceError(f"entry point {point.value} (nasx.spaces) is not a named Space class")
        _add(found, value.name, value)
    return dict(sorted(found.items()))


def space(reference: str, base: Path | None = None) -> type[Space]:
    """Return the space of a name, or of "./file.py:Class" (the file is executed).

    Relative files are looked for in the working directory, then in `base`.
    """
    if not is_file_reference(reference):
        known = spaces()
        if reference not in known:
            raise SpaceError(f"there is no space '{reference}'; {hint(reference, known)}")
        return known[reference]
    cls = load_name(resolve(reference, base), "class MyNet(Space)", _is_subclass)
    if not _is_space(cls):
        raise SpaceError(f"{reference}: the class has no name: write name = 'my_net' in it")
    found: type[Space] = cls
    return found


def tasks() -> dict[str, Callable[..., Task]]:
    """Return every installed task's factory by name."""
    return dict(_tasks())


@functools.cache
def _tasks() -> dict[str, Callable[..., Task]]:
    found: dict[str, Callable[..., Task]] = {}
    for module in _modules("nasx.tasks"):
        for name, factory in getattr(module, "TASKS", {}).items():
            _add(found, name, factory)
    for point in importlib.metadata.entry_points(group="nasx.tasks"):
        _add(found, point.name, _load_point(point))
    return dict(sorted(found.items()))


def task(spec: str | Mapping[str, Any], base: Path | None = None) -> Task:
    """Return the task of a name, or of {name: ..., option: value}; unknown options are refused.

    The name may be "./file.py:function", a factory of the user's (the file is executed).
    """
    options = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else str(options.pop("name", ""))
    if is_file_reference(name):
        factory = load_name(resolve(name, base), "a function that returns a Task", callable)
    elif name in tasks():
        factory = tasks()[name]
    else:
        raise NasxError(f"there is no task '{name}'; {hint(name, tasks())}")
    accepted = inspect.signature(factory).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        for option in options:
            if option not in accepted:
                raise NasxError(f"task '{name}' has no option '{option}'; {hint(option, accepted)}")
    for option, p in accepted.items():
        if p.default is p.empty and option not in options and p.kind is not p.VAR_KEYWORD:
            raise NasxError(
                f"task '{name}' needs '{option}': write {{name: {name}, {option}: ...}}"
            )
    made: Task = factory(**options)
    return made


def figures() -> list[ModuleType]:
    """Return the figure modules of dashboards/ in the order of the report."""
    found = [m for m in _modules("dashboards") if hasattr(m, "ORDER")]
    return sorted(found, key=lambda m: (m.ORDER, m.__name__))


def studies() -> dict[str, Path]:
    """Return the shipped studies by name (`x/y` for those in a folder)."""
    return _questions(lambda f: f.parent.name != CLAIMS)


def claims() -> dict[str, Path]:
    """Return the shipped claim studies by name."""
    return {Path(name).name: f for name, f in _questions(lambda f: f.parent.name == CLAIMS).items()}


def _questions(wanted: Callable[[Path], bool]) -> dict[str, Path]:
    root = HOME / "studies"
    check_sibling("studies")
    files = [f for f in sorted(root.rglob("*.yaml")) if wanted(f)]
    return {str(f.relative_to(root).with_suffix("").as_posix()): f for f in files}


def study_domains(study: Study, space: type[Space]) -> dict[str, Domain]:
    """Return the space's leaf domains, cut down by the study's `fix` and `domains`.

    A fixed field is a domain of one value, and so is one that no candidate of the study can make
    active: a sampler would only move it to find the same network. Where a study has several
    spaces, a field concerns those that have it. Raises SpaceError on an unknown field, a value
    outside or a widening.
    """
    leaves = space.domains()
    several = len(study.spaces) > 1
    for cut, asked in (("fix", study.fix), ("domains", study.domains)):
        for name, allowed in asked.items():
            members = field_leaves(space, name)
            if not members and several:
                continue
            if not members:
                raise SpaceError(unknown_field(space, name))
            values = [allowed] * len(members)
            if cut == "fix" and isinstance(allowed, list):
                if len(allowed) != len(members):
                    raise SpaceError(f"fix of '{name}': needs {len(members)} values")
                values = allowed
            for leaf, value in zip(members, values, strict=True):
                fault = leaves[leaf].fault(value) if cut == "fix" else None
                if fault:
                    raise SpaceError(f"fix of '{leaf}': {value!r} {fault}")
                leaves[leaf] = leaves[leaf].narrow(value, leaf)
    for field in dataclasses.fields(space):  # type: ignore[arg-type]
        domain = field.metadata["domain"]
        if isinstance(domain, When) and all(leaves[domain.name].fault(v) for v in domain.values):
            for leaf in domain.leaves(field.name):
                leaves[leaf] = leaves[leaf].narrow(leaves[leaf].default, leaf)
    return leaves


def field_leaves(space: type[Space], name: str) -> list[str]:
    """Return the leaf names of a field (`width` -> `width.0`, ...) or of one leaf; else nothing."""
    leaves = space.domains()
    if name in leaves:
        return [name]
    return [leaf for leaf in leaves if leaf.rpartition(".")[0] == name]


def check_sibling(package: str) -> None:
    """Refuse to read a package of ours that another folder or distribution shadows.

    The names search_spaces, studies and dashboards are generic, so any project may have them.
    """
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise NasxError(f"the package '{package}' is missing beside nasx in {HOME}: install again")
    if Path(places[0]).resolve() != HOME / package:
        raise NasxError(
            f"the package '{package}' is taken from {places[0]}, which shadows nasx's own in "
            f"{HOME}: rename that folder, or run nasx from elsewhere"
        )


def _modules(package: str) -> list[ModuleType]:
    if "." not in package:
        check_sibling(package)
    home = importlib.import_module(package)
    names = sorted(
        m.name for m in pkgutil.iter_modules(home.__path__) if not m.name.startswith("_")
    )
    return [importlib.import_module(f"{package}.{name}") for name in names]


def _load_point(point: importlib.metadata.EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise NasxError(
            f"entry point {point.group}: {point.name} = {point.value} cannot be loaded "
            f"({type(error).__name__}: {error}): mend or uninstall that package"
        ) from error


def _add(found: dict[str, Any], name: str, value: Any) -> None:
    if name in found and found[name] is not value:
        raise NasxError(
            f"the name '{name}' is used twice: in {_file(found[name])} and in {_file(value)}; "
            "rename one"
        )
    found[name] = value


def _file(value: Any) -> str:
    try:
        return inspect.getfile(inspect.unwrap(value))
    except TypeError:
        return repr(value)


def _is_subclass(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Space) and value is not Space


def _is_space(value: Any) -> bool:
    return _is_subclass(value) and isinstance(getattr(value, "name", None), str)
