"""Crops that the front's networks restored, side by side: input, bicubic, networks, truth.

Trials keep them as PNGs of cells with a description (`nasx.tasks.crops`). Where a task drew none,
the page has no such section.
"""

from __future__ import annotations

import base64
import io
import json
import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dashboards._files import folder
from dashboards._markup import esc, head, section, table
from dashboards._points import cost_axis, knee_number, points, primary
from nasx.axes import AXES
from nasx.quantity import amount
from nasx.study import Study
from nasx.trial import Snapshot, Trial

NETWORKS = 8  # columns of networks, at most
ROWS = 8
LARGEST = 1024  # pixels of a strip's height that is still opened
SHOWN = 144  # pixels of a cell on the page, a multiple of what crops have
WHY = (
    "The same crops of validation photographs for each network of the front, pixels enlarged. "
    "Below each the PSNR of its luma within the crop; the best network of a row is bold."
)

Place = tuple[str, str, int, int]  # head, photograph, top, left


@dataclass(frozen=True)
class Strip:
    """One crop of one network: its cells as data addresses, and their PSNR in dB."""

    place: Place
    cells: dict[str, str]
    psnr: dict[str, float]


def crops(record: Snapshot, study: Study) -> str:
    """Return the section with the crops of the front, or nothing."""
    found = [p for p in points(record, study) if p.role == "front"]
    cost = cost_axis(study)
    found.sort(key=lambda p: p.values.get(cost, math.inf))
    held = {p.number: strips(record, p.trial) for p in found}
    members = [p for p in found if held[p.number]]
    if not members:
        return ""
    all_of_them = len(members)
    if all_of_them > NETWORKS:  # both ends and an even choice between them
        step = (all_of_them - 1) / (NETWORKS - 1)
        members = [members[round(i * step)] for i in range(NETWORKS)]
    knee, score = knee_number(record), primary(study)
    first = held[members[0].number]
    several = len({place[0] for place in first}) > 1
    plain = [n for n in ("input", "bicubic") if any(n in s.cells for s in first.values())]
    heads = [head("crop", "")]
    heads += [head(n, "") for n in plain]
    for p in members:
        below = ", ".join(_known(a, p.values[a]) for a in (score, cost) if a in p.values)
        heads.append(head(f"{p.trial.name}{' (knee)' if p.number == knee else ''}", below))
    heads.append(head("truth", ""))
    rows = "".join(
        _row(strip, plain, [held[p.number].get(place) for p in members], several=several)
        for place, strip in list(first.items())[:ROWS]
    )
    more = f" {len(members)} of {all_of_them} networks are shown." if all_of_them > NETWORKS else ""
    return section("What the networks restore", table(heads, rows, "crops"), WHY + more)


def _known(axis: str, value: float) -> str:
    """Return a value with its unit, or the word for what is counted."""
    counted = AXES[axis].unit in ("", "MAC", "FLOP")
    return f"{amount(axis, value)} {AXES[axis].label}" if counted else amount(axis, value)


def _row(strip: Strip, plain: list[str], networks: list[Strip | None], *, several: bool) -> str:
    name, photograph = strip.place[0], strip.place[1]
    label = f"{esc(photograph)}{f'<small>{esc(name)}</small>' if several else ''}"
    best = max((n.psnr.get("network", -math.inf) for n in networks if n), default=-math.inf)
    cells = [_cell(strip, n, photograph) for n in plain]
    for network in networks:
        value = network.psnr.get("network") if network else None
        shown = (
            _cell(network, "network", photograph, best=value == best) if network else "<td></td>"
        )
        cells.append(shown)
    cells.append(_cell(strip, "truth", photograph))
    return f"<tr><th scope=row>{label}</th>{''.join(cells)}</tr>"


def _cell(strip: Strip, name: str, photograph: str, *, best: bool = False) -> str:
    if name not in strip.cells:
        return "<td></td>"
    value = strip.psnr.get(name)
    text = "" if value is None else f"{value:.2f} dB"
    said = f"<b>{text}</b>" if best else text
    image = f'<img src="{strip.cells[name]}" alt="{esc(f"{photograph}, {name}")}" width={SHOWN}>'
    return f"<td><figure>{image}<figcaption>{said or '&nbsp;'}</figcaption></figure></td>"


def strips(record: Snapshot, trial: Trial) -> dict[Place, Strip]:
    """Return a trial's crops by place; files that are no crops are left out."""
    found = {}
    for path in sorted((folder(record, trial) / "images").glob("*.png")):
        try:
            with Image.open(path) as image:
                about = json.loads(str(getattr(image, "text", {}).get("crop", "")))
                strip = _strip(image, about)
        except (OSError, ValueError, TypeError, KeyError, SyntaxError):
            continue
        if strip is not None:
            found[strip.place] = strip
    return found


def _strip(image: Image.Image, about: dict[str, Any]) -> Strip | None:
    names = [str(n) for n in about["cells"]]
    side = image.height
    if not 0 < side <= LARGEST or image.width != side * len(names):
        return None
    cells = {}
    for i, name in enumerate(names):
        held = io.BytesIO()
        image.crop((i * side, 0, (i + 1) * side, side)).save(held, "PNG")
        cells[name] = f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
    psnr = {str(n): float(v) for n, v in about["psnr"].items() if math.isfinite(float(v))}
    place = (str(about["head"]), str(about["image"]), int(about["top"]), int(about["left"]))
    return Strip(place, cells, psnr)
