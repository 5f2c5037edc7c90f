"""What commands print and read: JSON, plain tables, quantities such as 5M."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nasx.errors import NasxError

FACTOR = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
WIDEST = 60  # characters of one cell


def emit(value: Any) -> None:
    """Print one JSON value on stdout; numbers that JSON has no word for become null."""
    import json

    click.echo(json.dumps(_finite(value), indent=1, ensure_ascii=False))


def table(rows: Sequence[Mapping[str, Any]], widest: int = WIDEST) -> str:
    """Return rows as aligned columns under their keys; numbers stand on the right.

    A cell longer than `widest` characters is cut.
    """
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[cell(row.get(name), widest) for name in names] for row in rows]
    right = [all(_is_number(r.get(name)) for r in rows) for name in names]
    wide = [max(len(c[i]) for c in [names, *cells]) for i in range(len(names))]
    lines = []
    for line in [names, *cells]:
        parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, wide, right, strict=True)]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def cell(value: Any, widest: int = WIDEST) -> str:
    """Return one value as short text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    if isinstance(value, Mapping):
        value = " ".join(f"{k}={cell(v)}" for k, v in value.items())
    text = " ".join(str(value).split())
    return text if len(text) <= widest else text[: widest - 1] + "…"


def quantities(text: str) -> list[int]:
    """Read "5M,10M,400k" as whole numbers."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmg]?)\s*", part.lower())
        if not match:
            raise NasxError(f"'{part.strip()}' is not a quantity: write it as 5M, 400k or 5000000")
        found.append(round(float(match[1]) * FACTOR[match[2]]))
    return found


def assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Read "field=value" texts, the values in YAML."""
    from nasx.yamlmarks import parse

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        read = parse(value)
        if not sign or not name.strip() or read.faults:
            raise NasxError(f"--set {text}: write it as field=value")
        found[name.strip()] = read.value
    return found


def first_sentence(text: str) -> str:
    """Return the first line of a docstring."""
    return text.strip().partition("\n")[0]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if value is None or isinstance(value, str | int):
        return value
    return value.item() if hasattr(value, "item") else str(value)
