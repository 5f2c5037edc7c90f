"""The report: one HTML file with everything in it, to be opened anywhere, offline.

It reads the record alone. The figures are those of `dashboards/`; Plotly's script is inlined once
and may load nothing (a content security policy says so to the browser).
"""

from __future__ import annotations

import errno
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.files import write_text
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from types import ModuleType

    from nasx.run import Run

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)


def report(run: Run | Snapshot | Path | str, out: Path | str | None = None) -> Path:
    """Write the report of a run as one offline HTML file and return its path.

    `out` defaults to report.html in the run folder. Raises NasxError when there is no run or the
    file cannot be written.
    """
    from nasx.run import snapshot_of

    record = snapshot_of(run)
    path = Path(out) if out is not None else record.path / "report.html"
    text = page(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        if error.errno == errno.ENOSPC:  # the command line has its own word on a full disk
            raise
        raise NasxError(
            f"{path} cannot be written ({error.strerror}); name another file with --out"
        ) from error
    return path


def page(record: Snapshot) -> str:
    """Return the whole page as text."""
    from plotly.offline import get_plotlyjs

    from dashboards import _boxes as boxes
    from dashboards import _crops as crops
    from dashboards import _opening as opening
    from dashboards import _repeats as repeats
    from dashboards import _sections as sections
    from dashboards import _technique as technique
    from dashboards._data import page_data
    from dashboards._markup import esc
    from dashboards._points import points
    from dashboards._verdict import findings
    from nasx.registry import figures

    study = record.study
    data, found = page_data(record, study), points(record, study)
    drawn = {m.__name__.rpartition(".")[2]: m for m in figures() if _applies(m, record)}
    front = drawn.pop("pareto")
    body = [
        opening.header(record, study),
        opening.verdict(findings(record, study), record),
        opening.cautions(record),
        _front(front, record, data),
        sections.front_table(record, study),
        crops.crops(record, study),
        boxes.boxes(record, study),
        technique.technique(record, study),
        repeats.contenders(found, study),
        repeats.controls(found, study),
        f'<div class="grid">{_grid(drawn, record)}</div>',
        sections.failures(record),
        sections.refused(record),
        sections.provenance(record, study),
        _download(record),
    ]
    export = esc(sections.export_prefix(record))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{esc(record.name)}: nasx report</title>"
        f"<style>{part('report.css')}</style></head><body><main>"
        f"{''.join(body)}</main>"
        f'<script type="application/json" id="data" data-export="{export}">{script(data)}</script>'
        f"<script>{get_plotlyjs()}</script><script>{part('report.js')}</script></body></html>\n"
    )


def part(name: str) -> str:
    """Return a style sheet or script of `dashboards/`."""
    return (files("dashboards") / name).read_text(encoding="utf-8")


def script(value: Any) -> str:
    """Return JSON that can stand inside a script element: no tag, entity or line end in it."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def finite(value: Any) -> Any:
    """Return JSON values with None for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _front(module: ModuleType, record: Snapshot, data: dict[str, Any]) -> str:
    """Return the front with its pickers, and the pane that shows one network."""
    from dashboards._markup import esc

    plot, note = _plot("pareto", module, record)
    if "<script" not in plot:
        return f'<section class="card"><h2>{esc(module.TITLE)}</h2>{plot}</section>'

    def options(chosen: str) -> str:
        return "".join(
            f'<option value="{esc(a)}"{" selected" if a == chosen else ""}>'
            f"{esc(data['axes'][a]['label'])}</option>"
            for a in data["usable"]
        )

    several = len(record.study.objectives) > 2
    goals = f"all {len(record.study.objectives)} objectives" if several else "both objectives"
    return (
        f'<section class="card"><h2>{esc(module.TITLE)}</h2><p class="why">{esc(module.WHY)} '
        f"Large points are the front of {goals}. Click a point to open it.</p>"
        f'<div class="pickers"><label>Across <select id="axis-x">{options(data["x"])}</select>'
        f'</label><label>Up <select id="axis-y">{options(data["y"])}</select></label>'
        '<label><input type="checkbox" id="show-stopped"> trials stopped early</label></div>'
        f'<div class="front"><div>{plot}{note}</div>'
        '<aside class="pane" id="pane" aria-live="polite">'
        '<p class="none">Click a point to see its network.</p></aside></div></section>'
    )


def _applies(module: ModuleType, record: Snapshot) -> bool:
    """Say whether a figure belongs on this page; one that does not say always does."""
    return not hasattr(module, "applies") or bool(module.applies(record))


def _grid(drawn: dict[str, ModuleType], record: Snapshot) -> str:
    """Return the figures two abreast; the last of an odd number takes the whole row."""
    narrow = [name for name, module in drawn.items() if not getattr(module, "WIDE", False)]
    alone = narrow[-1] if len(narrow) % 2 else ""
    return "".join(
        _card(name, module, record, wide=name not in narrow or name == alone)
        for name, module in drawn.items()
    )


def _card(name: str, module: ModuleType, record: Snapshot, *, wide: bool) -> str:
    from dashboards._markup import esc

    plot, note = _plot(name, module, record)
    why = f'<p class="why">{esc(module.WHY)}</p>'
    kind = "card wide" if wide else "card"
    return f'<section class="{kind}"><h2>{esc(module.TITLE)}</h2>{why}{plot}{note}</section>'


def _plot(name: str, module: ModuleType, record: Snapshot) -> tuple[str, str]:
    """Return a figure as its place and its JSON, or its sentence when there is nothing to draw."""
    from dashboards._markup import bound, esc

    drawn = json.loads(module.figure(record, record.study).to_json())
    meta = drawn["layout"].pop("meta", None) or {}
    if "empty" in meta:
        return f'<p class="none">{esc(meta["empty"])}</p>', ""
    height = int(drawn["layout"].get("height", 340))
    place = f"plot-{name}"
    plot = (
        f'<div class="plot" id="{esc(place)}" style="height:{height}px"></div>'
        f'<script type="application/json" class="figure" data-plot="{esc(place)}">'
        f"{script(drawn)}</script>"
    )
    lines = meta["note"].splitlines() if "note" in meta else []
    return plot, "".join(f'<p class="note">{bound(line)}</p>' for line in lines)


def _download(record: Snapshot) -> str:
    count = len(record.trials)
    return (
        '<section class="card"><h2>The data behind this page</h2><p class="why">All '
        f"{count} trials with their candidates, scores, costs, curves and reasons, as one JSON "
        'file.</p><p class="below"><button type="button" id="download">Download JSON</button></p>'
        "</section>"
    )
