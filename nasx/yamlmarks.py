"""YAML as plain values, with the place in the text of every key and value.

Anchors, aliases, tags, duplicate keys and values that YAML guesses to be dates are faults: a
study reads the same to a person, to this parser and to any other one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

Path = tuple[str | int, ...]
DEEPEST = 20
PREFIX = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Place:
    """A position in the text, line and column counted from 0."""

    line: int
    column: int


@dataclass
class Document:
    """One YAML text: its plain value, where everything stands, and what is wrong with it."""

    value: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    faults: list[tuple[Place, str]] = field(default_factory=list)
    broken: set[Path] = field(default_factory=set)  # places whose value could not be read

    def place(self, path: Path, of_key: bool = False) -> Place:
        """Return where `path` stands, or the nearest place above it."""
        if of_key and path in self.keys:
            return self.keys[path]
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, Place(0, 0))


class _Loader(yaml.SafeLoader):
    """SafeLoader that notes anchors and aliases instead of following them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.refused: list[tuple[Place, str]] = []
        self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self.refused.append((place, f"alias *{event.anchor} is not allowed: write the value"))
            mark: Any = event.start_mark
            return yaml.ScalarNode("alias", "", mark)  # read as nothing
        if getattr(event, "anchor", None):
            self.refused.append((place, f"anchor &{event.anchor} is not allowed: remove it"))
            event.anchor = None
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, "is nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


# YAML 1.2 reads 1e4 as a number; PyYAML follows 1.1, which wants 1.0e+4.
_Loader.add_implicit_resolver(
    PREFIX + "float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str) -> Document:
    """Read one YAML text; what cannot be read is among the faults."""
    document = Document()
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.faults.append((_place(mark), f"is not YAML: {error.problem or error.context}"))
        document.broken.add(())
        return document
    except yaml.reader.ReaderError as error:
        document.faults.append((Place(0, 0), f"is not YAML: {error.reason}"))
        document.broken.add(())
        return document
    document.faults += loader.refused
    if node is not None:
        document.value = _plain(node, (), document, loader)
    return document


def _plain(node: yaml.Node, path: Path, document: Document, loader: _Loader) -> Any:
    document.values[path] = place = _place(node.start_mark)
    if node.tag == "alias":
        document.broken.add(path)
        return None
    kind = node.tag.removeprefix(PREFIX)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _mapping(node, path, document, loader)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [_plain(item, (*path, i), document, loader) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and kind in ("null", "bool", "int", "float", "str"):
        try:
            value = loader.construct_object(node)
        except (ValueError, yaml.YAMLError):
            document.faults.append((place, f"'{node.value[:40]}' cannot be read as {kind}"))
            document.broken.add(path)
            return None
        if isinstance(value, float):
            return _number(value, node.value, path, document)
        return value
    if kind == "timestamp":
        document.faults.append((place, f"'{node.value}' reads as a date: put it in quotes"))
    else:
        document.faults.append((place, f"tag {node.tag} is not allowed: remove it"))
    document.broken.add(path)
    return None


def _number(value: float, text: str, path: Path, document: Document) -> float | int | None:
    if not math.isfinite(value):
        document.faults.append((document.values[path], f"{text} is not a finite number"))
        document.broken.add(path)
        return None
    # 12e3 samples are meant as the whole number they are
    return int(value) if "e" in text.lower() and value.is_integer() else value


def _mapping(
    node: yaml.MappingNode, path: Path, document: Document, loader: _Loader
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _place(key_node.start_mark)
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "alias":
            document.faults.append((place, "a key must be a plain word"))
            continue
        key = key_node.value
        if key in found:
            first = document.keys[(*path, key)].line + 1
            document.faults.append((place, f"duplicate key '{key}' (first on line {first})"))
            continue
        document.keys[(*path, key)] = place
        found[key] = _plain(value_node, (*path, key), document, loader)
    return found


def _place(mark: Any) -> Place:
    return Place(mark.line, mark.column) if mark is not None else Place(0, 0)
