"""Handwritten digits of 28 x 28 pixels by path: the four idx files of MNIST, or one .npz.

LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998. The .npz may hold any
sample of it; its name stands wherever the task is named.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nasx.errors import MissingData, NasxError
from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, Indices, assemble, proportional
from nasx.tasks.idx import LARGEST, unpack_idx
from nasx.tasks.options import place, whole

SIDE = 28
CLASSES = tuple("0123456789")
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
VALID = 5_000  # of the published training images, where the study says nothing else
TENTHS = 10  # an .npz is cut 8 : 1 : 1
Counts = tuple[int | None, int | None, int | None]
Samples = tuple[Bytes, Indices]  # images (N, 28, 28), labels (N,)


def load_idx(files: dict[str, tuple[Path, Path]], side: int, counts: Counts) -> Dataset:
    """Return MNIST as published: `valid` is cut from the training images, `test` is the test set.

    Raises NasxError for a damaged file, or for more images asked for than there are.
    """
    contents = {path: _bytes(path) for pair in files.values() for path in pair}
    held = {
        part: _samples(
            unpack_idx(contents[images], images, 3), unpack_idx(contents[labels], labels, 1), images
        )
        for part, (images, labels) in files.items()
    }
    pool = by_content(*held["train"], files["train"][0])
    published = proportional(held["test"][1])
    train, valid, test = counts
    held_out = _at_most("valid", VALID if valid is None else valid, len(pool) - len(CLASSES))
    left = _at_most("train", train, len(pool) - held_out)
    # From the two ends: neither moves when the other's count does.
    chosen: dict[Split, Indices] = {
        "train": pool[len(pool) - left :],
        "valid": pool[:held_out],
        "test": len(held["train"][1]) + published[: _at_most("test", test, len(published))],
    }
    images, labels = (np.concatenate([held[p][i] for p in files]) for i in (0, 1))
    return _assembled("MNIST", (images, labels), chosen, side, [*contents.values()])


def load_npz(path: Path, side: int, counts: Counts) -> Dataset:
    """Return the digits of an .npz of `images` and `labels`, cut 80 / 10 / 10 by content."""
    content = _bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(member.file_size for member in packed.infolist()) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise NasxError(f"{path} is no .npz with images and labels: {error}") from error
    if labels.dtype.kind not in "ui":
        raise NasxError(f"{path}: labels are {labels.dtype}, not whole numbers")
    images, labels = _samples(images, labels, path)
    order = by_content(images, labels, path)
    tenth = len(order) // TENTHS
    parts = {"test": order[:tenth], "valid": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
    chosen: dict[Split, Indices] = {
        split: parts[split][: _at_most(split, count, len(parts[split]))]
        for split, count in zip(SPLITS, counts, strict=True)
    }
    return _assembled(f"MNIST ({path.name})", (images, labels), chosen, side, [content])


def by_content(images: Bytes, labels: Indices, path: Path) -> Indices:
    """Order samples by the SHA-256 of their pixels, so that any stretch has all classes in turn.

    The order in the file does not matter, and a copy counts once; one image with two labels is
    refused.
    """
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    first: dict[bytes, int] = {}
    for i, content in enumerate(digests):
        j = first.setdefault(content, i)
        if labels[i] != labels[j]:
            raise NasxError(
                f"{path}: images {j} and {i} are the same and are called {labels[j]} and "
                f"{labels[i]}; remove one of them"
            )
    kept = np.array([first[content] for content in sorted(first)], np.int64)
    return kept[proportional(labels[kept])]


def shrunk(images: Bytes, side: int) -> Bytes:
    """Return (N, side, side) images: each pixel is the mean over its footprint in the 28 x 28."""
    edges = np.arange(side + 1) * (SIDE / side)
    pixels = np.arange(SIDE)
    upper = np.minimum(edges[1:, None], pixels + 1)
    overlap = np.clip(upper - np.maximum(edges[:-1, None], pixels), 0, None) * (side / SIDE)
    means = overlap @ images.astype(np.float64) @ overlap.T
    found: Bytes = np.rint(means).astype(np.uint8)
    return found


def _assembled(
    name: str, held: Samples, chosen: dict[Split, Indices], side: int, contents: list[bytes]
) -> Dataset:
    images, labels = held
    rows = np.concatenate([chosen[split] for split in SPLITS])

    def fill(out: Bytes) -> None:
        for start in range(0, len(rows), 4096):  # as floats all images would take 400 MB
            part = rows[start : start + 4096]
            out[start : start + 4096, :, :, 0] = shrunk(images[part], side)

    hashes = [hashlib.sha256(content).digest() for content in contents]
    key = digest(side, rows.astype("<i8").tobytes(), *hashes)
    store = cached("mnist", key, (len(rows), side, side, 1), fill)
    name = name if side == SIDE else f"{name}, {side} x {side}"
    return assemble(name, CLASSES, store, {split: labels[chosen[split]] for split in SPLITS})


def _samples(images: Bytes, labels: Bytes, path: Path) -> Samples:
    """Return the samples of a file, or say in what they are no digits."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise NasxError(f"{path}: images are {images.shape} {images.dtype}, not (N, 28, 28) bytes")
    if labels.shape != images.shape[:1]:
        raise NasxError(f"{path}: {len(images)} images, and labels of shape {labels.shape}")
    if not ((labels >= 0) & (labels < len(CLASSES))).all():
        raise NasxError(f"{path}: a label is not from 0 to 9")
    found = labels.astype(np.int64)
    few = np.flatnonzero(np.bincount(found, minlength=len(CLASSES)) < TENTHS)
    if len(few):
        raise NasxError(f"{path}: fewer than {TENTHS} images of {few[0]}; add some")
    return images, found


def _at_most(split: str, count: int | None, there: int) -> int:
    if count is not None and count > there:
        raise NasxError(
            f"task 'mnist': {split} is {count}, and there are {there} images for it; lower it"
        )
    return there if count is None else count


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NasxError(f"cannot read {path}: {error.strerror or error}") from error


def _idx_files(folder: Path) -> dict[str, tuple[Path, Path]]:
    found: dict[str, Path] = {}
    for name in (name for pair in FILES.values() for name in pair):
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                found.setdefault(name, file)
    missing = [name for pair in FILES.values() for name in pair if name not in found]
    if missing:
        raise MissingData(
            f"task 'mnist': {folder} lacks {', '.join(missing)} (or .gz of it); path must be the "
            "folder of the four files"
        )
    return {part: (found[images], found[labels]) for part, (images, labels) in FILES.items()}


def mnist(
    path: str,
    side: int = SIDE,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
) -> Task:
    """Tell handwritten digits apart, 1 x side x side: `path` is the folder of MNIST, or an .npz.

    `train`, `valid` and `test` are counts; without them all images are used.
    """
    where = place("mnist", path)
    whole("mnist", "side", side, 4, SIDE)
    for split, count in zip(SPLITS, (train, valid, test), strict=True):
        if count is not None:
            whole("mnist", split, count, len(CLASSES), 10**6)
    counts = (train, valid, test)
    if where.is_dir():
        name, load = "MNIST", functools.partial(load_idx, _idx_files(where), side, counts)
    else:
        name, load = f"MNIST ({where.name})", functools.partial(load_npz, where, side, counts)
    name = name if side == SIDE else f"{name}, {side} x {side}"
    return Classify(name, (1, side, side), len(CLASSES), load, augment=Augment(flip=False))


TASKS: dict[str, Callable[..., Task]] = {"mnist": mnist}
