"""The page's tables: the front, failures, refusals, and where it all comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from dashboards._data import standing
from dashboards._markup import bound, esc, head, section, table
from dashboards._points import Point, entries, points, primary, space_name
from dashboards._repeats import chance, seeds_text
from dashboards._verdict import standard_error
from nasx.axes import AXES
from nasx.quantity import amount, brief, heading
from nasx.study import Study
from nasx.trial import Rejection, Snapshot, State, Trial

MOST_ROWS = 200  # of a table; all rows are in the data


def front_table(record: Snapshot, study: Study) -> str:
    """Return the front as a table that can be sorted; a row opens the network beside the plot."""
    found = [p for p in points(record, study) if p.role == "front"]
    if not found:
        return section("The front as a table", '<p class="none">The front is empty.</p>')
    score = primary(study)
    sign = -1 if AXES[score].direction == "maximize" else 1
    found.sort(key=lambda p: sign * p.values.get(score, 0.0))
    extra = [a for a in ("macs", "params") if any(a in p.values for p in found)]
    axes = list(dict.fromkeys([*study.objectives, *extra]))
    tested = [a for a in axes if any(a in p.test for p in found)]
    fields = _varying([p.trial for p in found])
    heads = [head("trial", "")]
    if len(study.spaces) > 1:
        heads.append(head("space", ""))
    sure = any(p.membership is not None for p in found)
    if sure:
        heads.append(head("on the front", "probability", number=True))
    for axis in axes:
        heads.append(head(heading(axis), _how(axis, found), number=True))
        if axis in tested:
            heads.append(head(heading(axis), "test", number=True))
    heads += [f'<th scope=col class="field">{esc(f)}</th>' for f in fields]
    rows = "".join(_front_row(p, record, study, axes, tested, fields, sure) for p in found)
    body = table(heads, rows, "sortable") + _slower(record)
    return section("The front as a table", body, "Click a heading to sort, a row to open it.")


def _slower(record: Snapshot) -> str:
    """Say which members measure slower than the whole networks they were cut from."""
    from nasx.results.scanned import slower_text

    said = [slower_text(str(e["trial"]), e.get("whole", {})) for e in entries(record)]
    return "".join(f'<p class="note">{bound(f"{line}.")}</p>' for line in said if line)


def _how(axis: str, found: list[Point]) -> str:
    if AXES[axis].kind == "score":
        return "valid"
    return standing(axis, measured=all(p.measured for p in found))


def _front_row(
    point: Point,
    record: Snapshot,
    study: Study,
    axes: list[str],
    tested: list[str],
    fields: list[str],
    sure: bool,
) -> str:
    cells = [f"<th scope=row>{esc(point.trial.name)}</th>"]
    if len(study.spaces) > 1:
        cells.append(f"<td>{esc(space_name(point.trial.space))}</td>")
    if sure:
        cells.append(_number(point.membership, chance(point.membership)))
    for axis in axes:
        value = point.values.get(axis)
        text = amount(axis, value)
        if axis in point.spread:
            sd, seeds = point.spread[axis]
            text += f" <small>sd {sd:.1f}, {seeds_text(point) or f'{seeds} seeds'}</small>"
        elif point.lost and axis == primary(study):
            text += f" <small>{seeds_text(point)}</small>"
        cells.append(_number(value, text))
        if axis in tested:
            known = point.test.get(axis)
            text = amount(axis, known)
            error = standard_error(axis, known, record, "test") if known is not None else None
            cells.append(_number(known, text + (f" <small>± {error:.1f}</small>" if error else "")))
    for field in fields:
        value = point.trial.candidate.get(field)
        cells.append(f'<td class="field" data-value="{esc(value)}">{esc(plain(value))}</td>')
    return f'<tr data-trial="{point.number}" tabindex="0">{"".join(cells)}</tr>'


def _number(value: float | None, text: str) -> str:
    return f'<td class="num" data-value="{"" if value is None else repr(float(value))}">{text}</td>'


def _varying(trials: list[Trial], most: int = 5) -> list[str]:
    names = dict.fromkeys(name for t in trials for name in t.candidate)
    return [n for n in names if len({repr(t.candidate.get(n)) for t in trials}) > 1][:most]


def plain(value: object) -> str:
    """Return a candidate's value in few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return " ".join(plain(v) for v in value)
    return "–" if value is None else str(value)


