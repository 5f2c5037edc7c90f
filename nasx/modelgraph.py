"""Small questions about the nodes of an exported graph."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nasx.modelspelling import DROPOUT, SAME

if TYPE_CHECKING:
    from torch import fx


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


def changes_nothing(node: fx.Node) -> bool:
    """Return whether a call gives back its first argument (dropout when not training)."""
    name, args = str(node.target), node.args
    whole = name == "aten.slice.Tensor" and args[2:] == (0, sys.maxsize)
    return name in SAME or whole or (name in DROPOUT and args[2] is False)


def module_of(node: fx.Node) -> str:
    """Return the part of the network that made this node: `stem`, or `blocks.3` in a list."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]).split(".") if stack else [""]
    if path[0].startswith("_empty"):
        return ""
    return " ".join(".".join(path[: 2 if path[1:2] and path[1].isdigit() else 1]).split())


def is_size(node: fx.Node) -> bool:
    """Return whether a node's value is a size or another plain number."""
    import torch

    kinds = (torch.SymInt, torch.SymBool, torch.SymFloat, int, float)
    return isinstance(node.meta.get("val"), kinds)


def node_type() -> type[fx.Node]:
    """Return torch.fx.Node; torch is imported only when a graph is read."""
    from torch import fx

    return fx.Node
