"""Any folder of images: one sub-folder a class, with or without splits of its own.

PATH/CLASS/*.jpg                        split 80 / 10 / 10 by content, class by class
PATH/{train,val,test}/CLASS/*.jpg       as it is; a part that is missing is cut from another
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, assemble
from nasx.tasks.options import place, truth, whole

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LEAST = 3  # images of a class: one for each split
FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("val", "valid", "validation"),
    "test": ("test",),
}

Files = dict[str, list[Path]]  # class -> files


def by_class(folder: Path) -> Files:
    """Return the image files of every class folder, sorted; an empty class is refused."""
    found: Files = {}
    for inner in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        files = sorted(f for f in inner.rglob("*") if f.suffix.lower() in ENDINGS)
        if not files:
            raise NasxError(f"task 'folder': the class folder {inner} holds no image; remove it")
        found[inner.name] = files
    if len(found) < 2:
        raise NasxError(
            f"task 'folder': {folder} has {len(found)} class folder(s), at least 2 are needed: "
            "put each class's images into a folder of its name"
        )
    return found


def by_content(files: list[Path], shares: tuple[float, ...]) -> list[list[Path]]:
    """Cut files at these shares in the order of their content's hash.

    The same picture under two names stays on one side, and adding files moves few of the others.
    """
    hashed = sorted((hashlib.sha256(f.read_bytes()).hexdigest(), f) for f in files)
    cuts = [round(share * len(hashed)) for share in np.cumsum(shares)[:-1] / sum(shares)]
    parts, start = [], 0
    for cut in [*cuts, len(hashed)]:
        stop = max(cut, start)
        while 0 < stop < len(hashed) and hashed[stop][0] == hashed[stop - 1][0]:
            stop += 1
        parts.append([f for _, f in hashed[start:stop]])
        start = stop
    return parts


def splits_of(path: Path) -> tuple[tuple[str, ...], dict[Split, Files]]:
    """Return the classes of a folder and the files of its three splits."""
    own = {
        split: next((path / n for n in names if (path / n).is_dir()), None)
        for split, names in FOLDERS.items()
    }
    if own["train"] is None:
        classes = by_class(path)
        cut = {c: by_content(_enough(c, f, LEAST), (0.8, 0.1, 0.1)) for c, f in classes.items()}
        return tuple(classes), {
            split: {c: parts[i] for c, parts in cut.items()} for i, split in enumerate(SPLITS)
        }
    given: dict[Split, Files] = {s: by_class(f) for s, f in own.items() if f is not None}
    names = tuple(given["train"])
    for split, files in given.items():
        strange = sorted(set(files) ^ set(names))
        if strange:
            raise NasxError(f"task 'folder': class '{strange[0]}' is not in both train and {split}")
    if "valid" not in given:
        _cut(given, "train", "valid", 0.9)
    if "test" not in given:
        _cut(given, "valid", "test", 0.5)
    return names, given


def _cut(given: dict[Split, Files], whole_split: Split, new: Split, keep: float) -> None:
    parts = {
        c: by_content(_enough(c, f, 2), (keep, 1 - keep)) for c, f in given[whole_split].items()
    }
    given[whole_split] = {c: p[0] for c, p in parts.items()}
    given[new] = {c: p[1] for c, p in parts.items()}


def _enough(name: str, files: list[Path], least: int) -> list[Path]:
    if len(files) < least:
        raise NasxError(
            f"task 'folder': class '{name}' has {len(files)} image(s), at least {least} are needed"
        )
    return files


def decode(file: Path, side: int, out: Bytes) -> None:
    """Read an image, cut its middle square, and write it at side x side into `out`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            colour = image.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise NasxError(f"task 'folder': {file} cannot be read as an image ({error})") from error
    edge = min(colour.size)
    left, top = (colour.width - edge) // 2, (colour.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    out[:] = np.asarray(colour.resize((side, side), Image.Resampling.BICUBIC, box=box))


def load_folder(path: Path, side: int) -> Dataset:
    """Decode a folder once into the cache; return its three splits."""
    classes, parts = splits_of(path)
    listed = [(s, c, f) for s in SPLITS for c in classes for f in parts[s].get(c, [])]
    for split in SPLITS:
        if not any(s == split for s, _, _ in listed):
            raise NasxError(f"task 'folder': {path} leaves no image for {split}: add images")
    contents = (hashlib.sha256(f.read_bytes()).hexdigest() for _, _, f in listed)
    key = digest("folder 1", side, *classes, *contents)

    def fill(out: Bytes) -> None:
        for target, (_, _, file) in zip(out, listed, strict=True):
            decode(file, side, target)

    store = cached("folder", key, (len(listed), side, side, 3), fill)
    number = {name: i for i, name in enumerate(classes)}
    labels: Mapping[Split, np.ndarray] = {
        s: np.array([number[c] for t, c, _ in listed if t == s], np.int64) for s in SPLITS
    }
    return assemble("folder", classes, store, labels)


def folder(path: str, side: int = 64, flip: bool = True) -> Task:
    """Tell the classes of an image folder apart: 3 x side x side."""
    where = place("folder", path)
    if not where.is_dir():
        raise NasxError(f"task 'folder': {where} is a file; path must be a folder of class folders")
    whole("folder", "side", side, 8, 1024)
    truth("folder", "flip", flip)
    train = next((where / n for n in FOLDERS["train"] if (where / n).is_dir()), where)
    load = functools.partial(load_folder, where, side)
    shape = (3, side, side)
    return Classify("folder", shape, len(by_class(train)), load, augment=Augment(flip=flip))


TASKS: dict[str, Callable[..., Task]] = {"folder": folder}
