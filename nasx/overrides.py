"""Where "a.b=value" lays its value: dots part sections, and a field's own name may hold one."""

from __future__ import annotations

import types
import typing
from typing import Any

from pydantic import BaseModel

from nasx.study import Strict
from nasx.yamlmarks import Path as Keys


def keys_of(model: type[Strict], dotted: str) -> Keys:
    """Split a dotted text into keys, as deep as files of this model have sections.

    `arms.wide.candidate.width.0` is the field `width.0` of one arm: fields have no sections.
    """
    keys: list[str] = []
    section: Any = model
    while section is not None:
        head, dot, rest = dotted.partition(".")
        if not dot or not _has_sections(section):
            break
        keys.append(head)
        section, dotted = _inside(section, head), rest
    return (*keys, dotted)


def is_named(model: type[Strict], keys: Keys) -> bool:
    """Return whether the section at `keys` holds sections under names of the user's choice."""
    section: Any = model
    for key in keys:
        section = None if section is None else _inside(section, str(key))
    return typing.get_origin(section) is dict and _is_model(typing.get_args(section)[1])


def _has_sections(section: Any) -> bool:
    return _is_model(section) or _section(typing.get_args(section)[1]) is not None


def _inside(section: Any, key: str) -> Any:
    """Return the section that stands at a key of a section, or None for a plain value."""
    if not _is_model(section):
        return _section(typing.get_args(section)[1])
    field = section.model_fields.get(key)
    return None if field is None else _section(field.annotation)


def _section(annotation: Any) -> Any:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    options = typing.get_args(annotation) if union else (annotation,)
    return next((m for m in options if _is_model(m) or typing.get_origin(m) is dict), None)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
