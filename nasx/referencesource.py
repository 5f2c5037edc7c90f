"""Write the reference of an operator into a file that stands alone."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import textwrap
from types import CodeType
from typing import Any

from nasx.errors import NasxError
from nasx.modelspelling import wrapped
from nasx.operators import Reference

# What the file has under these names, and what must stand under them where the function is from.
KNOWN = {"torch": "torch", "F": "torch.nn.functional", "nn": "torch.nn", "math": "math"}


def reference_source(operator: str, reference: Reference, schema: Any = None) -> str:
    """Return the source of a reference as a function named like its operator, without annotations.

    `schema` is the operator's own: parameters must carry its names and defaults. NasxError for a
    function that needs more than torch, F (torch.nn.functional), nn and math, or has no source.
    """
    node, lines = _parsed(operator, reference)
    _drop_annotations(node, lines)
    name = operator.rpartition(":")[2]
    if schema is not None:
        _demand_signature(operator, reference, schema)
    arguments = _bare(node.args)
    first = node.body[0]
    start = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", ()))]) - 1
    if node.lineno - 1 == start:
        raise NasxError(f"the reference of {operator}: put its body on lines of its own")
    head = wrapped(f"def {name}", "", [arguments]) if arguments else [f"def {name}()"]
    head[-1] += ":"
    body = textwrap.dedent("\n".join(lines[start : node.end_lineno])).splitlines()
    text = "\n".join([*head, *(f"    {line}" if line.strip() else "" for line in body)]) + "\n"
    _demand_alone(operator, reference, text)
    return text


def needs_math(source: str) -> bool:
    """Return whether a function uses the module math."""
    return "math" in _globals(_compiled(source))


def _parsed(operator: str, reference: Reference) -> tuple[ast.FunctionDef, list[str]]:
    try:
        text = textwrap.dedent(inspect.getsource(reference))
        node = ast.parse(text).body[0]
    except (OSError, TypeError, SyntaxError, IndexError) as error:
        raise NasxError(
            f"the reference of {operator} has no source that can be written down: make it a "
            "function of a file, defined with def"
        ) from error
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        raise NasxError(f"the reference of {operator} must be a plain function without decorators")
    return node, text.splitlines()


def _drop_annotations(function: ast.FunctionDef, lines: list[str]) -> None:
    """Turn `y: Tensor = ...` into `y = ...` in the source lines, last first."""
    found = [n for n in ast.walk(function) if isinstance(n, ast.AnnAssign) and n.value is not None]
    for one in sorted(found, key=lambda n: -n.lineno):
        end = one.annotation.end_lineno
        if end == one.lineno:
            line = lines[end - 1].encode()
            kept = line[: one.target.end_col_offset] + line[one.annotation.end_col_offset :]
            lines[end - 1] = kept.decode()


def _bare(arguments: ast.arguments) -> str:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for one in (*every, arguments.vararg, arguments.kwarg):
        if one is not None:
            one.annotation = None
    return ast.unparse(arguments)


def _demand_signature(operator: str, reference: Reference, schema: Any) -> None:
    """Refuse parameters that a call by the operator's names and defaults would miss."""
    own = list(inspect.signature(reference).parameters.values())
    wanted = [a.name for a in schema.arguments]
    if [p.name for p in own] != wanted:
        raise NasxError(
            f"the reference of {operator} takes ({', '.join(p.name for p in own)}), its operator "
            f"({', '.join(wanted)}): give both the same parameters"
        )
    for parameter, argument in zip(own, schema.arguments, strict=True):
        if argument.has_default_value() and not _alike(parameter.default, argument.default_value):
            raise NasxError(
                f"the reference of {operator}: parameter '{parameter.name}' must have the "
                f"operator's default, {argument.default_value!r}"
            )


def _alike(a: Any, b: Any) -> bool:
    both = (a, b)
    return bool(list(a) == list(b) if all(isinstance(v, list | tuple) for v in both) else a == b)


def _demand_alone(operator: str, reference: Reference, text: str) -> None:
    free = sorted(_globals(_compiled(text)) - {operator.rpartition(":")[2]})
    own = getattr(reference, "__globals__", {})
    for name in free:
        if name in KNOWN and getattr(own.get(name), "__name__", None) == KNOWN[name]:
            continue
        if name not in own and hasattr(builtins, name):
            continue
        raise NasxError(
            f"the reference of {operator} uses '{name}': it must stand alone, with torch, "
            "F (torch.nn.functional), nn and math as its only names from outside"
        )


def _compiled(text: str) -> CodeType:
    # Without this file's own future imports: there, annotations would read no names.
    return compile(text, "reference", "exec", dont_inherit=True)


def _globals(code: CodeType) -> set[str]:
    """Return the global names that code, and the functions inside it, read."""
    found = {
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _globals(constant)
    return found
