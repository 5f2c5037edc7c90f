"""CIFAR-10 by path: the archives of its authors (python version), or an .npz of JPEG scans.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The .npz is a lossy copy
(quality 75, 4:2:0) and is named so wherever the task is named: its accuracies may not stand beside
published ones.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nasx.errors import MissingData, NasxError
from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, Cached, cached, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, Indices, assemble, balanced_order
from nasx.tasks.options import place, whole
from nasx.tasks.pickles import read_pickle

TRAIN, TEST, SIDE = 50_000, 10_000, 32
PER_ARCHIVE = 10_000  # images in each archive
BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
ARCHIVES = (*BATCHES, "test_batch", "batches.meta")
# What the .npz holds, each with numpy's letters for the kinds of number (or text) it may be.
KEYS = {"header": "u", "classes": "U"} | {
    f"{part}_{name}": kinds
    for part in ("train", "test")
    for name, kinds in (("scan", "u"), ("off", "ui"), ("y", "ui"))
}
JPEG_COPY = "CIFAR-10 (JPEG q75 copy)"
Counts = tuple[int, int, int]


def choose(labels: Indices, test_labels: Indices, counts: Counts) -> dict[Split, Indices]:
    """Return the samples of each split: train and valid from the training images.

    Classes take turns, so counts that are multiples of 10 are balanced. `valid` is cut from the
    end whatever `train` is, so that runs with more training data are compared on the same images.
    """
    train, valid, test = counts
    order = balanced_order(labels)
    return {
        "train": order[:train],
        "valid": order[len(order) - valid :],
        "test": balanced_order(test_labels)[:test],
    }


def load_archives(folder: Path, counts: Counts) -> Dataset:
    """Return CIFAR-10 from the folder of the python-version archives."""
    contents = [hashlib.sha256(_bytes(folder / name)).digest() for name in ARCHIVES]

    @functools.cache
    def part(name: str) -> tuple[Bytes, Indices]:
        return _batch(folder / name)

    def pixels(out: Bytes) -> None:
        train = np.concatenate([part(name)[0] for name in BATCHES])
        _copy(out, {"train": train, "valid": train, "test": part("test_batch")[0]}, chosen)

    # Labels are kept beside the pixels: the archives are read once, not by every worker.
    def all_labels(out: Bytes) -> None:
        out[:] = np.concatenate([part(name)[1] for name in (*BATCHES, "test_batch")])

    held = cached("cifar10-labels", digest(*contents), (TRAIN + TEST,), all_labels).array
    labels = held.astype(np.int64)
    chosen = choose(labels[:TRAIN], labels[TRAIN:], counts)
    store = cached("cifar10", digest(*contents, counts), (sum(counts), SIDE, SIDE, 3), pixels)
    return _assembled("CIFAR-10", _names(folder / "batches.meta"), store, labels, chosen)


def _batch(path: Path) -> tuple[Bytes, Indices]:
    held = read_pickle(path)
    data, labels = held.get("data"), held.get("labels")
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.shape != (PER_ARCHIVE, 3072)
    ):
        raise NasxError(f"{path} has no 'data' of {PER_ARCHIVE} x 3072 bytes: not a CIFAR-10 batch")
    answers = labels if isinstance(labels, list) and len(labels) == len(data) else [None]
    if not all(type(y) is int and 0 <= y < 10 for y in answers):
        raise NasxError(f"{path} has no {PER_ARCHIVE} 'labels' from 0 to 9: not a CIFAR-10 batch")
    images = data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return images, np.array(answers, np.int64)


def _names(path: Path) -> list[str]:
    names = read_pickle(path).get("label_names")
    if not isinstance(names, list) or len(names) != 10:
        raise NasxError(f"{path} has no 10 'label_names': not the meta file of CIFAR-10")
    return [n.decode("utf-8", "replace") if isinstance(n, bytes) else str(n) for n in names]


def load_scans(path: Path, counts: Counts) -> Dataset:
    """Return the lossy copy: image i is decoded from header + scan[off[i] : off[i + 1]]."""
    content = _bytes(path)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            held: dict[str, np.ndarray[Any, Any]] = {key: file[key] for key in KEYS}
        for key, kinds in KEYS.items():
            if held[key].ndim != 1 or held[key].dtype.kind not in kinds:
                raise ValueError(f"{key} is {held[key].ndim}-D {held[key].dtype}")
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise NasxError(
            f"{path} is no .npz of JPEG scans with {', '.join(KEYS)}: {error}"
        ) from error
    labels = {s: held[f"{s}_y"].astype(np.int64) for s in ("train", "test")}
    for part, count in (("train", TRAIN), ("test", TEST)):
        if len(labels[part]) != count or held[f"{part}_off"].shape != (count + 1,):
            raise NasxError(f"{path} does not hold the {count} {part} images of CIFAR-10")
    if len(held["classes"]) != 10 or not all(((y >= 0) & (y < 10)).all() for y in labels.values()):
        raise NasxError(f"{path} does not hold the 10 classes of CIFAR-10")
    chosen = choose(labels["train"], labels["test"], counts)
    header = held["header"].tobytes()

    def pixels(out: Bytes) -> None:
        row = 0
        for split in SPLITS:
            part = "test" if split == "test" else "train"
            scan, bounds = held[f"{part}_scan"].tobytes(), held[f"{part}_off"].tolist()
            for index in chosen[split].tolist():
                out[row] = _decoded(header + scan[bounds[index] : bounds[index + 1]], path, index)
                row += 1

    shape = (sum(counts), SIDE, SIDE, 3)
    store = cached("cifar10-jpeg", digest(hashlib.sha256(content).digest(), counts), shape, pixels)
    both = np.concatenate([labels["train"], labels["test"]])
    return _assembled(JPEG_COPY, held["classes"].tolist(), store, both, chosen)


def _decoded(data: bytes, path: Path, index: int) -> Bytes:
    try:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise NasxError(
            f"{path}: image {index} is corrupt ({error}); copy the file again"
        ) from error
    if image.shape != (SIDE, SIDE, 3):
        raise NasxError(f"{path}: image {index} has shape {image.shape}, not (32, 32, 3)")
    return image


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NasxError(f"cannot read {path}: {error.strerror or error}") from error


def _copy(out: Bytes, images: dict[Split, Bytes], chosen: dict[Split, Indices]) -> None:
    row = 0
    for split in SPLITS:
        out[row : row + len(chosen[split])] = images[split][chosen[split]]
        row += len(chosen[split])


def _assembled(
    name: str, classes: list[str], store: Cached, labels: Indices, chosen: dict[Split, Indices]
) -> Dataset:
    first = {"train": 0, "valid": 0, "test": TRAIN}  # where a split's labels begin
    taken = {split: labels[first[split] + chosen[split]] for split in SPLITS}
    return assemble(name, classes, store, taken)


def cifar10(path: str, train: int = 45_000, valid: int = 5_000, test: int = TEST) -> Task:
    """Tell 10 kinds of things apart, 3 x 32 x 32: `path` is the folder of archives, or the .npz."""
    where = place("cifar10", path)
    counts = (
        whole("cifar10", "train", train, 10, TRAIN - 10),
        whole("cifar10", "valid", valid, 10, TRAIN - 10),
        whole("cifar10", "test", test, 10, TEST),
    )
    if train + valid > TRAIN:
        raise NasxError(
            f"task 'cifar10': train + valid is {train + valid}, and there are {TRAIN} training "
            "images; lower one of them"
        )
    if where.is_dir():
        missing = [name for name in ARCHIVES if not (where / name).is_file()]
        if missing:
            raise MissingData(
                f"task 'cifar10': {where} lacks {', '.join(missing)}; path must be the unpacked "
                "cifar-10-batches-py folder"
            )
        name, load = "CIFAR-10", functools.partial(load_archives, where, counts)
    else:
        name, load = JPEG_COPY, functools.partial(load_scans, where, counts)
    return Classify(name, (3, SIDE, SIDE), 10, load, augment=Augment(shift=1 / 8, flip=True))


TASKS: dict[str, Callable[..., Task]] = {"cifar10": cifar10}
