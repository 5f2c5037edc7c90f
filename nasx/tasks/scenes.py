"""Digit scenes: one to six handwritten digits of four sizes on a photograph, to be found.

Composed from real digit crops (scikit-learn) and real photographs (scikit-learn, scikit-image), all
read from the installed packages; docs/data.md names the photographers' terms. No digit and no
photograph occurs in two splits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from PIL import Image

from nasx.tasks.base import Split, Task
from nasx.tasks.boxed import Boxed, BoxedData, Reals
from nasx.tasks.boxsizes import SizeBin
from nasx.tasks.boxvary import Vary
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.data import SPLITS, Indices
from nasx.tasks.detect import Detect
from nasx.tasks.digits import CLASSES, digit_parts, handwritten
from nasx.tasks.options import whole
from nasx.tasks.photos import INK, PHOTOS, SMOOTH, WIDEST, enlarging, photograph

NAME = "digit-scenes"
SIDE = 96  # pixels of an image
SCALES = (14, 20, 34, 56)  # pixels of a digit's 8x8 cell as drawn, give or take SPREAD of it
SPREAD = 0.15
LARGE = 2  # scales that are left in every second scene, the largest ones
MOST = 6  # digits of a scene
TRIES = 12  # places that are tried for a digit
APART = 0.05  # intersection over union that two boxes may have
COVER = 0.25  # of a pixel by ink, from where on it belongs to the box
STRIDES = (4, 8, 16)
SEEDS: dict[Split, int] = {"train": 9600, "valid": 9601, "test": 9602}
LIMIT = 50_000  # images in one split
COMPOSITION = 2  # raise it when the rule below changes: cached images are then made again
# Our own bins, by the square root of a box's area: those of COCO suit images of 640 pixels.
BINS = (
    SizeBin("ap_under_16px", 0, 16),
    SizeBin("ap_16_to_32px", 16, 32),
    SizeBin("ap_over_32px", 32, None),
)


@dataclass(frozen=True)
class Digit:
    """One digit of a scene: which one, its cell's place and size, its ink, its box in pixels."""

    digit: int
    label: int
    row: int
    column: int
    size: int
    ink: tuple[float, float, float]
    box: tuple[int, int, int, int]  # x0, y0, x1, y1


@dataclass(frozen=True)
class Scene:
    """What an image is made of before a pixel is drawn: a square of a photograph, and digits."""

    photo: str
    top: int
    left: int
    crop: int
    mirror: bool
    digits: tuple[Digit, ...]


