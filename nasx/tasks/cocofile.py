"""One JSON file of COCO annotations, read and checked: a fault names the file and the annotation.

What COCO's own tools accept is taken as they take it: gaps in the ids of categories, images
without an object, crowd flags, boxes that hang over the border, boxes without area (they are never
found). What would silently be scored wrong, or names nothing, is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.boxed import Reals
from nasx.tasks.data import Indices

Id = int | str


@dataclass(frozen=True)
class Entry:
    """One image of a file: its id, the name of its own file, height and width if they are given."""

    id: Id
    name: str
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Listed:
    """The content of a COCO file; `rows[i]` are the annotations of image i.

    `categories` has names by id, in the order of the ids; `labels` (M,) index that order. `corners`
    (M, 4) are x0, y0, x1, y1 as annotated, `ids` (M,) the annotations' own.
    """

    path: Path
    categories: dict[int, str]
    entries: tuple[Entry, ...]
    rows: tuple[tuple[int, ...], ...]
    labels: Indices
    corners: Reals
    areas: Reals
    crowd: Indices
    ids: tuple[Id, ...]


def read_coco(path: Path) -> Listed:
    """Read and check a file; NasxError where it is no COCO file of boxes, naming what is wrong."""
    content = _content(path)
    categories = _categories(path, content["categories"])
    entries = tuple(_entry(path, number, one) for number, one in enumerate(content["images"]))
    place: dict[Id, int] = {}
    for row, entry in enumerate(entries):
        if place.setdefault(entry.id, row) != row:
            raise NasxError(f"{path}: two images have the id {entry.id!r}; give each its own")
    rows: list[list[int]] = [[] for _ in entries]
    order = {id_: label for label, id_ in enumerate(categories)}
    seen: set[Id] = set()
    found: list[tuple[int, tuple[float, ...], float, int, Id]] = []
    for number, one in enumerate(content["annotations"]):
        where = f"{path}: annotation number {number + 1}"
        if not isinstance(one, dict) or not isinstance(one.get("id"), int | str):
            raise NasxError(f"{where} has no id; every annotation needs one of its own")
        where = f"{path}: annotation {one['id']!r}"
        if one["id"] in seen:
            raise NasxError(f"{where} is there twice: COCO's tools would score one of them twice")
        seen.add(one["id"])
        if not isinstance(one.get("image_id"), int | str) or one["image_id"] not in place:
            raise NasxError(f"{where} is of image {one.get('image_id')!r}, which is not listed")
        if not isinstance(one.get("category_id"), int) or one["category_id"] not in order:
            said = f"is of category {one.get('category_id')!r}, which is not listed"
            raise NasxError(f"{where} {said}")
        rows[place[one["image_id"]]].append(len(found))
        found.append((order[one["category_id"]], *_box(where, one), one["id"]))
    return Listed(
        path=path,
        categories=categories,
        entries=entries,
        rows=tuple(map(tuple, rows)),
        labels=np.array([one[0] for one in found], np.int64),
        corners=np.array([one[1] for one in found], np.float64).reshape(-1, 4),
        areas=np.array([one[2] for one in found], np.float64),
        crowd=np.array([one[3] for one in found], np.int64),
        ids=tuple(one[4] for one in found),
    )


def read_categories(path: Path) -> dict[int, str]:
    """Return the category names of a file by id, in the order of the ids."""
    return _categories(path, _content(path)["categories"])


def _content(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NasxError(f"{path} cannot be read ({error.strerror})") from error
    except ValueError as error:  # no JSON, or no text
        raise NasxError(f"{path} is no JSON file ({error})") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise NasxError(f"{path} is no file of COCO annotations: it has no list '{key}'")
    found: dict[str, list[Any]] = content
    return found


def _categories(path: Path, listed: list[Any]) -> dict[int, str]:
    names: dict[int, str] = {}
    for one in listed:
        if not isinstance(one, dict) or not _whole(one.get("id")):
            raise NasxError(f"{path}: a category has no whole number as its id: {str(one)[:80]}")
        if one["id"] in names:
            raise NasxError(f"{path}: two categories have the id {one['id']}; give each its own")
        names[one["id"]] = str(one.get("name", one["id"]))
    if not names:
        raise NasxError(f"{path}: there is no category; a detector needs at least one")
    return dict(sorted(names.items()))


def _entry(path: Path, number: int, one: Any) -> Entry:
    known = isinstance(one, Mapping) and isinstance(one.get("id"), int | str)
    if not known or not isinstance(one.get("file_name"), str) or not one["file_name"]:
        raise NasxError(f"{path}: image number {number + 1} has no id or no file_name")
    high, wide = one.get("height"), one.get("width")
    size = (int(high), int(wide)) if _whole(high) and _whole(wide) else None
    return Entry(one["id"], one["file_name"], size)


def _box(where: str, one: Mapping[str, Any]) -> tuple[tuple[float, ...], float, int]:
    """Return corners, area and crowd flag of an annotation."""
    box, crowd = one.get("bbox"), one.get("iscrowd", 0)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
        raise NasxError(f"{where} has the bbox {box!r}; wanted four numbers: x, y, width, height")
    x, y, wide, high = map(float, box)
    if wide < 0 or high < 0:
        raise NasxError(f"{where} has a bbox {wide:g} wide and {high:g} high; mend or remove it")
    if crowd not in (0, 1):
        raise NasxError(f"{where} has iscrowd {crowd!r}; wanted 0 or 1")
    area = one.get("area", wide * high)
    if not _finite(area) or area < 0:
        raise NasxError(f"{where} has the area {area!r}; wanted a number of square pixels")
    return (x, y, x + wide, y + high), float(area), int(crowd)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
