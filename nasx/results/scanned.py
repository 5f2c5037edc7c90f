"""The scan for latency steps of a run's knee: made once, kept in steps.json, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasx.cost.ties import FLOOR
from nasx.errors import NasxError
from nasx.files import read_json, write_json
from nasx.quantity import count
from nasx.results.front import front
from nasx.results.knee import knee, select
from nasx.results.observed import uses_latency
from nasx.results.quiet import Note
from nasx.results.scan import candidate_of, scan
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run
    from nasx.shape import TaskShape

FILE = "steps.json"  # in the run's folder
HOLDS = {"trial", "macs", "contended", "parts", "left_out", "whole", "snapped"}


def keep_steps(run: Run, shape: TaskShape, note: Note) -> None:
    """Scan the widths around a run's knee, unless that is done, and keep what is found.

    Only where the study asks for latency and the space names parts. It is an extra: what goes
    wrong is said, and costs no result.
    """
    snapshot = run.snapshot()
    if not uses_latency(snapshot.study):
        return
    try:
        chosen = knee(front(snapshot))["trial"]
        if (kept_steps(snapshot) or {}).get("trial") == chosen:
            return
        found = _scan(run, snapshot, chosen, shape, note)
    except Exception as error:
        from nasx.search.evaluate import one_line

        note(f"latency steps: not looked for: {one_line(error)}")
        return
    if found is None:
        (run.path / FILE).unlink(missing_ok=True)  # of a knee that it was before
    else:
        write_json(run.path / FILE, found)
        for sentence in sentences(found):
            note(sentence)


def kept_steps(record: Snapshot) -> dict[str, Any] | None:
    """Return what steps.json of a run holds, or None where there is none or it is torn."""
    found = read_json(record.path / FILE)
    return found if isinstance(found, dict) and found.keys() >= HOLDS else None


def steps(run: Run, which: str | None, note: Note) -> dict[str, Any]:
    """Return the scan around "knee", "best", "smallest" or a trial of the front of a run.

    What the run keeps where it is of that network (or `which` is None); else it is timed now, and
    kept nowhere. NasxError where there is none, or the space names no parts.
    """
    snapshot = run.snapshot()
    kept = kept_steps(snapshot)
    if which is None and kept is None:
        raise NasxError(
            f"{run.path} keeps no latency steps: its study asks for no latency, its space names no "
            f"parts, or its search has not ended; `nasx steps {run.path} knee` looks for them now"
        )
    name = kept["trial"] if which is None and kept else select(front(snapshot), str(which))["trial"]
    if kept and kept["trial"] == name:
        return kept
    from nasx.registry import task

    found = _scan(run, snapshot, name, task(snapshot.study.task).shape, note)
    if found is None:
        space = snapshot.trial(int(name[1:])).space
        raise NasxError(f"{name}: space '{space}' names no parts: write parts(shape) in it")
    return found


def _scan(
    run: Run, snapshot: Snapshot, name: str, shape: TaskShape, note: Note
) -> dict[str, Any] | None:
    number, study = int(name[1:]), snapshot.study
    final = snapshot.finals.get(number)
    return scan(
        candidate_of(snapshot.trial(number)), shape, study.measure,
        trial=name, raw=run.path / "latency.jsonl", note=note, seed=study.search.seed,
        ms=final.latency["median_ms"] if final and final.latency else None,
    )  # fmt: skip


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a scan as rows of a table, one for each part and width."""
    return [
        {
            "part": name,
            "channels": rung["width"],
            "MACs": rung["macs"],
            "ms": rung["ms"],
            "time": "as it is" if rung["width"] == part["width"] else _ratio(rung),
        }
        for name, part in found["parts"].items()
        for rung in part["rungs"]
    ]


def _ratio(rung: Mapping[str, Any]) -> str:
    return _span(*(bound - 1 for bound in rung["ratio"])) if rung["ratio"] else "-"


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return what a scan found: a sentence for all parts together, then one for each."""
    slower = found["whole"] and slower_text(found["trial"], found["whole"])
    said = [*_together(found), *([f"{slower}."] if slower else [])]
    said += [_part(name, part) for name, part in found["parts"].items()]
    if found["left_out"]:
        said.append(f"Not looked at, for there are many parts: {', '.join(found['left_out'])}.")
    return said


def slower_text(name: str, whole: Mapping[str, Any]) -> str | None:
    """Say that a network measures slower than the whole one it was cut from, or return None."""
    if not whole.get("slower"):
        return None
    return (
        f"{name} measures slower than the whole network it was cut from, by "
        f"{_span(whole['low'] - 1, whole['high'] - 1).replace('+', '')} (99 % interval)"
    )


def _part(name: str, part: Mapping[str, Any]) -> str:
    own, up, down = part["width"], part["free_up_to"], part["step_down_to"]
    said = [_flats(part)] if part["flats"] else []
    if up:
        said.append(
            f"{'beside' if said else 'with'} its {own} channels, {up['wide']} would take "
            f"{'less' if up['high'] < -FLOOR else 'no more'} time ({_span(*_widened(up))}) for "
            f"{count(up['macs'])} more MACs"
        )
    if down:
        said.append(
            f"the next step below {own} is at {down['narrow']}: "
            f"{_span(-down['high'], -down['low'])} of time for {count(down['macs'])} fewer MACs"
        )
    if not said:
        widths = [rung["width"] for rung in part["rungs"]]
        said = [f"no step is sure between {min(widths)} and {max(widths)} channels"]
    return f"{name}: {'; '.join(said)}."


def _flats(part: Mapping[str, Any]) -> str:
    """Say where MACs buy no time, the range that holds the part's own width first."""
    own = part["width"]
    ranges = sorted(part["flats"], key=lambda f: (not f["narrow"] <= own <= f["wide"], -f["macs"]))
    first, rest = ranges[0], ranges[1:]
    said = f"{first['narrow']} to {first['wide']} channels take the same time"
    if first["high"] < -FLOOR:
        said = f"{first['narrow']} channels take even more time than {first['wide']}"
    said += f", and the {count(first['macs'])} MACs saved between them buy nothing"
    also = [f"{f['narrow']} to {f['wide']} ({count(f['macs'])})" for f in rest]
    return said + (f"; so too {', '.join(also)}" if also else "")


def _widened(flat: Mapping[str, Any]) -> tuple[float, float]:
    """Return the relative change of time from the narrowest to the widest, its bounds."""
    return 1 / (1 - flat["low"]) - 1, 1 / (1 - flat["high"]) - 1


def _span(low: float, high: float) -> str:
    """Return an interval of relative changes: '-0.4 to +1.2 %'."""
    places = 1 if max(abs(low), abs(high)) < 0.1 else 0
    return f"{100 * low:+.{places}f} to {100 * high:+.{places}f} %"


def _together(found: Mapping[str, Any]) -> list[str]:
    snapped = found["snapped"]
    if not snapped:
        return []
    widths = ", ".join(f"{name} at {width}" for name, width in snapped["widths"].items())
    span = _span(snapped["low"] - 1, snapped["high"] - 1)
    if snapped["slower"]:
        return [
            f"All parts at their useful side ({widths}) take longer together ({span}): the steps "
            "of single parts do not add up."
        ]
    saved = f"{count(snapped['macs'])} MACs"
    if found["whole"] and found["whole"]["macs"] > found["macs"]:
        cut = count(found["whole"]["macs"] - found["macs"])
        saved = f"{count(snapped['macs'])} of the {cut} MACs that were cut"
    return [f"All parts at their useful side ({widths}): {saved} bought no time ({span})."]
