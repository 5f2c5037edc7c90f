"""The tasks: disjoint splits, every sample once, hostile and damaged files refused."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasx.errors import NasxError
from nasx.registry import task
from nasx.tasks.folder import splits_of
from nasx.tasks.photos import PHOTOS, plan
from nasx.tasks.unpickle import read_pickle


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))


def test_digits_and_photos_of_valid_and_test_are_never_seen_in_training() -> None:
    used = {split: set(plan(split, 500).digit.tolist()) for split in PHOTOS}
    assert not used["train"] & used["valid"]
    assert not used["train"] & used["test"]
    assert not used["valid"] & used["test"]
    names = [name for photos in PHOTOS.values() for name in photos]
    assert len(names) == len(set(names))
    assert all(len(photos) >= 2 for photos in PHOTOS.values())


def test_every_sample_comes_once_and_training_is_shuffled() -> None:
    own = task({"name": "digits-in-photos", "train": 130, "valid": 50, "test": 40})
    seen = torch.cat([b.targets["label"] for b in own.batches("valid", (3, 32, 32), 16)])
    assert len(seen) == own.size("valid") == 50
    batches = list(own.batches("train", (3, 32, 32), 32, torch.Generator().manual_seed(0)))
    assert [len(b.inputs) for b in batches] == [32] * 4
    assert batches[0].inputs.shape == (32, 3, 32, 32)
    assert batches[0].inputs.is_contiguous(memory_format=torch.channels_last)


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30, 3), shade, np.uint8)).save(path)


def test_a_folder_is_split_by_content_class_by_class(tmp_path: Path) -> None:
    for name, base in (("cat", 0), ("dog", 100)):
        for i in range(20):
            picture(tmp_path / "pets" / name / f"{i}.png", base + i)
    classes, parts = splits_of(tmp_path / "pets")
    assert classes == ("cat", "dog")
    assert [len(parts[s]["cat"]) for s in ("train", "valid", "test")] == [16, 2, 2]
    own = task({"name": "folder", "path": str(tmp_path / "pets"), "side": 16})
    assert own.shape.input == (3, 16, 16)
    assert [own.size(s) for s in ("train", "valid", "test")] == [32, 4, 4]
    (tmp_path / "pets" / "dog" / "3.png").write_bytes(b"no image")
    broken = task({"name": "folder", "path": str(tmp_path / "pets"), "side": 16})
    with pytest.raises(NasxError, match=r"dog/3\.png cannot be read as an image"):
        broken.size("train")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"name": "folder", "path": "not/there"}, "there is nothing at .*not/there"),
        ({"name": "digits-in-photos", "train": 3}, "train must be a whole number from 10"),
        ({"name": "digits-in-photos", "sides": 3}, "has no option 'sides'"),
    ],
)
def test_wrong_options_are_one_sentence(spec: dict[str, object], said: str) -> None:
    with pytest.raises(NasxError, match=said):
        task(spec)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/nasx-was-here",)


def test_a_hostile_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(pickle.dumps({"data": Hostile()}))
    with pytest.raises(NasxError, match=r"data_batch_1: refused .* asks for posix\.system"):
        read_pickle(file)
    gadget = b"cbuiltins\neval\n(S'1'\ntR."
    file.write_bytes(gadget)
    with pytest.raises(NasxError, match=r"asks for builtins\.eval"):
        read_pickle(file)
    assert not Path("/tmp/nasx-was-here").exists()


def test_cifar_archives_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = [i % 10 for i in range(40)]
        data = rng.integers(0, 256, (40, 3072), np.uint8)
        content = {b"data": data, b"labels": labels, b"batch_label": b"x"}
        stream = io.BytesIO()
        pickle.Pickler(stream, protocol=3).dump(content)
        (tmp_path / name).write_bytes(stream.getvalue())
    own = task({"name": "cifar10", "path": str(tmp_path), "train": 100, "valid": 50, "test": 40})
    assert [own.size(s) for s in ("train", "valid", "test")] == [100, 50, 40]
    batch = next(iter(own.batches("train", (3, 32, 32), 100)))
    assert torch.bincount(batch.targets["label"]).tolist() == [10] * 10
    (tmp_path / "test_batch").unlink()
    with pytest.raises(NasxError, match="has no test_batch"):
        task({"name": "cifar10", "path": str(tmp_path)})
