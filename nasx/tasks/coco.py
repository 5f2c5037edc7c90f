"""Any images with COCO annotations: a JSON file for each split, and the images' folder."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from nasx.errors import NasxError
from nasx.tasks.base import Split, Task
from nasx.tasks.boxed import Boxed, BoxedData
from nasx.tasks.boxsizes import COCO
from nasx.tasks.boxvary import Vary
from nasx.tasks.cache import Bytes, cached, digest
from nasx.tasks.cocofile import Id, Listed, read_categories, read_coco
from nasx.tasks.data import SPLITS
from nasx.tasks.detect import Detect
from nasx.tasks.folder import PARTS
from nasx.tasks.images import extent, read_whole
from nasx.tasks.options import place, truth, whole

NAME = "coco"
FILES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
PATTERNS = ("{}.json", "annotations/{}.json", "annotations/instances_{}*.json",
            "{}/_annotations.coco.json")  # fmt: skip
GREY = 128  # beside an image that is narrower than the input
SIDES = (32, 1024)
STRIDES = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Sample:
    """One image: its file, its size (height, width), the SHA-256 of its bytes, its annotations."""

    path: Path
    size: tuple[int, int]
    content: bytes
    listed: Listed
    rows: tuple[int, ...]


def split_files(root: Path) -> dict[Split, Path]:
    """Return the annotation files of the splits in a folder, by the layouts in use."""
    found: dict[Split, Path] = {}
    for split, names in FILES.items():
        for pattern in (p.format(name) for p in PATTERNS for name in names):
            here = sorted(root.glob(pattern))
            if here and split not in found:
                found[split] = here[0]
    if "train" not in found:
        raise NasxError(
            f"task '{NAME}': {root} holds no annotations to learn from; wanted train.json, "
            "annotations/instances_train*.json or train/_annotations.coco.json"
        )
    return found


def load_coco(files: Mapping[Split, Path], images: Path | None, size: tuple[int, int]) -> BoxedData:
    """Return three splits, decoded once to `size` (height, width) and cached.

    Splits without a file are cut from the training images in the order of their content's hash.
    """
    listed = {split: read_coco(path) for split, path in files.items()}
    _same_categories(list(listed.values()))
    samples = {split: _samples(one, images) for split, one in listed.items()}
    _refuse_shared(samples)
    samples = _cut(samples)
    warnings = [said for one in listed.values() for said in _odd(one)]
    every = [sample for split in SPLITS for sample in samples[split]]
    key = digest(*size, version("pillow"), *(sample.content for sample in every))

    def fill(out: Bytes) -> None:
        for row, sample in enumerate(every):
            out[row] = fitted(read_whole(sample.path), size)

    store = cached(NAME, key, (len(every), *size, 3), fill)
    splits: dict[Split, Boxed] = {}
    start = 0
    for split in SPLITS:
        stop = start + len(samples[split])
        splits[split] = held = _boxed(samples[split], store.array[start:stop])
        start = stop
        if held.crowd.all():  # or there is none
            raise NasxError(
                f"{samples[split][0].listed.path}: no image of {split} has an object, crowds "
                "aside; annotate some, or each score would be unknown"
            )
    classes = tuple(listed["train"].categories.values())
    return BoxedData(classes, splits, store.sha256, tuple(warnings))


def fitted(image: Bytes, size: tuple[int, int]) -> Bytes:
    """Return an image (H, W, 3) at the largest size that fits, at the top left of grey."""
    high, wide = _shrunk((image.shape[0], image.shape[1]), size)
    out = np.full((*size, 3), GREY, np.uint8)
    resized = Image.fromarray(image).resize((wide, high), Image.Resampling.BILINEAR)
    out[:high, :wide] = np.asarray(resized)
    return out


def _scale(own: tuple[int, int], size: tuple[int, int]) -> float:
    return min(size[0] / own[0], size[1] / own[1])


def _shrunk(own: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    scale = _scale(own, size)
    return max(1, round(own[0] * scale)), max(1, round(own[1] * scale))


def _samples(listed: Listed, images: Path | None) -> list[Sample]:
    """Return the images of a file, each there and of the size that its boxes are meant for."""
    root = _image_folder(listed, images)
    samples = []
    for entry, rows in zip(listed.entries, listed.rows, strict=True):
        path = root / entry.name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _missing(listed, entry.id, path, error.strerror or str(error)) from error
        size = extent(data, path)
        if entry.size is not None and entry.size != size:
            raise NasxError(
                f"{listed.path}: image {entry.id!r} is said to be {entry.size[1]} x "
                f"{entry.size[0]} pixels, and {path} has {size[1]} x {size[0]}; its boxes may be "
                "of another copy"
            )
        for row in rows:
            x0, y0, x1, y1 = listed.corners[row]
            if x0 >= size[1] or y0 >= size[0] or x1 < 0 or y1 < 0:
                raise NasxError(
                    f"{listed.path}: annotation {listed.ids[row]!r} lies outside its image "
                    f"{path.name} of {size[1]} x {size[0]} pixels; mend or remove it"
                )
        samples.append(Sample(path, size, hashlib.sha256(data).digest(), listed, rows))
    return samples


def _image_folder(listed: Listed, images: Path | None) -> Path:
    """Return the folder of a file's images: the first one that holds its first image."""
    if not listed.entries:
        raise NasxError(f"{listed.path} lists no image; each split needs some")
    home, first = listed.path.parent, listed.entries[0]
    folders = [images] if images else [home / "images", home, home.parent / "images", home.parent]
    if not images:
        folders += sorted(p for p in home.parent.iterdir() if p.is_dir())
    for folder in folders:
        if (folder / first.name).is_file():
            return folder
    raise _missing(listed, first.id, folders[0] / first.name, "No such file")