def failures(record: Snapshot) -> str:
    """Return the failed trials with their reasons."""
    failed = [t for t in record.trials if t.state is State.FAILED]
    if not failed:
        return section("Failures", '<p class="none">No trial failed.</p>')
    heads = [head("trial", ""), head("reason", ""), head("samples reached", "", number=True),
             head("proposed by", "")]  # fmt: skip
    rows = "".join(
        f"<tr><th scope=row>{esc(t.name)}</th><td>{esc(t.reason or 'no reason recorded')}</td>"
        f'<td class="num">{brief(t.samples) if t.samples else "–"}</td>'
        f"<td>{esc(_proposed(t))}</td></tr>"
        for t in failed[:MOST_ROWS]
    )
    return section("Failures", table(heads, rows), _more(len(failed)))


def _proposed(trial: Trial) -> str:
    if trial.replicate_of is not None:
        return f"replicate of t{trial.replicate_of:04d}, seed {trial.seed}"
    if trial.control_of is not None:
        return f"control of t{trial.control_of:04d}, seed {trial.seed}"
    return trial.origin


def refused(record: Snapshot) -> str:
    """Return the refused candidates by constraint: how many, and by how much they missed."""
    if not record.rejections:
        text = '<p class="none">No candidate was refused before training.</p>'
        return section("Refused before training", text)
    groups: dict[tuple[str, float | None, bool], list[Rejection]] = {}
    for r in record.rejections:
        groups.setdefault((r.constraint, r.limit, r.value is None), []).append(r)
    rows = ""
    for (axis, limit, _), members in sorted(groups.items(), key=lambda x: -len(x[1])):
        values = [r.value for r in members if r.value is not None]
        label = AXES[axis].label if axis in AXES else axis
        bound = "–" if limit is None else amount(axis, limit)
        span = amount(axis, min(values)) if values else "unknown"
        if len(values) > 1:
            span += f" to {amount(axis, max(values))}"
        if axis == "space":  # refused by the space itself: there is no number to miss
            label, bound, span = "what the fields ask together", "–", "–"
        rows += (
            f'<tr><th scope=row>{esc(label)}</th><td class="num">{len(members)}</td>'
            f'<td class="num">{esc(bound)}</td><td class="num">{esc(span)}</td></tr>'
        )
    heads = [head("constraint", ""), head("refused", "", number=True),
             head("limit", "", number=True), head("they had", "", number=True)]  # fmt: skip
    share = len(record.rejections) / (len(record.rejections) + len(record.trials))
    why = f"{100 * share:.0f} % of the new candidates were refused untrained."
    return section("Refused before training", table(heads, rows, "narrow"), why)


def provenance(record: Snapshot, study: Study) -> str:
    """Return everything recorded about where the results come from, and the resolved study."""
    flat = list(_flat(record.provenance, ""))
    rows = "".join(f"<tr><th scope=row>{esc(k)}</th><td>{esc(v)}</td></tr>" for k, v in flat)
    body = table([], rows, "plain") if flat else '<p class="none">None was recorded.</p>'
    resolved = json.dumps(study.resolved(), indent=1, ensure_ascii=False)
    words = "<summary>The study, defaults written out</summary>"
    rest = f"<details>{words}<pre>{esc(resolved)}</pre></details>"
    return section("Where this comes from", body + rest)


def _flat(value: object, path: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{i}")
    elif isinstance(value, list):
        yield path, ", ".join(str(v) for v in value) if value else "–"
    else:
        yield path, "–" if value in (None, "") else str(value)


def export_prefix(record: Snapshot) -> str:
    """Return the command that exports a trial, up to the trial's name."""
    return f"nasx export {shlex.quote(str(record.path))}"


def _more(total: int) -> str:
    return f"The first {MOST_ROWS} of {total}; all are in the data." if total > MOST_ROWS else ""
