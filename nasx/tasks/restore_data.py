"""Photographs to restore: those inside scikit-image and scikit-learn, or image folders."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from nasx.errors import NasxError
from nasx.tasks.base import Split
from nasx.tasks.data import SPLITS
from nasx.tasks.folder import PARTS, part_folders
from nasx.tasks.images import extent, image_files, read_whole
from nasx.tasks.photographs import Photographs, Source, decoded
from nasx.tasks.photos import photograph
from nasx.tasks.restore import Held

# By split, with height and width, so that nothing is decoded before it is needed.
EMBEDDED: dict[Split, dict[str, tuple[int, int]]] = {
    "train": {
        "astronaut": (512, 512),
        "china": (427, 640),
        "hubble_deep_field": (872, 1000),
        "immunohistochemistry": (512, 512),
        "retina": (1411, 1411),
        "camera": (512, 512),
        "brick": (512, 512),
        "grass": (512, 512),
        "gravel": (512, 512),
    },
    "valid": {"chelsea": (300, 451), "rocket": (427, 640)},
    "test": {"coffee": (400, 600), "flower": (427, 640)},
}
SMALLEST = 24  # pixels of a side: shrunk by 4 and cropped, it still holds SSIM's window


@dataclass(frozen=True)
class Folders:
    """Where the images of each split lie; a split without a folder is cut from `train`."""

    train: tuple[Path, ...]
    valid: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()

    def laid_out(self) -> Folders:
        """Return the folders with a user's own {train,val,test} taken for what they are."""
        parts: dict[Split, list[Path]] = {split: [] for split in SPLITS}
        for root in self.train:
            given = part_folders(root)
            for split in SPLITS:
                parts[split] += [given[split]] if split in given else []
            if not given:
                parts["train"].append(root)
        valid, test = self.valid or tuple(parts["valid"]), self.test or tuple(parts["test"])
        return Folders(tuple(parts["train"]), valid, test)

    def of(self, split: Split) -> tuple[Path, ...]:
        """Return the folders of one split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]


def embedded() -> dict[Split, list[Source]]:
    """Return where the embedded photographs come from."""
    packages = " ".join(version(name) for name in ("scikit-learn", "scikit-image", "pillow"))
    return {
        split: [
            Source(
                name,
                hashlib.sha256(f"{name} {packages}".encode()).digest(),
                size,
                functools.partial(photograph, name),
            )
            for name, size in photographs.items()
        ]
        for split, photographs in EMBEDDED.items()
    }


def sources(folders: Iterable[Path]) -> tuple[list[Source], list[str]]:
    """Return the images of folders by their content, and a sentence for each that cannot be used.

    Copies of an image count once. The order is that of their content: what is drawn from them does
    not depend on names.
    """
    found: dict[bytes, Source] = {}
    left_out = []
    for path in (p for folder in folders for p in image_files(folder)):
        try:
            data = path.read_bytes()
            size = extent(data, path)
        except OSError as error:
            left_out.append(f"{path} cannot be read ({error.strerror}); replace or remove it")
            continue
        except NasxError as error:
            left_out.append(str(error))
            continue
        if min(size) < SMALLEST:
            said = (
                f"{path} is too small, {size[1]} x {size[0]} pixels; {SMALLEST} a side are needed"
            )
            left_out.append(said)
            continue
        content = hashlib.sha256(data).digest()
        read = functools.partial(read_whole, path)
        found.setdefault(content, Source(path.stem, content, size, read))
    return [found[content] for content in sorted(found)], left_out


def load_photographs(folders: Folders | None) -> Held:
    """Return three splits without a common image, of folders or (None) the embedded ones.

    Splits without a folder are cut from the training images in the order of their content's hash,
    so names, dates and places do not matter. Raises NasxError where a split has no usable image or
    two have the same one.
    """
    parts: dict[Split, list[Source]] = {}
    left_out: list[str] = []
    if folders is None:
        parts = embedded()
    else:
        laid = folders.laid_out()
        for split in SPLITS:
            parts[split], bad = sources(laid.of(split))
            left_out += bad
            if laid.of(split) and not parts[split]:
                raise _unusable(laid.of(split), bad)
        _refuse_shared(parts)
    held: dict[Split, Photographs] = {}
    for split, some in parts.items():
        if some:
            read = decoded("photographs", some)
            left_out += read.left_out
            held[split] = read.photographs
            if not len(read.photographs) and folders is not None:
                raise _unusable(folders.laid_out().of(split), read.left_out)
    missing = [split for split in SPLITS if split not in held]
    return Held(_cut(held, missing) if missing else held, tuple(left_out))


def _cut(held: dict[Split, Photographs], missing: Sequence[Split]) -> dict[Split, Photographs]:
    """Cut the missing splits from the training photographs, each at least one."""
    pool = held["train"]
    if len(pool) <= len(missing):
        raise NasxError(
            f"{len(pool)} usable photographs are too few to cut {' and '.join(missing)} from; "
            "add images, or folders for those splits"
        )
    order = sorted(range(len(pool)), key=lambda row: pool.seeds[row])
    total = PARTS["train"] + sum(PARTS[split] for split in missing)
    cut, start = dict(held), 0
    for split in missing:
        count = max(1, round(len(pool) * PARTS[split] / total))
        cut[split] = pool.only(sorted(order[start : start + count]))
        start += count
    cut["train"] = pool.only(sorted(order[start:]))
    return cut


def _unusable(folders: Iterable[Path], bad: Sequence[str]) -> NasxError:
    where = ", ".join(map(str, folders))
    why = f": {bad[0]}" if bad else "; put some there, or set path to where they are"
    return NasxError(f"no image in {where} can be used{why}")


def _refuse_shared(parts: Mapping[Split, list[Source]]) -> None:
    """Refuse an image that lies in two splits: its scores would be worth nothing."""
    seen: dict[bytes, tuple[Split, str]] = {}
    for split, some in parts.items():
        for source in some:
            other, name = seen.setdefault(source.content, (split, source.name))
            if other != split:
                raise NasxError(
                    f"{name} of {other} and {source.name} of {split} are the same image; "
                    "remove one of them"
                )
