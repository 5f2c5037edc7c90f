"""PNGs of what a detector finds on an image, beside what is there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from nasx.tasks.boxed import Reals
from nasx.tasks.cache import Bytes
from nasx.tasks.data import Indices

SIDE = 384  # pixels of an image's longer side as drawn
LINE = 26  # pixels of a line of text
SAME = 0.5  # intersection over union from which on it is the object's
SCENES = 4
KEY = "boxes"  # of the PNG's text
RIGHT, WRONG, MISSED = (40, 200, 90), (235, 60, 50), (255, 200, 40)


@dataclass(frozen=True)
class Drawn:
    """Boxes on one image: corners (n, 4) in its pixels, labels (n,), chances (n,)."""

    corners: Reals
    labels: Indices
    chances: Reals


def overlap(a: Reals, b: Reals) -> Reals:
    """Return the intersection over union (n, m) of corners (n, 4) and (m, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(c[:, 2:] - c[:, :2]).prod(1) for c in (a, b)]
    found: Reals = shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-9)
    return found


def matched(found: Drawn, truth: Drawn) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which boxes found, best first, are right, and which objects were found.

    A box is right if the object of its class that it overlaps most, by half at least, was not
    found before.
    """
    right, hit = np.zeros(len(found.labels), bool), np.zeros(len(truth.labels), bool)
    if not len(hit):
        return right, hit
    shared = overlap(found.corners, truth.corners)
    for row in range(len(right)):
        free = np.where(hit | (truth.labels != found.labels[row]), 0, shared[row])
        best = int(free.argmax())
        if free[best] >= SAME:
            right[row] = hit[best] = True
    return right, hit


def sure_from(found: Sequence[Drawn], truth: Sequence[Drawn]) -> float:
    """Return the chance from which on boxes, best first on each image, find most for least wrong.

    That is where F1, 2 right / (boxes + objects), is greatest over all images; 1 where no box is
    right. Networks of short trainings are never sure, and would have no box at a fixed chance.
    """
    right = np.concatenate([matched(f, t)[0] for f, t in zip(found, truth, strict=True)])
    chances = np.concatenate([one.chances for one in found])
    if not right.any():
        return 1.0
    order = np.argsort(-chances, kind="stable")
    objects = sum(len(one.labels) for one in truth)
    scores = right[order].cumsum() / (np.arange(1, len(order) + 1) + objects)
    return float(chances[order][scores.argmax()])


def write_boxes(
    path: Path,
    name: str,
    image: Bytes,
    truth: Drawn,
    found: Drawn,
    classes: Sequence[str],
    least: float,
) -> None:
    """Write an image (H, W, 3) twice: with the boxes found, and with those that are there.

    Boxes count from the chance `least` on.
    Right ones are green, wrong ones red, objects that were missed yellow. What the cells are and
    how many were found stands in the PNG's text under `boxes`.
    """
    sure = found.chances >= least
    chances = found.chances[sure]
    found = Drawn(found.corners[sure], found.labels[sure], chances)
    right, hit = matched(found, truth)
    factor = max(1, SIDE // max(image.shape[:2]))
    said = [f"{classes[c]} {100 * p:.0f}%" for c, p in zip(found.labels, chances, strict=True)]
    answered = [RIGHT if ok else WRONG for ok in right]
    there = [RIGHT if ok else MISSED for ok in hit]
    cells = [
        _panel(image, factor, found.corners, said, answered),
        _panel(image, factor, truth.corners, [classes[c] for c in truth.labels], there),
    ]
    about = {
        "image": name,
        "cells": ["network", "truth"],
        "objects": len(hit),
        "found": int(hit.sum()),
        "wrong": int((~right).sum()),
        "least": least,
    }
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(about))
    Image.fromarray(np.concatenate(cells, axis=1)).save(path, "PNG", pnginfo=text)


def _panel(
    image: Bytes, factor: int, corners: Reals, texts: list[str], colours: list[tuple[int, int, int]]
) -> Bytes:
    high, wide = image.shape[:2]
    size = (wide * factor, high * factor)
    canvas = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(22)
    for box, text, colour in reversed(list(zip(corners * factor, texts, colours, strict=True))):
        x0, y0, x1, y1 = (float(v) for v in box)
        pen.rectangle((x0, y0, x1, y1), outline=colour, width=3)
        width = pen.textlength(text, font=font) + 6
        top = y0 - LINE if y0 >= LINE else min(y1, size[1] - LINE)
        left = max(0.0, min(x0, size[0] - width))
        pen.rectangle((left, top, left + width, top + LINE - 1), fill=colour)
        pen.text((left + 3, top), text, fill=(0, 0, 0), font=font)
    return np.asarray(canvas)
