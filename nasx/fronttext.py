"""A front in words, as the command line prints it: scores, how sure a place is, controls."""

from __future__ import annotations

from typing import Any

from nasx.printing import table


def front_text(entries: list[dict[str, Any]]) -> str:
    """Return a front as a table, best score first, and a line for whatever was lost."""
    if not entries:
        return "the front is empty: no feasible trial reached full fidelity; --add-trials continues"
    ordered = _best_first(entries)
    return "\n".join([table([_row(e) for e in ordered]), *_lines(ordered)])


def near_text(entries: list[dict[str, Any]]) -> str:
    """Return the candidates close behind a front as a table, the likeliest first."""
    if not entries:
        return (
            "none: no candidate behind the front has a probability of 5 % or more; there are "
            "probabilities only with replicates (final.seeds)"
        )
    return "\n".join([table([_row(e) for e in entries]), *_lines(entries)])


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    row = {"trial": entry["trial"], "space": entry["space"], **entry["objectives"]}
    row |= {f"test {name}": value for name, value in entry["test"].items()}
    if entry["membership"] is not None:
        row |= {"on the front": f"{entry['membership']:.2f}", "seeds": len(entry["seeds"])}
    for name, score in entry.get("control", {}).get("scores", {}).items():
        row[f"{name} - control"] = _difference(score)
    if entry.get("same_as"):
        row["latency like"] = entry["same_as"]
    return row


def _difference(score: dict[str, Any]) -> str:
    text = f"{score['difference']:+.3g}"
    return text if score["low"] is None else f"{text} [{score['low']:+.3g}, {score['high']:+.3g}]"


def _lines(entries: list[dict[str, Any]]) -> list[str]:
    """Say once for each: what failed, who is slower than uncut, and whose cost is a mean."""
    from nasx.results.scanned import slower_text

    lines, without = [], dict[str, list[str]]()
    for entry in entries:
        name, control = entry["trial"], entry.get("control")
        lost = [("", f) for f in entry.get("failed", ())]
        if control and control["reason"]:
            without.setdefault(control["reason"], []).append(name)
        elif control:
            lost += [("its control with ", f) for f in control["failed"]]
        lines += [f"{name}: {whose}seed {f['seed']} failed: {f['reason']}" for whose, f in lost]
        slower = slower_text(name, entry.get("whole", {}))
        lines += [slower] if slower else []
        macs, most = (entry.get("card", {}).get(k, 0) for k in ("macs", "macs_max"))
        if most > macs:
            said = f"{macs:,} MACs are the mean over valid, {most:,} the most"
            lines.append(f"{name}: its work depends on the input: {said}")
    lines += [
        f"{', '.join(names)}: no comparison with a control: {reason}"
        for reason, names in without.items()
    ]
    return lines


def _best_first(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from nasx.axes import AXES
    from nasx.results.knee import primary

    score = primary(entries[0]["objectives"])
    down = AXES[score].direction == "maximize"
    return sorted(entries, key=lambda e: e["objectives"][score], reverse=down)
