"""Scenes with the boxes that the front's networks found, beside what is there.

Trials keep them as PNGs of two cells with a description (`nasx.tasks.boxpictures`). Where a task
drew none, the page has no such section.
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

NETWORKS = 6  # columns of networks, at most
ROWS = 4
LARGEST = 2048  # pixels of a picture's side that is still opened
SHOWN = 192  # pixels of a cell on the page
WHY = (
    "The same validation images for each network of the front. Green boxes are right: so is their "
    "class, and they overlap the object by half at least. Red ones are wrong. Of the true boxes, "
    "yellow ones were missed by the first network shown. A network's boxes count from the chance "
    "on at which its F1 over all validation images is best."
)


@dataclass(frozen=True)
class Picture:
    """One image of one network: its cells as data addresses, and what was counted on it."""

    image: str
    cells: dict[str, str]
    objects: int
    found: int
    wrong: int


def boxes(record: Snapshot, study: Study) -> str:
    """Return the section with the boxes that the front found, or nothing."""
    members = [p for p in points(record, study) if p.role == "front"]
    cost = cost_axis(study)
    members.sort(key=lambda p: p.values.get(cost, math.inf))
    held = {p.number: pictures(record, p.trial) for p in members}
    members = [p for p in members if held[p.number]]
    if not members:
        return ""
    all_of_them = len(members)
    if all_of_them > NETWORKS:  # both ends and an even choice between them
        step = (all_of_them - 1) / (NETWORKS - 1)
        members = [members[round(i * step)] for i in range(NETWORKS)]
    knee, score = knee_number(record), primary(study)
    heads = [head("image", "")]
    for p in members:
        below = ", ".join(_known(a, p.values[a]) for a in (score, cost) if a in p.values)
        heads.append(head(f"{p.trial.name}{' (knee)' if p.number == knee else ''}", below))
    heads.append(head("truth", ""))
    first = held[members[0].number]
    rows = "".join(
        _row(picture, [held[p.number].get(name) for p in members])
        for name, picture in list(first.items())[:ROWS]
    )
    more = f" {len(members)} of {all_of_them} networks are shown." if all_of_them > NETWORKS else ""
    return section("What the networks find", table(heads, rows, "crops boxes"), WHY + more)


def _known(axis: str, value: float) -> str:
    counted = AXES[axis].unit in ("", "MAC", "FLOP", "%")
    return f"{amount(axis, value)} {AXES[axis].label}" if counted else amount(axis, value)


def _row(first: Picture, networks: list[Picture | None]) -> str:
    cells = []
    for one in networks:
        if one is None:
            cells.append("<td></td>")
            continue
        wrong = f", {one.wrong} wrong" if one.wrong else ""
        cells.append(_cell(one, "network", f"{one.found} of {one.objects} found{wrong}"))
    cells.append(_cell(first, "truth", f"{first.objects} objects"))
    return f"<tr><th scope=row>{esc(first.image)}</th>{''.join(cells)}</tr>"


def _cell(picture: Picture, name: str, said: str) -> str:
    alt = esc(f"{picture.image}, {name}: {said}")
    image = f'<img src="{picture.cells[name]}" alt="{alt}" width={SHOWN}>'
    return f"<td><figure>{image}<figcaption>{esc(said)}</figcaption></figure></td>"


def pictures(record: Snapshot, trial: Trial) -> dict[str, Picture]:
    """Return a trial's pictures by image; files that are none are left out."""
    found = {}
    for path in sorted((folder(record, trial) / "images").glob("*.png")):
        try:
            with Image.open(path) as image:
                about = json.loads(str(getattr(image, "text", {}).get("boxes", "")))
                picture = _picture(image, about)
        except (OSError, ValueError, TypeError, KeyError, SyntaxError):
            continue
        if picture is not None:
            found[picture.image] = picture
    return found


def _picture(image: Image.Image, about: dict[str, Any]) -> Picture | None:
    names = [str(n) for n in about["cells"]]
    if set(names) != {"network", "truth"} or max(image.size) > LARGEST or image.width % 2:
        return None
    wide = image.width // 2
    cells = {}
    for i, name in enumerate(names):
        held = io.BytesIO()
        image.crop((i * wide, 0, (i + 1) * wide, image.height)).save(held, "PNG")
        cells[name] = f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
    counts = (int(about[n]) for n in ("objects", "found", "wrong"))
    return Picture(str(about["image"]), cells, *counts)
