"""CIFAR-10 by path: the python archives as published, or one .npz of JPEG scans.

Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, Indices, assemble, balanced_order
from nasx.tasks.options import place, whole
from nasx.tasks.unpickle import read_pickle

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN, TEST = 50_000, 10_000
BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


def archive(file: Path) -> tuple[Bytes, Indices]:
    """Return images (N, 32, 32, 3) and labels of one python archive."""
    held = read_pickle(file)
    if not isinstance(held, dict) or b"data" not in held or b"labels" not in held:
        raise NasxError(f"{file} is no CIFAR-10 batch: it has no data and labels")
    data, labels = np.asarray(held[b"data"]), np.asarray(held[b"labels"], np.int64)
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise NasxError(f"{file} is no CIFAR-10 batch: its data are {data.dtype} {data.shape}")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


class Archives:
    """The folder cifar-10-batches-py."""

    def __init__(self, folder: Path) -> None:
        missing = [n for n in (*BATCHES, "test_batch") if not (folder / n).is_file()]
        if missing:
            raise NasxError(
                f"task 'cifar10': {folder} has no {missing[0]}; path must be the folder of the "
                "python archives (cifar-10-batches-py) or a .npz file"
            )
        self.folder = folder

    def read(self, part: str, order: slice) -> tuple[Bytes, Indices]:
        """Return the first samples of the train or test part, class-balanced."""
        files = BATCHES if part == "train" else ("test_batch",)
        pieces = [archive(self.folder / name) for name in files]
        images = np.concatenate([i for i, _ in pieces])
        labels = np.concatenate([y for _, y in pieces])
        kept = balanced_order(labels)[order]
        return images[kept], labels[kept]


class Scans:
    """One .npz of JPEG scans behind a common header: a lossy copy (quality 75, 4:2:0)."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self, part: str, order: slice) -> tuple[Bytes, Indices]:
        """Return samples of the train or test part in the file's own, class-balanced order."""
        from PIL import Image

        try:
            held = np.load(self.file, allow_pickle=False)
            header, scan = held["header"].tobytes(), held[f"{part}_scan"].tobytes()
            bounds, labels = held[f"{part}_off"], held[f"{part}_y"].astype(np.int64)
            chosen = range(len(labels))[order]
            images = np.empty((len(chosen), 32, 32, 3), np.uint8)
            for target, i in zip(images, chosen, strict=True):
                whole_file = io.BytesIO(header + scan[bounds[i] : bounds[i + 1]])
                target[:] = np.asarray(Image.open(whole_file))
        except (OSError, KeyError, ValueError) as error:
            raise NasxError(f"task 'cifar10': {self.file} cannot be read ({error})") from error
        return images, labels[order]


def load_cifar(path: Path, counts: tuple[int, int, int]) -> Dataset:
    """Return train, valid (the next training images) and test of these sizes."""
    source = Archives(path) if path.is_dir() else Scans(path)
    train, valid, test = counts
    pieces = {
        "train": source.read("train", slice(0, train)),
        "valid": source.read("train", slice(train, train + valid)),
        "test": source.read("test", slice(0, test)),
    }
    size = path.stat().st_size if path.is_file() else 0
    contents = (images.tobytes() for images, _ in pieces.values())
    key = digest("cifar10 1", type(source).__name__, size, *contents)

    def fill(out: Bytes) -> None:
        out[:] = np.concatenate([images for images, _ in pieces.values()])

    store = cached("cifar10", key, (sum(counts), 32, 32, 3), fill)
    labels: dict[Split, Indices] = {s: pieces[s][1] for s in SPLITS}
    return assemble("cifar10", CLASSES, store, labels)


def cifar10(path: str, train: int = 45_000, valid: int = 5_000, test: int = 10_000) -> Task:
    """Tell ten kinds of things apart: 3 x 32 x 32. A .npz is a JPEG copy: never compare it."""
    where = place("cifar10", path)
    whole("cifar10", "train", train, 10, TRAIN)
    whole("cifar10", "valid", valid, 10, TRAIN - train)
    whole("cifar10", "test", test, 10, TEST)
    if where.is_dir():
        Archives(where)
    name = "cifar10" if where.is_dir() else "CIFAR-10 (JPEG q75 copy)"
    load = functools.partial(load_cifar, where, (train, valid, test))
    return Classify(name, (3, 32, 32), 10, load, augment=Augment(shift=1 / 8, flip=True))


TASKS: dict[str, Callable[..., Task]] = {"cifar10": cifar10}
