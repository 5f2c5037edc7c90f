"""Crops of what a network restores, side by side: input, bicubic, its answer, the truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from nasx.tasks.cache import Bytes
from nasx.tasks.degrade import Degradation
from nasx.tasks.fidelity import luma, psnr

SIDE = 72  # pixels of a crop; 2, 3 and 4 divide it
STEP = 24  # pixels between the places that are looked at
EACH = 2  # crops of one photograph, at most
KEY = "crop"  # of the PNG's text


@dataclass(frozen=True)
class Crop:
    """A window of SIDE pixels at (top, left) of a photograph, spoilt by one degradation."""

    head: Degradation
    photograph: int
    top: int
    left: int


def choose(
    truths: Sequence[Sequence[tuple[int, Bytes]]], heads: Sequence[Degradation], k: int
) -> list[Crop]:
    """Return up to k windows full of detail, the same whichever network is shown.

    `truths` has, for each head, some photographs with their numbers. All heads and photographs
    come before any gets a second window.
    """
    found: list[Crop] = []
    for rank in range(EACH):
        longest = max((len(held) for held in truths), default=0)
        for place in range(longest):
            for head, held in zip(heads, truths, strict=True):
                if place < len(held):
                    number, image = held[place]
                    windows = detailed(image, rank + 1)
                    if rank < len(windows):
                        found.append(Crop(head, number, *windows[rank]))
    return found[:k]


def detailed(image: Bytes, count: int) -> list[tuple[int, int]]:
    """Return (top, left) of the windows of an image (H, W, 3) whose pixels differ most.

    Windows do not overlap; fewer than `count` where no more fit.
    """
    height, width = (side // 12 * 12 for side in image.shape[:2])  # there at every scale
    grey = image[:height, :width].mean(2)
    if height < SIDE or width < SIDE:
        return []
    change = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey, axis=1))[1:]
    total = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    span = SIDE - 1
    rows, columns = range(0, height - SIDE + 1, STEP), range(0, width - SIDE + 1, STEP)
    places = [
        (
            total[t + span, lf + span] - total[t, lf + span] - total[t + span, lf] + total[t, lf],
            t,
            lf,
        )
        for t in rows
        for lf in columns
    ]
    chosen: list[tuple[int, int]] = []
    for _, top, left in sorted(places, reverse=True):
        if all(abs(top - t) >= SIDE or abs(left - lf) >= SIDE for t, lf in chosen):
            chosen.append((top, left))
        if len(chosen) == count:
            break
    return chosen


def write_strip(
    path: Path, crop: Crop, name: str, spoilt: Bytes, answer: Bytes, truth: Bytes
) -> None:
    """Write one crop of whole images as a PNG of square cells, left to right.

    What the cells are, and the PSNR of Y within each, stands in the PNG's text under `crop`.
    """
    head = crop.head
    true = _window(truth, crop, 1)
    small = _window(spoilt, crop, head.scale)
    cells = [("input", small.repeat(head.scale, 0).repeat(head.scale, 1))]
    if head.scale > 1:
        cells.append(("bicubic", _window(head.untouched(spoilt), crop, 1)))
    cells += [("network", _window(answer, crop, 1)), ("truth", true)]
    scored = [n for n, _ in cells if n != "truth" and (n != "input" or head.scale == 1)]
    about = {
        "head": head.name,
        "image": name,
        "top": crop.top,
        "left": crop.left,
        "cells": [n for n, _ in cells],
        "psnr": {n: _psnr(image, true) for n, image in cells if n in scored},
    }
    text = PngImagePlugin.PngInfo()
    text.add_text(KEY, json.dumps(about))
    strip = np.concatenate([image for _, image in cells], axis=1)
    Image.fromarray(strip).save(path, "PNG", pnginfo=text)


def _window(image: Bytes, crop: Crop, scale: int) -> Bytes:
    top, left, side = crop.top // scale, crop.left // scale, SIDE // scale
    return image[top : top + side, left : left + side]


def _psnr(image: Bytes, truth: Bytes) -> float:
    x, y = (luma(torch.from_numpy(i.astype(np.float32)).permute(2, 0, 1)) for i in (image, truth))
    return psnr(x, y)
