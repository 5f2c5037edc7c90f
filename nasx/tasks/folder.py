"""Any folder of images: path/CLASS/*.jpg, or path/{train,val,test}/CLASS/*.jpg."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, assemble
from nasx.tasks.images import image_files, read_square
from nasx.tasks.options import place, truth, whole

FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
PARTS: dict[Split, int] = {"train": 8, "valid": 1, "test": 1}  # of ten, where cut by us
Files = dict[str, list[Path]]  # class name -> its images


@dataclass(frozen=True)
class Sample:
    """One image file, its class and the SHA-256 of its bytes."""

    path: Path
    label: int
    content: bytes


def part_folders(root: Path) -> dict[Split, Path]:
    """Return the folders of the splits that the user made; none for path/CLASS/*."""
    found = {}
    for split, names in FOLDERS.items():
        for name in names:
            if (root / name).is_dir():
                found[split] = root / name
                break
    return found if "train" in found else {}


def classes_of(folder: Path) -> Files:
    """Return the images of each class folder, refusing a class without images."""
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = {p.name: image_files(p) for p in inside}
    for name, images in files.items():
        if not images:
            raise NasxError(f"{folder / name} holds no image; add some or remove the folder")
    if len(files) < 2:
        raise NasxError(
            f"{folder} holds {len(files)} class folders and a task needs two; "
            "lay the images out as CLASS/*.jpg"
        )
    return files


def split_by_content(samples: list[Sample], shares: dict[Split, int]) -> dict[Split, list[Sample]]:
    """Deal one class to the splits by the order of content hashes, every split at least one.

    Names, dates and the order of files do not matter; copies of an image count once.
    """
    unique = sorted({s.content: s for s in samples}.values(), key=lambda s: s.content)
    total, start = sum(shares.values()), 0
    parts: dict[Split, list[Sample]] = {}
    for split in ("valid", "test"):
        if split in shares:
            count = max(1, round(len(unique) * shares[split] / total))
            parts[split] = unique[start : start + count]
            start += count
    return {"train": unique[start:], **parts}


def collect(root: Path) -> tuple[list[str], dict[Split, list[Sample]]]:
    """Return class names and the samples of the three splits, which share no image."""
    given = part_folders(root)
    pool = classes_of(given.get("train", root))
    names = list(pool)
    splits: dict[Split, list[Sample]] = {split: [] for split in SPLITS}
    shares = {
        split: part for split, part in PARTS.items() if split not in given or split == "train"
    }
    for label, name in enumerate(names):
        samples = _read(pool[name], label)
        if len({s.content for s in samples}) < len(shares):
            raise NasxError(
                f"class '{name}' in {given.get('train', root)} has too few different images: "
                f"{len(shares)} splits are cut from it and each needs one; add images"
            )
        for split, part in split_by_content(samples, shares).items():
            splits[split] += part
    for split, folder in given.items():
        if split == "train":
            continue
        files = classes_of(folder)
        if list(files) != names:
            odd = sorted(set(files) ^ set(names))[0]
            raise NasxError(f"class '{odd}' is not in both {given['train']} and {folder}")
        for label, name in enumerate(names):
            splits[split] += _read(files[name], label)
    _refuse_shared(splits)
    return names, splits


def _read(paths: list[Path], label: int) -> list[Sample]:
    try:
        return [Sample(p, label, hashlib.sha256(p.read_bytes()).digest()) for p in paths]
    except OSError as error:
        raise NasxError(f"cannot read {error.filename}: {error.strerror}") from error


def _refuse_shared(splits: dict[Split, list[Sample]]) -> None:
    """Refuse an image that lies in two splits or two classes: scores would be worth nothing."""
    seen: dict[bytes, tuple[Split, Sample]] = {}
    for split, samples in splits.items():
        for sample in samples:
            first_split, first = seen.setdefault(sample.content, (split, sample))
            if (first_split, first.label) != (split, sample.label):
                raise NasxError(
                    f"{first.path} and {sample.path} are the same image in two splits or classes; "
                    "remove one of them"
                )


def load_folder(root: Path, side: int) -> Dataset:
    """Return the images of a folder, decoded once to (side, side, 3) and cached."""
    names, splits = collect(root)
    samples = [sample for split in SPLITS for sample in splits[split]]
    key = digest(side, version("pillow"), *(sample.content for sample in samples))

    def fill(out: Bytes) -> None:
        for row, sample in enumerate(samples):
            out[row] = read_square(sample.path, side)

    store = cached("folder", key, (len(samples), side, side, 3), fill)
    labels = {s: np.array([sample.label for sample in splits[s]], np.int64) for s in SPLITS}
    return assemble(root.name, names, store, labels)


def folder(path: str, side: int = 64, flip: bool = False) -> Task:
    """Tell the classes of an image folder apart: 3 x side x side; `flip` mirrors in training.

    Splits that have no folder of their own (val, test) are cut from the training images by content
    hash, class by class: 80 / 10 / 10.
    """
    root = place("folder", path)
    if not root.is_dir():
        raise NasxError(f"task 'folder': {root} is a file; path must be a folder of class folders")
    whole("folder", "side", side, 8, 1024)
    augment = Augment(flip=truth("folder", "flip", flip))
    classes = len(classes_of(part_folders(root).get("train", root)))
    load = functools.partial(load_folder, root, side)
    return Classify(root.resolve().name, (3, side, side), classes, load, augment=augment)


TASKS: dict[str, Callable[..., Task]] = {"folder": folder}
