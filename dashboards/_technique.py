"""What the techniques of the front did, side by side: the numbers that their spaces diagnosed.

Bars show numbers of one name, told apart by a number at its end (a share for each level, say), on
one scale. Where no member of the front has any, the page has no such section.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from dashboards._markup import esc, head, section, table
from dashboards._points import Point, cost_axis, knee_number, points, primary, space_name
from nasx.axes import AXES
from nasx.quantity import amount
from nasx.study import Study
from nasx.trial import Snapshot

COLUMNS = 10  # of diagnosed numbers, at most
ROWS = 40
SCALES = (1.0, 100.0)  # shares and percentages fill their bars; other numbers do at the largest
WHY = (
    "What each network of the front says of its technique, on validation samples; the page of the "
    "space in docs/ says what the numbers mean."
)


def technique(record: Snapshot, study: Study) -> str:
    """Return the section with what the front's techniques did, or nothing."""
    members = [p for p in points(record, study) if p.role == "front" and p.trial.diagnosis]
    if not members:
        return ""
    cost, score = cost_axis(study), primary(study)
    members.sort(key=lambda p: p.values.get(cost, math.inf))
    names = list(dict.fromkeys(name for p in members for name in p.trial.diagnosis))
    shown, full = names[:COLUMNS], _scales(members, names[:COLUMNS])
    heads = [head("trial", "")]
    if len(study.spaces) > 1:
        heads.append(head("space", ""))
    axes = [axis for axis in (score, cost) if any(axis in p.values for p in members)]
    heads += [head(AXES[axis].label, "", number=True) for axis in axes]
    heads += [head(name.replace("_", " "), "", number=True) for name in shown]
    knee, rows = knee_number(record), ""
    for p in members[:ROWS]:
        name = f"{p.trial.name}{' (knee)' if p.number == knee else ''}"
        rows += f"<tr><th scope=row>{esc(name)}</th>"
        if len(study.spaces) > 1:
            rows += f"<td>{esc(space_name(p.trial.space))}</td>"
        for axis in axes:
            rows += f'<td class="num">{esc(amount(axis, p.values.get(axis)))}</td>'
        rows += "".join(_cell(p.trial.diagnosis.get(n), full.get(n)) for n in shown) + "</tr>"
    said = [WHY]
    if any(full.values()):
        ends = sorted({f"{top:g}" for top in full.values() if top}, key=float)
        said.append(f"Bars run from 0 to {' or '.join(ends)}.")
    if len(names) > COLUMNS or len(members) > ROWS:
        said.append("The rest stands beside the plot when a network is opened.")
    return section("What the technique did", table(heads, rows, "technique"), " ".join(said))


def _scales(members: Iterable[Point], names: Iterable[str]) -> dict[str, float]:
    """Return where the bar of a name ends, for names that share all but a number at their end."""
    groups: dict[str, list[str]] = {}
    for name in names:
        stem = re.sub(r"\d+$", "", name)
        if stem != name:
            groups.setdefault(stem, []).append(name)
    found: dict[str, float] = {}
    for several in groups.values():
        values = [p.trial.diagnosis[n] for p in members for n in several if n in p.trial.diagnosis]
        if len(several) < 2 or not all(0 <= v < math.inf for v in values):
            continue
        most = max(values)
        end = next((scale for scale in SCALES if most <= scale), most)
        found |= dict.fromkeys(several, end)
    return found


def _cell(value: float | None, full: float | None) -> str:
    if value is None or not math.isfinite(value):
        return '<td class="num">–</td>'
    text = esc(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}")
    if full is None:
        return f'<td class="num">{text}</td>'
    return (
        f'<td class="num">{text}<span class="share">'
        f'<span style="width:{100 * value / full:.1f}%"></span></span></td>'
    )