def scene(split: Split, number: int) -> Scene:
    """Draw what one scene is made of; it depends on the split and its number alone.

    Scenes of odd number have large digits only.
    """
    draw = np.random.default_rng([SEEDS[split], number]).random
    names = PHOTOS[split]
    photo = names[int(draw() * len(names))]
    height, width = photograph(photo).shape[:2]
    crop = SIDE + int(draw() * (min(min(height, width) // 2, WIDEST) - SIDE + 1))
    top, left = int(draw() * (height - crop + 1)), int(draw() * (width - crop + 1))
    mirror = bool(draw() < 0.5)
    scales = SCALES[-LARGE:] if number % 2 else SCALES
    labels, pool = handwritten()[1], digit_parts()[split]
    found: list[Digit] = []
    for _ in range(1 + int(draw() * MOST)):
        uniform = draw(6)
        digit = int(pool[int(uniform[0] * len(pool))])
        size = round(scales[int(uniform[1] * len(scales))] * (1 + SPREAD * (2 * uniform[2] - 1)))
        x0, y0, x1, y1 = ink_box(digit, size)
        ink = (float(uniform[3]), float(uniform[4]), float(uniform[5]))
        for down, right in draw((TRIES, 2)):
            # Where the ink lies within the image; the rest of its cell may hang over the border.
            row, column = (
                int(down * (SIDE - y1 + y0 + 1)) - y0,
                int(right * (SIDE - x1 + x0 + 1)) - x0,
            )
            box = (column + x0, row + y0, column + x1, row + y1)
            if all(_overlap(box, other.box) <= APART for other in found):
                label = int(labels[digit])
                found.append(Digit(digit, label, row, column, size, ink, box))
                break
    return Scene(photo, top, left, crop, mirror, tuple(found))


@functools.cache
def cover(digit: int, size: int) -> Reals:
    """Return how far ink covers each pixel (size, size) of a digit's cell, in [0, 1]."""
    # Double precision, as in digits on photographs: the same pixels on every processor.
    weights = enlarging(size)
    plain: Reals = handwritten()[0][digit].astype(np.float64) / 255
    whole: Reals = (weights @ plain @ weights.T).clip(0, 1)
    return whole


@functools.cache
def ink_box(digit: int, size: int) -> tuple[int, int, int, int]:
    """Return the box x0, y0, x1, y1 of a digit's ink within its cell."""
    rows, columns = np.nonzero(cover(digit, size) > COVER)
    ends = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return int(ends[0]), int(ends[1]), int(ends[2]), int(ends[3])


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (both - wide * high)


def compose(made: Scene, out: Bytes) -> None:
    """Draw one scene into `out` (96, 96, 3).

    Ink is light where the photo under it is dark, and dark where that is light.
    """
    box = (made.left, made.top, made.left + made.crop, made.top + made.crop)
    source = Image.fromarray(photograph(made.photo))
    ground = np.asarray(source.resize((SIDE, SIDE), SMOOTH, box=box, reducing_gap=1.0))
    pixels = ground[:, :: -1 if made.mirror else 1].astype(np.float64)
    for one in made.digits:
        top, left = max(one.row, 0), max(one.column, 0)
        place = pixels[top : one.row + one.size, left : one.column + one.size]
        part = cover(one.digit, one.size)[top - one.row :, left - one.column :]
        share = part[: place.shape[0], : place.shape[1], None]
        ink = np.array(one.ink) * INK
        light = (place * share).sum() > 127 * 3 * share.sum()
        colour = ink if light else 255 - ink
        place[:] = place * (1 - share) + colour * share
    out[:] = np.rint(pixels)


def load_scenes(counts: tuple[int, int, int]) -> BoxedData:
    """Return train, valid and test of these sizes, composed once and cached."""
    plans = {s: [scene(s, i) for i in range(n)] for s, n in zip(SPLITS, counts, strict=True)}
    sources = [version(name) for name in ("scikit-learn", "scikit-image", "pillow")]
    key = digest(COMPOSITION, *sources, *(repr(made) for made in plans.values()))

    def fill(out: Bytes) -> None:
        made = [one for split in SPLITS for one in plans[split]]
        for row, one in enumerate(made):
            image = np.empty((SIDE, SIDE, 3), np.uint8)  # slices of a memory map are slow
            compose(one, image)
            out[row] = image

    store = cached(NAME, key, (sum(counts), SIDE, SIDE, 3), fill)
    splits: dict[Split, Boxed] = {}
    start = 0
    for split in SPLITS:
        stop = start + len(plans[split])
        splits[split] = _boxed(split, plans[split], store.array[start:stop])
        start = stop
    return BoxedData(CLASSES, splits, store.sha256)


def _boxed(split: Split, plan: Sequence[Scene], images: Bytes) -> Boxed:
    digits = [one for made in plan for one in made.digits]
    corners = np.array([one.box for one in digits], np.float64).reshape(-1, 4)
    offsets: Indices = np.cumsum([0, *(len(made.digits) for made in plan)], dtype=np.int64)
    return Boxed(
        images=images,
        names=tuple(f"{split} {i}" for i in range(len(plan))),
        sizes=np.full((len(plan), 2), SIDE, np.int64),
        scales=np.ones(len(plan)),
        offsets=offsets,
        labels=np.array([one.label for one in digits], np.int64),
        corners=corners,
        areas=(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]),
        crowd=np.zeros(len(digits), bool),
    )


def digit_scenes(train: int = 4000, valid: int = 240, test: int = 600) -> Task:
    """Find up to six handwritten digits on photographs: 3 x 96 x 96, made in seconds, cached.

    Composed from real digit crops and real photographs; every second scene has large digits only.
    """
    given = (("train", train), ("valid", valid), ("test", test))
    counts = [whole(NAME, option, value, 2, LIMIT) for option, value in given]
    load = functools.partial(load_scenes, (counts[0], counts[1], counts[2]))
    shape = (3, SIDE, SIDE)
    vary = Vary(shift=0.15, zoom=0.2, flip=False)
    return Detect(NAME, shape, len(CLASSES), load, strides=STRIDES, bins=BINS, vary=vary)


TASKS: dict[str, Callable[..., Task]] = {NAME: digit_scenes}
