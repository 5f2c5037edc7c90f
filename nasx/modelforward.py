"""Spell an exported graph as the statements of a forward method."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.modelgraph import by_name, changes_nothing, is_size, last_uses, module_of, node_type
from nasx.modelspelling import (
    CHECKS,
    FUNCTIONAL,
    INFIX,
    INPLACE,
    METHODS,
    SIZES,
    TORCH,
    UNSEEN,
    literal,
    local_names,
    wrapped,
)

if TYPE_CHECKING:
    from torch import fx


class Forward:
    """Turns one graph, and the graphs inside it, into methods.

    `fixed` spells the nodes that are attributes of the module; `references` names the operators
    of our own that have a function in the file, `used` holds those of them that the graph calls
    with their schemas, and `inner` collects the methods of graphs inside it (the branches of
    torch.cond), named after the branch that they are `within`.
    """

    def __init__(
        self,
        graph: fx.GraphModule,
        fixed: dict[fx.Node, str],
        references: set[str],
        within: str = "",
    ) -> None:
        self.graph, self.references, self.within = graph, references, within
        self.names: dict[fx.Node, str] = dict(fixed)
        self.inner: list[str] = []
        self.used: dict[str, Any] = {}
        self._held: dict[str, int] = {}  # how many nodes still need a local name's value
        self._lines: list[str] = []

    def method(self, name: str, answer: Callable[[list[str]], str]) -> str:
        """Return the source of one method; `answer` spells what it returns."""
        nodes = list(self.graph.graph.nodes)
        last = last_uses(nodes)
        inputs = [
            self._take(node, ())
            for node in nodes
            if node.op == "placeholder" and node not in self.names
        ]
        group = ""
        for node in nodes:
            if node.op == "output":
                flat = [self._text(v) for v in node.args[0]]
                self._lines.append(f"return {answer(flat)}")
            elif node.op == "call_function":
                before = len(self._lines)
                self._statement(node, last)
                here = module_of(node)
                if here and here != group and len(self._lines) > before:
                    self._lines.insert(before, f"# {here}")
                    group = here
            elif node.op == "get_attr":
                self._branch(node)
        if any(re.search(r"\bdevice\b", line) for line in self._lines if line[0] != "#"):
            self._lines.insert(0, f"device = {inputs[0]}.device")
        head = f"    def {name}({', '.join(['self', *inputs])}):\n"
        return head + "".join(f"        {line}\n" for line in self._lines)

    # -- one statement ----------------------------------------------------------------------

    def _statement(self, node: fx.Node, last: dict[fx.Node, list[fx.Node]]) -> None:
        target = str(node.target)
        ends = last.get(node, [])
        if CHECKS.match(target):
            return self._release(ends)
        if changes_nothing(node) and isinstance(source := node.args[0], node_type()):
            name = self.names[source]
            self.names[node] = name
            if name in self._held:
                self._held[name] += 1
            return self._release(ends)
        pieces = self._call(node)
        self._release(ends)
        if not node.users and target.partition(".")[2].partition(".")[0].endswith("_"):
            self._lines.extend(wrapped("", *pieces))  # in place, for its effect alone
            return None
        name = self._take(node, [self.names[n] for n in ends])
        self._lines.extend(wrapped(f"{name} = ", *pieces))
        if not node.users:
            self._release([node])
        return None

    def _call(self, node: fx.Node) -> tuple[str, list[str]]:
        """Return the called name and its arguments; arguments of an expression are none."""
        target, args = node.target, node.args
        text = self._text
        name = str(target)
        if target is operator.getitem:
            return f"{text(args[0])}[{text(args[1])}]", []
        if name == "aten.sym_size.int":
            return f"{text(args[0])}.shape[{args[1]}]", []
        if name in INFIX and not node.kwargs:
            return f"{text(args[0])} {INFIX[name]} {text(args[1])}", []
        if target in SIZES:
            return f"{text(args[0])} {SIZES[target]} {text(args[1])}", []
        if name == "cond":
            yes, no = (f"{text(b)}({', '.join(self._given(b, args[3]))})" for b in args[1:3])
            return f"{yes} if {text(args[0])} else {no}", []
        if not hasattr(target, "_schema"):
            raise NasxError(f"model.py cannot spell '{name}': the network must do without it")
        return self._operator(node, name)

    def _operator(self, node: fx.Node, name: str) -> tuple[str, list[str]]:
        space, _, short = name.partition(".")
        named = by_name(node)
        if name == "aten.batch_norm.default" and named["training"] is False:
            order = ("input", "running_mean", "running_var", "weight", "bias")
            return "F.batch_norm", [
                *(self._text(named[k]) for k in order), f"eps={literal(named['eps'])}"
            ]  # fmt: skip
        if space == "aten" and short in INPLACE:
            return f"F.{short.partition('_.')[0]}", [*self._arguments(node), "inplace=True"]
        if space == "aten" and short in FUNCTIONAL:
            return f"F.{short.partition('.')[0]}", self._arguments(node, skip=UNSEEN)
        if space == "aten" and short in TORCH:
            return f"torch.{short.partition('.')[0]}", self._arguments(node)
        if space == "aten" and short in METHODS:
            value, *rest = self._arguments(node)
            called = f"{value}.{short.partition('.')[0]}"
            return (called, [r.partition("=")[2] for r in rest]) if rest else (f"{called}()", [])
        if space in ("aten", "prims"):
            return f"torch.ops.{name}", self._arguments(node)
        ours = node.target._schema.name  # type: ignore[union-attr]
        if ours in self.references:
            self.used[ours] = node.target._schema  # type: ignore[union-attr]
            return ours.rpartition(":")[2], self._arguments(node)
        raise NasxError(
            f"the network calls the operator {ours}, which plain torch does not have: give its "
            "layer a `references` entry, a function with the same arithmetic in torch"
        )

    def _arguments(self, node: fx.Node, skip: tuple[str, ...] = ()) -> list[str]:
        """Return arguments in order up to the first constant, by name from there on."""
        schema = node.target._schema.arguments  # type: ignore[union-attr]
        defaults = {a.name: a.default_value for a in schema if a.has_default_value()}
        texts: list[str] = []
        by_place = True
        for i, (name, value) in enumerate(by_name(node).items()):
            by_place = by_place and (i == 0 or isinstance(value, node_type()))
            if by_place:
                texts.append(self._text(value))
            elif name not in skip and not (name in defaults and defaults[name] == value):
                texts.append(f"{name}={self._text(value)}")
        return texts

    def _text(self, value: Any) -> str:
        if isinstance(value, node_type()):
            return self.names[value]
        if isinstance(value, list | tuple) and any(isinstance(v, node_type()) for v in value):
            inner = ", ".join(self._text(v) for v in value)
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        return literal(value)

    # -- graphs inside, and names -----------------------------------------------------------

    def _branch(self, node: fx.Node) -> None:
        """Write a graph inside as a method; it finds the module's own tensors by itself."""
        graph = getattr(self.graph, str(node.target))
        name = f"{self.within}{node.target}"  # a branch may hold branches of the same names
        self.names[node] = f"self.{name}"
        inputs = [n for n in graph.graph.nodes if n.op == "placeholder"]
        given: Any = next(iter(node.users)).args[3]
        own = {n: self.names[v] for n, v in zip(inputs, given, strict=True) if self._own(v)}
        unread = {n: "None" for n in inputs if not n.users}
        inner = Forward(graph, own | unread, self.references, f"{name}_")
        self.inner.append(inner.method(name, lambda r: f"({', '.join(r)},)"))
        self.inner += inner.inner
        self.used |= inner.used

    def _given(self, branch: Any, operands: Any) -> list[str]:
        """Return what a branch is called with: the operands that it reads and cannot find."""
        graph = getattr(self.graph, str(branch.target)).graph
        inputs = [n for n in graph.nodes if n.op == "placeholder"]
        pairs = zip(inputs, operands, strict=True)
        return [self._text(v) for n, v in pairs if n.users and not self._own(v)]

    def _own(self, value: Any) -> bool:
        return isinstance(value, node_type()) and self.names[value].startswith("self.")

    def _take(self, node: fx.Node, near: Iterable[str]) -> str:
        """Give a node a local name that is free, one of `near` where possible."""
        pool = local_names("n" if is_size(node) else "x")
        free = [n for n in near if n not in self._held and (n[0] == "n") == is_size(node)]
        local = [n for n in free if "." not in n]
        name = local[0] if local else next(n for n in pool if n not in self._held)
        self._held[name] = 1
        self.names[node] = name
        return name

    def _release(self, nodes: Iterable[fx.Node]) -> None:
        for node in nodes:
            name = self.names[node]
            if name in self._held:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]
