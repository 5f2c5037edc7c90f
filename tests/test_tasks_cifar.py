"""CIFAR-10 by path, in both forms, at 1/500 of its size."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from archives import Calls, named, write
from nasx import registry
from nasx.errors import NasxError
from nasx.tasks import cifar
from nasx.tasks.base import Task

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse"]
NAMES += [b"ship", b"truck"]


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))
    for name, value in (("TRAIN", 100), ("TEST", 20), ("PER_ARCHIVE", 20)):
        monkeypatch.setattr(cifar, name, value)


def originals() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return 120 images (N, 32, 32, 3) and labels, classes in no order, equally frequent."""
    rng = np.random.default_rng(1)
    labels = np.concatenate([rng.permutation(np.repeat(np.arange(10), n)) for n in (10, 2)])
    coarse = rng.integers(0, 256, (120, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2), labels


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = originals()
    for i, name in enumerate((*cifar.BATCHES, "test_batch")):
        rows = slice(20 * i, 20 * i + 20)
        data = images[rows].transpose(0, 3, 1, 2).reshape(20, 3072)
        write(folder / name, {b"data": data, b"labels": labels[rows].tolist(), b"filenames": []})
    write(folder / "batches.meta", {b"label_names": NAMES, b"num_vis": 3072})
    return folder


def small(path: Path, train: int = 70) -> Task:
    return registry.task(
        {"name": "cifar10", "path": str(path), "train": train, "valid": 20, "test": 10}
    )


def check_splits(task: Any, tolerance: int) -> None:
    images, labels = originals()
    shared: list[bytes] = []
    for split, count in (("train", 70), ("valid", 20), ("test", 10)):
        held = task.data.splits[split]
        assert np.bincount(held.labels).tolist() == [count // 10] * 10
        source = images[100:] if split == "test" else images[:100]
        answers = labels[100:] if split == "test" else labels[:100]
        for image, label in zip(held.images.astype(int), held.labels, strict=True):
            errors = np.abs(source - image).mean((1, 2, 3))
            assert errors.min() <= tolerance
            assert answers[errors.argmin()] == label
            shared.append(bytes(split[:2] == "te") + int(errors.argmin()).to_bytes(2))
    assert len(set(shared)) == 100  # no image in two splits


def test_archives_are_read_into_three_balanced_splits(archives: Path) -> None:
    task: Any = small(archives)
    assert task.name == "CIFAR-10"
    assert task.data.classes == tuple(n.decode() for n in NAMES)
    check_splits(task, 0)
    assert task.fingerprint() == small(archives).fingerprint()
    (batch,) = task.batches("test", (3, 16, 16), 10)
    assert batch.inputs.shape == (10, 3, 16, 16)


def test_valid_stays_the_same_when_train_shrinks(archives: Path) -> None:
    large: Any = small(archives)
    less: Any = small(archives, 30)
    for split in ("valid", "test"):
        np.testing.assert_array_equal(
            large.data.splits[split].images, less.data.splits[split].images
        )
    assert large.fingerprint() != less.fingerprint()


def scans(path: Path, damage: int | None = None) -> Path:
    """Write the .npz of JPEG scans: one header, and each file from its start-of-scan on."""
    images, labels = originals()
    files = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=75)
        files.append(stream.getvalue())
    cut = files[0].index(b"\xff\xda")
    assert len({f[:cut] for f in files}) == 1
    bodies = [f[cut:] for f in files]
    if damage is not None:
        bodies[damage] = b"\x00" * 40
    held: dict[str, Any] = {"header": np.frombuffer(files[0][:cut], np.uint8)}
    for name, rows in (("train", slice(0, 100)), ("test", slice(100, 120))):
        part = bodies[rows]
        held[f"{name}_scan"] = np.frombuffer(b"".join(part), np.uint8)
        held[f"{name}_off"] = np.cumsum([0, *map(len, part)]).astype(np.uint32)
        held[f"{name}_y"] = labels[rows].astype(np.uint8)
    np.savez(path, classes=np.array([n.decode() for n in NAMES]), **held)
    return path


def test_the_lossy_copy_is_decoded_and_says_what_it_is(tmp_path: Path) -> None:
    task: Any = small(scans(tmp_path / "copy.npz"))
    assert task.name == "CIFAR-10 (JPEG q75 copy)"
    check_splits(task, 12)


def test_a_corrupt_scan_is_named(tmp_path: Path) -> None:
    path = scans(tmp_path / "copy.npz", damage=3)
    with pytest.raises(NasxError, match=r"copy\.npz: image 3 is corrupt"):
        small(path, 80).fingerprint()
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_an_npz_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", header=np.array([Calls(print, "ran")], dtype=object))
    with pytest.raises(NasxError, match=r"no \.npz of JPEG scans"):
        small(tmp_path / "bad.npz").fingerprint()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train_y", np.full(100, -1), "does not hold the 10 classes"),
        ("train_y", np.full(100, 0.5), "train_y is 1-D float64"),
        ("test_y", np.zeros((20, 1), np.uint8), "test_y is 2-D uint8"),
        ("train_off", np.linspace(0, 9, 101), "train_off is 1-D float64"),
        ("classes", np.array("cat"), "classes is 0-D"),
    ],
)
def test_a_wrong_array_in_an_npz_is_named(
    tmp_path: Path, key: str, value: np.ndarray[Any, Any], words: str
) -> None:
    with np.load(scans(tmp_path / "copy.npz")) as file:
        held = dict(file)
    np.savez(tmp_path / "bad.npz", **{**held, key: value})
    with pytest.raises(NasxError, match=words):
        small(tmp_path / "bad.npz").fingerprint()


def test_an_npz_that_claims_more_than_memory_holds_is_one_sentence(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    )
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        file.writestr("header.npy", stream.getvalue() + b"abc")
    with pytest.raises(NasxError, match=r"no \.npz of JPEG scans"):
        small(tmp_path / "bad.npz").fingerprint()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_what_is_no_npz_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(NasxError, match=r"no \.npz of JPEG scans"):
        small(tmp_path / "bad.npz").fingerprint()


def test_a_hostile_archive_is_refused_by_the_task(archives: Path) -> None:
    (archives / "data_batch_3").write_bytes(named("os", "system", "true"))
    with pytest.raises(NasxError, match=r"data_batch_3 is refused: it holds the global os\.system"):
        small(archives).fingerprint()


def test_wrong_places_and_counts_are_one_sentence(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(NasxError, match=r"there is nothing at .*nowhere"):
        small(tmp_path / "nowhere")
    with pytest.raises(NasxError, match=r"train \+ valid is 110"):
        small(archives, 90)
    (archives / "test_batch").unlink()
    with pytest.raises(NasxError, match="lacks test_batch"):
        small(archives)
    with pytest.raises(NasxError, match="needs 'path'"):
        registry.task("cifar10")


def test_an_archive_of_another_set_is_refused(archives: Path) -> None:
    write(archives / "data_batch_2", {b"data": np.zeros((3, 5), np.uint8), b"labels": [1, 2, 3]})
    with pytest.raises(NasxError, match="data_batch_2 has no 'data'"):
        small(archives).fingerprint()