def _missing(listed: Listed, id_: Id, path: Path, why: str) -> NasxError:
    return NasxError(
        f"{listed.path}: image {id_!r} cannot be read at {path} ({why}); put it there, remove it "
        "from the file, or name the images' folder (images)"
    )


def _odd(listed: Listed) -> list[str]:
    """Return sentences on boxes that are taken as COCO's tools take them, and may be mistakes."""
    flat = (listed.corners[:, 2:] <= listed.corners[:, :2]).any(1)
    if not flat.any():
        return []
    first = listed.ids[int(flat.argmax())]
    return [
        f"{listed.path}: {int(flat.sum())} boxes have no area (the first is annotation {first!r}); "
        "nothing is learnt from them, and as COCO's tools count they are never found"
    ]


def _same_categories(listed: Sequence[Listed]) -> None:
    first = listed[0]
    for other in listed[1:]:
        if other.categories != first.categories:
            odd = sorted(set(other.categories.items()) ^ set(first.categories.items()))[0]
            raise NasxError(
                f"category {odd[0]} '{odd[1]}' is not the same in {first.path} and {other.path}; "
                "all splits need the same categories"
            )


def _refuse_shared(samples: Mapping[Split, list[Sample]]) -> None:
    """Refuse an image that lies in two splits: its scores would be worth nothing."""
    seen: dict[bytes, tuple[Split, Sample]] = {}
    for split, some in samples.items():
        for sample in some:
            other, first = seen.setdefault(sample.content, (split, sample))
            if other != split:
                raise NasxError(
                    f"{first.path} of {other} and {sample.path} of {split} are the same image; "
                    "remove one of them"
                )


def _cut(samples: dict[Split, list[Sample]]) -> dict[Split, list[Sample]]:
    """Cut missing splits from the training images by content hash; copies stay together."""
    missing: list[Split] = [split for split in SPLITS if split not in samples]
    if not missing:
        return samples
    pool = samples["train"]
    order = sorted({sample.content for sample in pool})
    if len(order) <= len(missing):
        raise NasxError(
            f"{pool[0].listed.path}: {len(order)} different images are too few to cut "
            f"{' and '.join(missing)} from; add images, or a file for those splits"
        )
    total = PARTS["train"] + sum(PARTS[split] for split in missing)
    of: dict[bytes, Split] = {}
    start = 0
    for split in missing:
        count = max(1, round(len(order) * PARTS[split] / total))
        of |= dict.fromkeys(order[start : start + count], split)
        start += count
    cut = {split: [s for s in pool if of.get(s.content, "train") == split] for split in missing}
    return {**samples, **cut, "train": [s for s in pool if s.content not in of]}


def _boxed(samples: Sequence[Sample], images: Bytes) -> Boxed:
    size = (images.shape[1], images.shape[2])
    parts = [(sample.listed, list(sample.rows)) for sample in samples]

    def column(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        return np.concatenate([getattr(listed, name)[rows] for listed, rows in parts])

    return Boxed(
        images=images,
        names=tuple(sample.path.name for sample in samples),
        sizes=np.array([sample.size for sample in samples], np.int64),
        scales=np.array([_scale(sample.size, size) for sample in samples]),
        offsets=np.cumsum([0, *(len(rows) for _, rows in parts)], dtype=np.int64),
        labels=column("labels").astype(np.int64),
        corners=column("corners").astype(np.float64),
        areas=column("areas").astype(np.float64),
        crowd=column("crowd").astype(bool),
    )


def coco(
    path: str,
    valid: str | None = None,
    test: str | None = None,
    images: str | None = None,
    side: int | Sequence[int] = 256,
    strides: Sequence[int] = (8, 16, 32),
    flip: bool = True,
) -> Task:
    """Find the objects that COCO annotations name: 3 x side x side, or [height, width].

    `path` is a folder with {train,val,test}.json (other layouts in use are known, too), or the
    training file itself, with `valid` and `test` files. Splits without a file are cut from the
    training images: 80 / 10 / 10. `images` is their folder, where it is not beside the files.
    Images keep their proportions, grey fills the rest; `flip` mirrors in training.
    """
    root = place(NAME, path)
    files: dict[Split, Path] = split_files(root) if root.is_dir() else {"train": root}
    named: dict[Split, str | None] = {"valid": valid, "test": test}
    for split, file in named.items():
        if file is not None:
            files[split] = place(NAME, file)
    folder = None if images is None else place(NAME, images)
    size = _sides(side)
    rising = _strides(strides)
    vary = Vary(flip=truth(NAME, "flip", flip))
    classes = len(read_categories(files["train"]))
    load = functools.partial(load_coco, files, folder, size)
    name = (root if root.is_dir() else root.parent).resolve().name
    return Detect(name, (3, *size), classes, load, strides=rising, bins=COCO, vary=vary)


def _sides(asked: object) -> tuple[int, int]:
    both = list(asked) if isinstance(asked, list | tuple) else [asked, asked]
    if len(both) != 2:
        raise NasxError(f"task '{NAME}': side must be one number or [height, width], not {asked!r}")
    high, wide = (whole(NAME, "side", one, *SIDES) for one in both)
    return high, wide


def _strides(asked: object) -> tuple[int, ...]:
    given = tuple(asked) if isinstance(asked, list | tuple) else ()
    if not given or any(s not in STRIDES for s in given) or list(given) != sorted(set(given)):
        raise NasxError(f"task '{NAME}': strides must be rising numbers of {STRIDES}")
    return given


TASKS: dict[str, Callable[..., Task]] = {NAME: coco}
