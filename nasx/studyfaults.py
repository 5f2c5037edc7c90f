"""What is wrong with a file's plain values, by the schema alone: no torch, no space, no data.

There are kinds of files: studies, and claim studies (nasx.claims).
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from nasx.axes import AXES
from nasx.nearest import hint
from nasx.study import Fidelity, Strict, Study
from nasx.yamlmarks import Path

MEMORY = re.compile(r"^\s*\d+(\.\d+)?\s*([KMGT]i?)?B?\s*$")
DEVICE = re.compile(r"^(cuda:\d+|(?!cuda:)\S.*)$")  # which names exist, machines alone know

WANTED = {  # what stands at a place where pydantic knows only a union of types
    "space": "a name, ./file.py:Class, or a list of these",
    "task": "a name, or a mapping with `name` and the task's options",
    "resources.memory": 'a number of bytes or a text like "2 GiB"',
    "search.start": "a list, e.g. [baseline]",
    "objectives": "a mapping, e.g. {top1: maximize, macs: minimize}",
    "constraints": 'a mapping, e.g. {params: "<= 1.0e6"}',
}
TYPES = {
    "int": "a whole number", "float": "a number", "string": "a text", "bool": "true or false",
    "dict": "a mapping", "model": "a mapping", "tuple": "a list", "list": "a list",
}  # fmt: skip
BOUNDS = {
    "greater_than": ("greater than", "gt"), "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le"),
}  # fmt: skip


class SchemaFault(NamedTuple):
    """A fault at the keys that lead to it; `of_key` points at the key, not at its value."""

    keys: Path
    message: str
    of_key: bool = False


M = TypeVar("M", bound=Strict)


@dataclass(frozen=True)
class Kind(Generic[M]):
    """A kind of file: its model, what it is called and needs, and its own checks.

    `wanted` says what stands where pydantic knows only a union of types; `beyond` yields what
    the types alone cannot say.
    """

    model: type[M]
    noun: str
    needs: str
    wanted: Mapping[str, str]
    beyond: Callable[[dict[str, Any]], Iterator[SchemaFault]]


def validate(data: dict[str, Any], kind: Kind[M]) -> tuple[M | None, list[SchemaFault]]:
    """Return the model of plain values, and everything the schema has against them."""
    found = None
    faults: dict[tuple[Path, str], SchemaFault] = {}
    try:
        # JSON, as strict JSON takes lists for tuples and whole numbers for floats, and no more
        found = kind.model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as errors:
        for error in errors.errors(include_url=False):
            fault = _said(error, data, kind)
            if fault:
                faults.setdefault((fault.keys, fault.message), fault)
    for fault in kind.beyond(data):
        faults.setdefault((fault.keys, fault.message), fault)
    return found, list(faults.values())


def _said(error: Any, data: dict[str, Any], of: Kind[M]) -> SchemaFault | None:
    """Put one of pydantic's errors into our words; None for what `beyond` says better."""
    keys, value = _existing(error["loc"], data)
    dotted = ".".join(map(str, keys))
    kind: str = error["type"]
    if kind == "value_error":
        return None
    if kind == "missing":
        return SchemaFault(keys, f"{_at(dotted)}key '{error['loc'][-1]}' is missing")
    if kind == "extra_forbidden":
        known = [n for n in _fields(of.model, keys[:-1]) if n != "name"]
        where = f" in {'.'.join(map(str, keys[:-1]))}" if keys[:-1] else ""
        near = _elsewhere(of.model, keys) or hint(str(keys[-1]), known)
        said = f"unknown key '{keys[-1]}'{where}; {near}"
        return SchemaFault(keys, said, of_key=True)
    if kind == "literal_error":
        valid = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        listed = ", ".join(valid)
        near = hint(str(value), valid)
        also = "" if near.startswith("valid") else f"; {near}"
        return SchemaFault(keys, f"{dotted}: {_show(value)} is not one of {listed}{also}")
    if kind in BOUNDS:
        words, limit = BOUNDS[kind]
        said = f"must be {words} {error['ctx'][limit]:g}, not {_show(value)}"
        return SchemaFault(keys, f"{dotted}: {said}")
    if kind == "too_short":
        return SchemaFault(keys, f"{dotted}: name at least one, e.g. {{top1: maximize}}")
    if kind == "string_too_short":
        return SchemaFault(keys, f"{dotted}: say in a sentence what this {of.noun} is for")
    if len(keys) > 1 and keys[-2] in ("constraints", "checks"):
        said = f'{_show(value)} is not a bound: write it as "<= 8" or ">= 70"'
        return SchemaFault(keys, f"{dotted}: {said}")
    if kind == "string_pattern_mismatch":
        said = f"{_show(value)} is not a name: use a-z, 0-9, - and _, at most 64"
        return SchemaFault(keys, f"{dotted}: {said}")
    wanted = of.wanted.get(dotted) or TYPES.get(kind.partition("_")[0])
    if wanted is None:  # a kind of error that has no words of ours yet
        return SchemaFault(keys, f"{dotted}: {error['msg']}")
    return SchemaFault(keys, f"{dotted}: must be {wanted}, not {_show(value)}")


