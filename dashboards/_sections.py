"""The page's sections as HTML: every text from the record is escaped here."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from dashboards._data import standing
from dashboards._points import Point, points, primary
from dashboards._verdict import Finding, split_size, standard_error
from nasx.axes import AXES
from nasx.quantity import amount, brief, duration, heading
from nasx.study import Study
from nasx.trial import Snapshot, State, Trial

MOST_ROWS = 200  # of a table; all rows are in the data


def esc(value: object) -> str:
    """Return a value as text for HTML, in elements and in attributes."""
    return html.escape(str(value), quote=True)


def bound(sentence: str) -> str:
    """Return a sentence as HTML whose numbers are not parted from their units."""
    return esc(re.sub(r"(?<=[\d±]) (?=[%±\dkMGT×µ]|ms|dB|points)", "\u00a0", sentence))


def header(record: Snapshot, study: Study) -> str:
    """Return the title, the question, and what the run stands on."""
    facts = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>"
        for name, value in _facts(record, study)
        if value
    )
    live = [t for t in record.trials if t.state in (State.RUNNING, State.INTERRUPTED)]
    banner = ""
    if live:
        banner = (
            f'<p class="banner">The search has not ended: {len(live)} '
            f"trial{'s are' if len(live) > 1 else ' is'} unfinished. What follows may change.</p>"
        )
    return (
        f'<header><p class="eyebrow">nasx report</p><h1>{esc(record.name)}</h1>'
        f'<p class="lead">{esc(study.desc)}</p>{banner}<dl class="facts">{facts}</dl></header>'
    )


def _facts(record: Snapshot, study: Study) -> list[tuple[str, str]]:
    provenance = record.provenance
    machine, versions = _dict(provenance.get("machine")), _dict(provenance.get("versions"))
    originals = [t for t in record.trials if t.replicate_of is None]
    twins = len(record.trials) - len(originals)
    states = [t.state for t in originals]
    words = {State.COMPLETE: "full", State.STOPPED: "stopped", State.FAILED: "failed"}
    counts = [f"{states.count(s)} {word}" for s, word in words.items() if s in states]
    trials = f"{len(states)}: {', '.join(counts)}" if counts else str(len(states))
    trials += f"; and {twins} replicates" if twins else ""
    task = study.task if isinstance(study.task, str) else str(study.task.get("name", "task"))
    gpus = machine.get("gpus") or []
    resumes, seconds = provenance.get("resumes", 0), provenance.get("seconds")
    started = str(provenance.get("started", ""))
    measure = study.measure
    shown = ("nasx", "python", "torch", "ray", "optuna", "onnxruntime")
    return [
        ("Space", ", ".join(study.spaces)),
        ("Task", task),
        ("Objectives", ", ".join(f"{w} {AXES[a].label}" for a, w in study.objectives.items())),
        ("Limits", ", ".join(f"{AXES[a].label} {_bound(t)}" for a, t in study.limits().items())),
        ("Trials", trials),
        ("Full training", f"{brief(study.fidelity.full)} samples"),
        ("Started", started[:16].replace("T", " ")),
        ("Wall time", duration(float(seconds)) if isinstance(seconds, int | float) else ""),
        ("Continued", f"{resumes} time{'s' if resumes != 1 else ''}" if resumes else "never"),
        ("Seeds", f"search {study.search.seed}, {study.final.seeds} per front member"),
        ("Machine", ", ".join(str(x) for x in (machine.get("cpu", ""), *gpus) if x)),
        ("Cores", str(machine.get("cores", ""))),
        (
            "Latency",
            f"{measure.runtime}, {measure.device}, batch {measure.batch}, "
            f"{measure.threads} thread{'s' if measure.threads > 1 else ''}",
        ),
        ("Versions", ", ".join(f"{n} {versions[n]}" for n in shown if n in versions)),
        ("Identity", str(provenance.get("identity", ""))),
    ]


def _bound(limit: tuple[str, float]) -> str:
    return f"{'at most' if limit[0] == '<=' else 'at least'} {brief(limit[1])}"


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def verdict(cards: Sequence[Finding], record: Snapshot) -> str:
    """Return the verdict, one card for each finding."""
    if not cards:
        return _section(
            "Verdict",
            '<p class="none">No network has been fully trained within the limits yet.</p>',
        )
    body = "".join(
        f'<article class="finding" data-trial="{card.number}" tabindex="0">'
        f'<p class="label">{esc(card.label)} <span>t{card.number:04d}</span></p>'
        f'<p class="number">{esc(card.headline)} <small>{esc(card.beside)}</small></p>'
        + "".join(f"<p>{bound(s)}</p>" for s in card.sentences)
        + "</article>"
        for card in cards
    )
    size = split_size(record, "test")
    how = (
        f"± is one binomial standard error over {size:,} test images. " if size
        else "The record does not state the size of the test split, so no standard error is given. "
    )  # fmt: skip
    how += "The test split was never used to choose."
    return _section("Verdict", f'<div class="findings">{body}</div><p class="note">{esc(how)}</p>')


def front_table(record: Snapshot, study: Study) -> str:
    """Return the front as a table that can be sorted; a row opens the network beside the plot."""
    found = [p for p in points(record, study) if p.role == "front"]
    if not found:
        return _section("The front as a table", '<p class="none">The front is empty.</p>')
    score = primary(study)
    sign = -1 if AXES[score].direction == "maximize" else 1
    found.sort(key=lambda p: sign * p.values.get(score, 0.0))
    extra = [a for a in ("macs", "params") if any(a in p.values for p in found)]
    axes = list(dict.fromkeys([*study.objectives, *extra]))
    tested = [a for a in axes if any(a in p.test for p in found)]
    fields = _varying([p.trial for p in found])
    heads = [_head("trial", "")]
    if len(study.spaces) > 1:
        heads.append(_head("space", ""))
    for axis in axes:
        heads.append(_head(heading(axis), _how(axis, found), number=True))
        if axis in tested:
            heads.append(_head(heading(axis), "test", number=True))
    heads += [f'<th scope=col class="field">{esc(f)}</th>' for f in fields]
    rows = "".join(_front_row(p, record, study, axes, tested, fields) for p in found)
    table = _table(heads, rows, "sortable")
    return _section("The front as a table", table, "Click a heading to sort, a row to open it.")


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
) -> str:
    cells = [f"<th scope=row>{esc(point.trial.name)}</th>"]
    if len(study.spaces) > 1:
        cells.append(f"<td>{esc(point.trial.space)}</td>")
    for axis in axes:
        value = point.values.get(axis)
        text = amount(axis, value)
        if axis in point.spread:
            sd, seeds = point.spread[axis]
            text += f" <small>sd {sd:.1f}, {seeds} seeds</small>"
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
        return _section("Failures", '<p class="none">No trial failed.</p>')
    heads = [_head("trial", ""), _head("reason", ""), _head("samples reached", "", number=True),
             _head("proposed by", "")]  # fmt: skip
    rows = "".join(
        f"<tr><th scope=row>{esc(t.name)}</th><td>{esc(t.reason or 'no reason recorded')}</td>"
        f'<td class="num">{brief(t.samples) if t.samples else "–"}</td><td>{esc(t.origin)}</td></tr>'
        for t in failed[:MOST_ROWS]
    )
    return _section("Failures", _table(heads, rows), _more(len(failed)))


def refused(record: Snapshot) -> str:
    """Return the refused candidates by constraint: how many, and by how much they missed."""
    if not record.rejections:
        text = '<p class="none">No candidate was refused before training.</p>'
        return _section("Refused before training", text)
    groups: dict[tuple[str, float], list[float]] = {}
    for r in record.rejections:
        groups.setdefault((r.constraint, r.limit), []).append(r.value)
    rows = ""
    for (axis, limit), values in sorted(groups.items(), key=lambda x: -len(x[1])):
        label = AXES[axis].label if axis in AXES else axis
        span = amount(axis, min(values))
        if len(values) > 1:
            span += f" to {amount(axis, max(values))}"
        rows += (
            f'<tr><th scope=row>{esc(label)}</th><td class="num">{len(values)}</td>'
            f'<td class="num">{esc(amount(axis, limit))}</td><td class="num">{esc(span)}</td></tr>'
        )
    heads = [_head("constraint", ""), _head("refused", "", number=True),
             _head("limit", "", number=True), _head("they had", "", number=True)]  # fmt: skip
    share = len(record.rejections) / (len(record.rejections) + len(record.trials))
    why = f"{100 * share:.0f} % of the new candidates were refused by their cost; none of them was trained."
    return _section("Refused before training", _table(heads, rows, "narrow"), why)


def provenance(record: Snapshot, study: Study) -> str:
    """Return everything recorded about where the results come from, and the resolved study."""
    flat = list(_flat(record.provenance, ""))
    rows = "".join(f"<tr><th scope=row>{esc(k)}</th><td>{esc(v)}</td></tr>" for k, v in flat)
    table = _table([], rows, "plain") if flat else '<p class="none">None was recorded.</p>'
    resolved = json.dumps(study.resolved(), indent=1, ensure_ascii=False)
    rest = f"<details><summary>The study, defaults written out</summary><pre>{esc(resolved)}</pre></details>"
    return _section("Where this comes from", table + rest)


def _flat(value: object, path: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield path, ", ".join(str(v) for v in value) if value else "–"
    else:
        yield path, "–" if value in (None, "") else str(value)


def export_prefix(record: Snapshot) -> str:
    """Return the command that exports a trial, up to the trial's name."""
    return f"nasx export {shlex.quote(str(record.path))}"


def _section(title: str, body: str, why: str = "") -> str:
    below = f'<p class="why">{esc(why)}</p>' if why else ""
    return f'<section class="card"><h2>{esc(title)}</h2>{below}{body}</section>'


def _table(heads: list[str], rows: str, kind: str = "") -> str:
    head = f"<thead><tr>{''.join(heads)}</tr></thead>" if heads else ""
    return f'<div class="scroll"><table class="{kind}">{head}<tbody>{rows}</tbody></table></div>'


def _head(label: str, how: str, *, number: bool = False) -> str:
    small = f"<small>{esc(how)}</small>" if how else ""
    return f"<th scope=col{' class=num' if number else ''}>{esc(label)}{small}</th>"


def _more(total: int) -> str:
    return f"The first {MOST_ROWS} of {total}; all are in the data." if total > MOST_ROWS else ""
