"""Small questions about the nodes of an exported graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

WIDTH = 100  # of a line of the generated file


def last_uses(nodes: list[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return for each node the nodes whose value is needed there for the last time."""
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for used in node.all_input_nodes:
            last[used] = node
    ends: dict[fx.Node, list[fx.Node]] = {}
    for used, node in last.items():
        ends.setdefault(node, []).append(used)
    # The first argument's name is the natural one for the result.
    return {n: sorted(e, key=n.all_input_nodes.index) for n, e in ends.items()}


def by_name(node: fx.Node) -> dict[str, Any]:
    """Return a call's arguments by the names of its operator's schema."""
    names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def module_of(node: fx.Node) -> str:
    """Return the dotted path, two levels deep, of the module whose call made this node."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_empty") else ".".join(" ".join(path.split()).split(".")[:2])


def is_size(node: fx.Node) -> bool:
    """Return whether a node's value is a size or another plain number."""
    import torch

    kinds = (torch.SymInt, torch.SymBool, torch.SymFloat, int, float)
    return isinstance(node.meta.get("val"), kinds)


def node_type() -> type[fx.Node]:
    """Return torch.fx.Node; torch is imported only when a graph is read."""
    from torch import fx

    return fx.Node


def names(kind: str) -> Iterator[str]:
    """Yield local names: n, n1, n2 for sizes; x, y, z, u, v, w, t1, t2 for tensors."""
    if kind == "n":
        yield "n"
        yield from (f"n{i}" for i in count(1))
    yield from "xyzuvw"
    yield from (f"t{i}" for i in count(1))


def wrapped(before: str, called: str, arguments: list[str]) -> list[str]:
    """Return a statement as one line, or as three where one would be too long."""
    if not arguments:
        return [f"{before}{called}"]
    inside = ", ".join(arguments)
    whole = f"{before}{called}({inside})"
    if len(whole) + 8 <= WIDTH:
        return [whole]
    return [f"{before}{called}(", f"    {inside}", ")"]
