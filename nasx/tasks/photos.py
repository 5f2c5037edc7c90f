"""Handwritten digits on photographs: 64x64 colour images in which resolution matters.

Composed from real handwriting (scikit-learn) on crops of real photographs (scikit-learn,
scikit-image), all read from the installed packages; docs/data.md names the photographers' terms.
No digit and no photograph occurs in two splits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from PIL import Image

from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, Indices, assemble
from nasx.tasks.digits import CLASSES, digit_parts, handwritten
from nasx.tasks.options import whole

# Smooth and busy photographs are paired so that valid and test are about equally hard.
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "chelsea", "retina", "hubble_deep_field", "immunohistochemistry"),
    "valid": ("china", "rocket"),
    "test": ("coffee", "flower"),
}
OF_SCIKIT_LEARN = ("china", "flower")
SEEDS: dict[Split, int] = {"train": 6400, "valid": 6401, "test": 6402}
SIDE = 64  # pixels of an image
SMOOTH = Image.Resampling.BILINEAR
WIDEST = 256  # pixels of the largest crop of a photograph
SMALLEST, LARGEST = 20, 44  # pixels of a digit's 8x8 cell as drawn
INK = 60  # the spread of an ink's channels from black or white
LIMIT = 100_000  # images in one split
COMPOSITION = 2  # raise it when the rule below changes: cached images are then made again


@dataclass(frozen=True)
class Plan:
    """What a split's images are made of, one row each, before a pixel is drawn.

    `photo` indexes PHOTOS[split], `digit` the handwritten digits. The crop is a square of `crop`
    pixels at (`top`, `left`) of the photo, mirrored where `mirror`; the digit has `size` pixels at
    (`row`, `column`) of the image; `ink` (n, 3) in [0, 1] is its colour within the dark or the
    light range.
    """

    split: Split
    photo: Indices
    digit: Indices
    label: Indices
    crop: Indices
    top: Indices
    left: Indices
    mirror: npt.NDArray[np.bool_]
    size: Indices
    row: Indices
    column: Indices
    ink: npt.NDArray[np.float64]

    def sha256(self) -> str:
        """Return 16 hex digits over every number of the plan."""
        columns = [v for v in vars(self).values() if isinstance(v, np.ndarray)]
        return digest(self.split, *PHOTOS[self.split], *(c.tobytes() for c in columns))


@functools.cache
def photograph(name: str) -> Bytes:
    """Return an embedded photograph (H, W, 3) uint8; a grey one in three equal channels."""
    if name in OF_SCIKIT_LEARN:
        from sklearn.datasets import load_sample_image

        return np.asarray(load_sample_image(f"{name}.jpg"))
    import skimage.data

    image = np.asarray(getattr(skimage.data, name)())
    return np.stack([image] * 3, axis=-1) if image.ndim == 2 else image[..., :3]


def plan(split: Split, count: int) -> Plan:
    """Draw what `count` images of a split are made of.

    Row i depends on the split and i alone: a smaller split is a prefix of a larger one. Every ten
    rows hold every class once.
    """
    tens = -(-count // 10)
    uniform = np.random.default_rng(SEEDS[split]).random((tens * 10, 13))
    label = np.argsort(uniform[:, 0].reshape(tens, 10), axis=1).reshape(-1)[:count]
    uniform = uniform[:count]

    def below(column: int, bound: int | Indices) -> Indices:
        return (uniform[:, column] * bound).astype(np.int64)

    part, labels = digit_parts()[split], handwritten()[1]
    digit = np.empty(count, np.int64)
    for value in range(10):
        pool, rows = part[labels[part] == value], label == value
        digit[rows] = pool[below(1, len(pool))[rows]]
    photo = below(2, len(PHOTOS[split]))
    extent = np.array([photograph(name).shape[:2] for name in PHOTOS[split]])[photo]
    widest = np.minimum(extent.min(1) // 2, WIDEST)
    crop = SIDE + below(3, widest - SIDE + 1)
    size = SMALLEST + below(7, LARGEST - SMALLEST + 1)
    return Plan(
        split=split,
        photo=photo,
        digit=digit,
        label=label,
        crop=crop,
        top=below(4, extent[:, 0] - crop + 1),
        left=below(5, extent[:, 1] - crop + 1),
        mirror=uniform[:, 6] < 0.5,
        size=size,
        row=below(8, SIDE - size + 1),
        column=below(9, SIDE - size + 1),
        ink=uniform[:, 10:13],
    )


def enlarging(size: int) -> npt.NDArray[np.float64]:
    """Return the (size, 8) matrix of bicubic interpolation from 8 pixels to `size`."""
    unit = Image.fromarray(np.eye(8, dtype=np.float32))
    return np.asarray(unit.resize((8, size), Image.Resampling.BICUBIC), np.float64)


def compose(made: Plan, out: Bytes) -> None:
    """Draw a plan's images into `out` (n, 64, 64, 3).

    The ink is light where the photo is dark and dark where it is light, so every digit stands out.
    """
    # Double precision: processors round products of single precision differently, and a pixel in a
    # million would then fall on the other side of a half.
    pixels = np.asarray(out)  # slices of a memory map are slow
    handwriting = handwritten()[0].astype(np.float64) / 255
    weights = {size: enlarging(size) for size in range(SMALLEST, LARGEST + 1)}
    sources = [Image.fromarray(photograph(name)) for name in PHOTOS[made.split]]

    table = np.stack(
        [
            *(made.photo, made.digit, made.crop, made.top, made.left),
            *(made.mirror, made.size, made.row, made.column),
        ],
        axis=1,
    )
    for target, ink, values in zip(pixels, made.ink, table.tolist(), strict=True):
        photo, digit, crop, top, left, mirror, size, row, column = values
        box = (left, top, left + crop, top + crop)
        # reducing_gap halves the cost of the larger crops; the last step stays bilinear.
        ground = sources[photo].resize((SIDE, SIDE), SMOOTH, box=box, reducing_gap=1.0)
        target[:] = np.asarray(ground)[:, :: -1 if mirror else 1]
        place = target[row : row + size, column : column + size]
        colour = INK * ink if place.mean() > 127 else 255 - INK * ink
        cover = (weights[size] @ handwriting[digit] @ weights[size].T).clip(0, 1)[..., None]
        place[:] = np.rint(place * (1 - cover) + colour * cover)


def load_photos(counts: tuple[int, int, int]) -> Dataset:
    """Return train, valid and test of these sizes, composed once and cached."""
    plans = [plan(split, count) for split, count in zip(SPLITS, counts, strict=True)]
    sources = [version(name) for name in ("scikit-learn", "scikit-image", "pillow")]
    key = digest(COMPOSITION, *sources, *(made.sha256() for made in plans))

    def fill(out: Bytes) -> None:
        start = 0
        for made in plans:
            compose(made, out[start : start + len(made.label)])
            start += len(made.label)

    store = cached("digits-in-photos", key, (sum(counts), SIDE, SIDE, 3), fill)
    labels = {made.split: made.label for made in plans}
    return assemble("digits-in-photos", CLASSES, store, labels)


def digits_in_photos(train: int = 6000, valid: int = 1500, test: int = 2000) -> Task:
    """Tell which digit lies somewhere on a photograph: 3 x 64 x 64, made in seconds, cached."""
    name = "digits-in-photos"
    given = (("train", train), ("valid", valid), ("test", test))
    counts = [whole(name, option, value, 10, LIMIT) for option, value in given]
    load = functools.partial(load_photos, (counts[0], counts[1], counts[2]))
    return Classify(name, (3, SIDE, SIDE), 10, load, augment=Augment(flip=False))


TASKS: dict[str, Callable[..., Task]] = {"digits-in-photos": digits_in_photos}