def _beyond(data: dict[str, Any]) -> Iterator[SchemaFault]:
    """Yield what the types alone cannot say."""
    for section in ("objectives", "constraints"):
        named = data.get(section)
        for axis, text in (named if isinstance(named, dict) else {}).items():
            yield from axis_faults(section, axis, text)
    for keys, pattern, wanted in (
        (("resources", "memory"), MEMORY, WANTED["resources.memory"]),
        (("measure", "device"), DEVICE, "cpu, cuda, cuda:N or part of a model's name"),
    ):
        given = _value(keys, data)
        if isinstance(given, str) and not pattern.match(given):
            yield SchemaFault(keys, f"{'.'.join(keys)}: must be {wanted}, not {_show(given)}")
    yield from task_faults(data)
    if data.get("space") == []:
        yield SchemaFault(("space",), "space: name at least one")
    fidelity = data.get("fidelity")
    if isinstance(fidelity, dict):
        yield from _ladder(fidelity)


def axis_faults(section: str, axis: str, text: Any) -> Iterator[SchemaFault]:
    """Yield what is wrong with one axis of objectives, constraints or checks."""
    if axis not in AXES:
        said = f"unknown axis '{axis}' in {section}; {hint(axis, AXES)}"
        yield SchemaFault((section, axis), said, of_key=True)
    elif isinstance(text, str) and (against := _against(section, axis, text)):
        yield SchemaFault((section, axis), f"{section}.{axis}: {against}")


def task_faults(data: dict[str, Any]) -> Iterator[SchemaFault]:
    """Yield what is wrong with a task's spelling."""
    task = data.get("task")
    if isinstance(task, dict) and not isinstance(task.get("name"), str):
        yield SchemaFault(("task",), "task: key 'name' is missing or not a text")


def _against(section: str, axis: str, text: str) -> str | None:
    """Say why this direction or bound makes no sense on this axis."""
    better = AXES[axis].direction
    if section == "objectives":
        if text in ("maximize", "minimize") and text != better:
            return f"{axis} is better when {_better(axis)}: write {better}"
        return None
    text = text.strip()
    try:
        float(text[2:])
    except ValueError:  # the schema's pattern has told of other shapes
        return f"the number of {_show(text)} cannot be read" if text.count(".") > 1 else None
    sign = ">=" if better == "maximize" else "<="
    if text[:2] in ("<=", ">=") and text[:2] != sign:
        return f'{axis} is better when {_better(axis)}: bound it as "{sign} {text[2:].strip()}"'
    return None


def _ladder(fidelity: dict[str, Any]) -> Iterator[SchemaFault]:
    given = Fidelity().model_dump() | fidelity
    full, factor, rungs = given["full"], given["factor"], given["rungs"]
    if not all(type(n) is int and n > 0 for n in (full, factor, rungs)) or rungs > 8:
        return
    first = full // factor ** (rungs - 1)
    if first < 1:
        said = f"the first of {rungs} rungs would see no sample: {full} / {factor}^{rungs - 1} < 1"
        yield SchemaFault(("fidelity",), f"fidelity: {said}; use fewer rungs or a larger full")


def _better(axis: str) -> str:
    return "larger" if AXES[axis].direction == "maximize" else "smaller"


def _existing(loc: tuple[str | int, ...], data: Any) -> tuple[Path, Any]:
    """Return the part of pydantic's location that is in the data, and the value there."""
    keys: list[str | int] = []
    for key in loc:
        inside = dict(enumerate(data)) if isinstance(data, list) else data
        if not isinstance(inside, dict) or key not in inside:
            break
        data = inside[key]
        keys.append(key)
    return tuple(keys), data


def _value(keys: tuple[str, ...], data: Any) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _fields(model: Any, keys: Path) -> list[str]:
    """Return the keys that the section at `keys` may have."""
    for key in keys:
        if typing.get_origin(model) is dict:  # of sections by name
            model = typing.get_args(model)[1]
            continue
        annotation = model.model_fields[str(key)].annotation
        options = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
        model = next(m for m in options if _is_model(m) or typing.get_origin(m) is dict)
    return list(model.model_fields)


def _elsewhere(model: type[BaseModel], keys: Path) -> str | None:
    """Say where a key belongs that stands in the wrong section."""
    if len(keys) == 1:
        homes = [s for s, f in model.model_fields.items() if _has(f.annotation, str(keys[0]))]
    else:
        homes = [""] if keys[-1] in model.model_fields and keys[-1] != "name" else []
    return f"it belongs {f'in {homes[0]}' if homes[0] else 'to the top level'}" if homes else None


def _has(model: Any, name: str) -> bool:
    return _is_model(model) and name in model.model_fields


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _at(dotted: str) -> str:
    return f"{dotted}: " if dotted else ""


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"'{text[:40]}…'" if len(text) > 40 else f"'{text}'"


STUDY = Kind(Study, "study", "desc, space, task and objectives", WANTED, _beyond)
