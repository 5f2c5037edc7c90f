"""Handwritten digits of 8x8 pixels, embedded in scikit-learn (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from nasx.tasks.augment import Augment
from nasx.tasks.base import Split, Task
from nasx.tasks.cache import Bytes, digest
from nasx.tasks.classify import Classify
from nasx.tasks.data import SPLITS, Dataset, Indices, Labelled, stratified

CLASSES = tuple("0123456789")
SHARES = (4, 1, 1)  # train, valid, test
SEED = 1797


@functools.cache
def handwritten() -> tuple[Bytes, Indices]:
    """Return the 1,797 images (N, 8, 8) scaled from 0..16 to 0..255, and their labels (N,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    scaled = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return scaled, labels.astype(np.int64)


@functools.cache
def digit_parts() -> dict[Split, Indices]:
    """Return which of the images belong to which split, always the same, all classes in each."""
    parts = stratified(handwritten()[1], SHARES, np.random.default_rng(SEED))
    return dict(zip(SPLITS, parts, strict=True))


def load_digits_task() -> Dataset:
    """Return the digits in three splits; 115 kB, so they need no cache."""
    images, labels = handwritten()
    splits = {
        split: Labelled(images[part][..., None], labels[part])
        for split, part in digit_parts().items()
    }
    return Dataset("digits", CLASSES, splits, digest(images.tobytes()))


def digits() -> Task:
    """Tell handwritten digits apart: 1 x 8 x 8, about 1,200 / 300 / 300 of them."""
    return Classify("digits", (1, 8, 8), 10, load_digits_task, augment=Augment(flip=False))


TASKS: dict[str, Callable[..., Task]] = {"digits": digits}
