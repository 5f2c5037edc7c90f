"""A claim's result written down: text for the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasx.axes import AXES
from nasx.claims.found import Found
from nasx.claims.tables import (
    MINUS,
    arm_cells,
    budgets_said,
    compared_cells,
    further_cells,
    said_beside,
    told_cells,
)
from nasx.errors import NasxError
from nasx.files import write_text
from nasx.printing import table
from nasx.quantity import SYMBOLS, count, digits

WIDE = 400  # characters of a cell that holds a candidate
BESIDE = "no part of the verdict, and not corrected for their number"


def text(found: Found) -> str:
    """Return the result as tables and sentences."""
    parts = [
        f"{found.claim.name}: {found.claim.hypothesis}",
        table(compared_cells(found), WIDE),
        f"verdict: {found.total.verdict}",
        *(f"  {why}" for why in found.total.reasons),
        *_further_text(found),
        "",
        table([arm_cells(arm, found) for arm in found.arms], WIDE),
        *_told_text(found),
        "",
        *_followed(found),
        f"CPU hours: {_hours(found)}",
        *_protocols(found),
    ]
    return "\n".join(parts)


def markdown(found: Found) -> str:
    """Return the result as a page: hypothesis, verdict, tables, machine and command."""
    claim, machine = found.claim, found.provenance.get("machine", {})
    first, second = claim.compare
    reasons = "".join(f"\n* {why}" for why in found.total.reasons)
    versions = found.provenance.get("versions", {})
    parts = [
        f"# {claim.name}: {found.total.verdict}",
        claim.desc,
        f"**Hypothesis.** {claim.hypothesis}",
        f"**Verdict: {found.total.verdict}**, on {_axis(claim.primary)} of the {claim.split} "
        f"split, {first} less {second}, {len(claim.seeds)} seeds, {budgets_said(found)}." + reasons,
        _grid(compared_cells(found)),
        "Interval: 95 %, studentised paired bootstrap over seeds (blocks over all conditions). "
        "Signs: seeds at which the first is above, below, equal.",
        *_further_page(found),
        "## Arms",
        _grid([arm_cells(arm, found) for arm in found.arms]),
        *_told_page(found),
        *_followed(found),
        "## Protocol",
        "\n".join(f"* {line}" for line in _protocols(found)),
        "## How it was made",
        f"```\n{found.command}\n```" if found.command else "",
        f"{machine.get('cores')} x {machine.get('cpu')}, {', '.join(machine.get('flags', []))}; "
        f"torch {versions.get('torch')}, nasx {versions.get('nasx')}; "
        f"begun {found.provenance.get('started')}; CPU hours: {_hours(found)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_text(found: Found) -> str:
    """Return one CSV row for every condition and one for all of them, pair by pair.

    `role` is "claim" for the comparison that decides, "further" for the others.
    """
    claim = found.claim
    rows = []
    for pair in (found.main, *found.also):
        for row in pair.shown:
            f = row.found
            line: dict[str, Any] = {
                "claim": claim.name, "protocol": found.protocol, "condition": row.condition,
                "primary": claim.primary, "split": claim.split, "first": pair.first,
                "second": pair.second, "n": f.n, "mean_first": f.first, "mean_second": f.second,
                "difference": f.mean, "low": f.low, "high": f.high, "more": f.more,
                "fewer": f.fewer, "ties": f.ties,
            }  # fmt: skip
            for axis in claim.matched:
                a, b = row.costs.get(axis, (None, None))
                line |= {f"{axis}_first": a, f"{axis}_second": b}
            line |= {"verdict": row.verdict, "reasons": "; ".join(row.reasons)}
            line |= {"cpu_hours": found.cpu_hours, "samples": row.samples}
            line |= {"role": "claim" if pair is found.main else "further"}
            rows.append({**line, "differ": "; ".join(row.differ)})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def latex(found: Found) -> str:
    """Return the comparison as a LaTeX tabular that needs no package; a second one for `also`."""
    head = f"% {found.claim.name}, protocol {found.protocol}, CPU hours: {_hours(found)}"
    lines = [head, *_tabular(compared_cells(found))]
    if found.also:
        lines += [f"% further comparisons: {BESIDE}", *_tabular(further_cells(found))]
    return "\n".join(lines) + "\n"


def _tabular(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = list(rows[0])
    return [
        rf"\begin{{tabular}}{{l{'r' * (len(names) - 2)}l}}",
        r"\hline",
        " & ".join(_tex(name) for name in names) + r" \\",
        r"\hline",
        *(" & ".join(_tex(row[name]) for name in names) + r" \\" for row in rows),
        r"\hline",
        r"\end{tabular}",
    ]


def write(found: Found, files: Mapping[str, Path | None]) -> None:
    """Write the result to the files named, by form: csv, latex, markdown."""
    for form, file in files.items():
        if file is None:
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, FORMS[form](found))
        except OSError as error:
            raise NasxError(f"{file} cannot be written ({error.strerror}): name another") from error


FORMS: dict[str, Callable[[Found], str]] = {"csv": csv_text, "latex": latex, "markdown": markdown}


def _further_text(found: Found) -> list[str]:
    if not found.also:
        return []
    said = [f"  {line}" for line in said_beside(found)]
    return ["", f"further comparisons, {BESIDE}:", table(further_cells(found), WIDE), *said]


def _further_page(found: Found) -> list[str]:
    if not found.also:
        return []
    n = sum(len(pair.shown) for pair in found.also)
    about = f"Secondary: {BESIDE} ({n} intervals of 95 % each)."
    listed = "\n".join(f"* {line}" for line in said_beside(found))
    return ["## Further comparisons", about, _grid(further_cells(found)), listed]


def _told_text(found: Found) -> list[str]:
    rows = told_cells(found)
    return ["", "told beside the claim, means over seeds:", table(rows, WIDE)] if rows else []


def _told_page(found: Found) -> list[str]:
    rows = told_cells(found)
    about = "Means over seeds, with the least and the most: no part of the verdict."
    return ["## Told beside", about, _grid(rows)] if rows else []


def _followed(found: Found) -> list[str]:
    if not found.front:
        return []
    f = found.front
    listed = ", ".join(
        f"{axis} {at['rho']:+.2f} ({at['low']:+.2f} to {at['high']:+.2f})"
        for axis, at in f["correlations"].items()
    )
    return [
        f"Spearman's correlation with c on the front of {f['run']} ({f['points']} trials within "
        f"one standard error of it, {count(f['macs'][0])} to {count(f['macs'][1])} MACs): {listed}"
    ]


def _protocols(found: Found) -> list[str]:
    """Return every protocol tried in this folder, one line each."""
    lines = []
    for row in found.protocols:
        states = ", ".join(f"{n} {state}" for state, n in row["states"].items()) or "no trial"
        mark = " (this one)" if row["current"] else ""
        lines.append(f"protocol {row['protocol']}{mark}, kept {row['time']}: {states}")
    return lines


def _hours(found: Found) -> str:
    more = " (more than stated)" if found.cpu_hours > found.claim.hours else ""
    return f"{digits(found.cpu_hours, 2)} used, {found.claim.hours:g} stated{more}"


def _axis(name: str) -> str:
    axis = AXES[name]
    return f"{axis.label} ({SYMBOLS.get(axis.unit, axis.unit)})" if axis.unit else axis.label


def _grid(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row.get(n, "")) for n in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tex(word: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "), ("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("#", r"\#"),
        (MINUS, "$-$"),
    ):  # fmt: skip
        word = word.replace(plain, escaped)
    return word
