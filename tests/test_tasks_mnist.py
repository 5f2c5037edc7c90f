"""MNIST by path: idx files as published, an .npz of any sample, and what is neither."""

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archives import Calls
from nasx import registry
from nasx.errors import MissingData, NasxError
from nasx.tasks.base import Task
from nasx.tasks.data import SPLITS, proportional
from nasx.tasks.mnist import FILES, shrunk

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))


def made(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Return `count` random images (N, 28, 28) and labels, classes in turn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    return images, (np.arange(count) % 10).astype(np.uint8)


def idx(array: Array) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Write 200 training and 100 test images, one file of four packed."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part, count in (("train", 200), ("test", 100)):
        images, labels = made(count, count)
        (folder / FILES[part][0]).write_bytes(idx(images))
        if part == "test":
            (folder / f"{FILES[part][1]}.gz").write_bytes(packed(idx(labels)))
        else:
            (folder / FILES[part][1]).write_bytes(idx(labels))
    return folder


def npz(path: Path, images: Array, labels: Array) -> Path:
    np.savez(path, images=images, labels=labels)
    return path


def opened(path: Path, **options: int) -> Any:
    return registry.task({"name": "mnist", "path": str(path), **options})


def pixels(task: Any, split: str) -> list[bytes]:
    return [image.tobytes() for image in task.data.splits[split].images]


def counts(task: Task) -> list[int]:
    return [task.size(split) for split in SPLITS]


def test_the_published_files_keep_their_test_set(published: Path) -> None:
    task = opened(published, valid=40)
    assert (task.name, task.shape.input, counts(task)) == ("MNIST", (1, 28, 28), [160, 40, 100])
    images, labels = made(100, 100)
    assert sorted(pixels(task, "test")) == sorted(image.tobytes() for image in images)
    known = {i.tobytes(): y for i, y in zip(*made(200, 200), strict=True)}
    known |= {i.tobytes(): y for i, y in zip(images, labels, strict=True)}
    for split in SPLITS:
        held = task.data.splits[split]
        assert np.bincount(held.labels).tolist() == [len(held.labels) // 10] * 10
        assert [known[p] for p in pixels(task, split)] == held.labels.tolist()
    assert len({p for split in SPLITS for p in pixels(task, split)}) == 300
    (batch,) = task.batches("test", (1, 14, 14), 100)
    assert batch.inputs.shape == (100, 1, 14, 14)


def test_a_split_does_not_move_when_another_shrinks(published: Path) -> None:
    whole, less = opened(published, valid=40), opened(published, valid=40, train=70, test=50)
    assert counts(less) == [70, 40, 50]
    assert pixels(less, "valid") == pixels(whole, "valid")
    assert set(pixels(less, "train")) < set(pixels(whole, "train"))
    assert pixels(opened(published, valid=20, train=70), "train") == pixels(less, "train")
    assert whole.fingerprint() != less.fingerprint()


def test_an_npz_is_cut_by_content_alone(tmp_path: Path) -> None:
    """Neither the order in the file nor copies matter."""
    images, labels = made(300)
    task = opened(npz(tmp_path / "a.npz", images, labels))
    assert (task.name, counts(task)) == ("MNIST (a.npz)", [240, 30, 30])
    for split in SPLITS:
        assert np.ptp(np.bincount(task.data.splits[split].labels)) == 0
    shuffled = np.random.default_rng(1).permutation(np.r_[np.arange(300), 0, 7, 7])
    again = opened(npz(tmp_path / "b.npz", images[shuffled], labels[shuffled].astype(np.int64)))
    assert again.fingerprint() == task.fingerprint()
    assert {s: pixels(again, s) for s in SPLITS} == {s: pixels(task, s) for s in SPLITS}
    assert counts(opened(tmp_path / "a.npz", train=100, test=20)) == [100, 30, 20]
    twice = opened(tmp_path / "a.npz")
    assert twice.fingerprint() == task.fingerprint()


def test_half_the_side_is_the_mean_of_four(tmp_path: Path) -> None:
    images, labels = made(100)
    task = opened(npz(tmp_path / "a.npz", images, labels), side=14)
    assert (task.name, task.shape.input) == ("MNIST (a.npz), 14 x 14", (1, 14, 14))
    means = images.reshape(100, 14, 2, 14, 2).mean((2, 4))
    wanted = {np.rint(m).astype(np.uint8).tobytes() for m in means}
    assert {p for split in SPLITS for p in pixels(task, split)} == wanted


@settings(deadline=None)
@given(st.integers(4, 28), st.integers(0, 255))
def test_shrinking_keeps_the_mean(side: int, level: int) -> None:
    flat = np.full((1, 28, 28), level, np.uint8)
    assert (shrunk(flat, side) == level).all()
    image = np.random.default_rng(level).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    assert abs(shrunk(image, side).mean() - image.mean()) <= 0.5
    assert (shrunk(image, 28) == image).all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 60))
def test_any_stretch_holds_the_classes_in_proportion(labels: list[int], length: int) -> None:
    whole = np.array(labels)
    order = proportional(whole)
    assert sorted(order) == list(range(len(labels)))
    share = np.bincount(whole, minlength=5) / len(whole)
    off = 1 + 5 * share
    for start in range(max(0, len(whole) - length) + 1):
        part = whole[order[start : start + length]]
        assert (abs(np.bincount(part, minlength=5) - share * len(part)) <= off).all()
    for label in set(labels):
        members = order[whole[order] == label]
        assert (np.diff(members) > 0).all()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x01\x00\x00\x00\x01a", "no idx file of 3-dim"),
        ("train-images-idx3-ubyte", b"", "no idx file of 3-dim"),
        ("train-images-idx3-ubyte", idx(made(200)[0])[:-1], "holds fewer than the 156,800 bytes"),
        ("train-images-idx3-ubyte", idx(made(200)[0]) + b"x", "holds more than the 156,800 bytes"),
        ("train-images-idx3-ubyte", idx(made(200)[0][:, :20]), r"images are \(200, 20, 28\)"),
        ("train-images-idx3-ubyte", idx(made(99)[0]), "99 images, and labels of shape"),
        ("train-images-idx3-ubyte", b"\x00\x00\x08\x03" + b"\xff" * 12, "announces .* bytes: more"),
        ("train-labels-idx1-ubyte", idx(np.full(200, 10)), "a label is not from 0 to 9"),
        ("train-labels-idx1-ubyte", idx(np.zeros(200)), "fewer than 10 images of 1"),
        ("t10k-labels-idx1-ubyte.gz", b"\x1f\x8b torn", "t10k-labels.* cannot be unpacked"),
        ("t10k-labels-idx1-ubyte.gz", packed(idx(made(100)[1]))[:-6], "cannot be unpacked"),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(
    published: Path, name: str, content: bytes, words: str
) -> None:
    (published / name).write_bytes(content)
    with pytest.raises(NasxError, match=words) as caught:
        opened(published, valid=40).fingerprint()
    assert "\n" not in str(caught.value)
    assert name in str(caught.value) or "t10k" not in name


def test_a_packed_bomb_is_not_unpacked(published: Path) -> None:
    (published / "t10k-labels-idx1-ubyte.gz").write_bytes(packed(bytes(2**24)))
    with pytest.raises(NasxError, match="no idx file"):
        opened(published, valid=40).fingerprint()
    bomb = packed(idx(made(100)[1]) + bytes(2**24))
    (published / "t10k-labels-idx1-ubyte.gz").write_bytes(bomb)
    with pytest.raises(NasxError, match="holds more than the 100 bytes"):
        opened(published, valid=40).fingerprint()


def wrong(key: str, value: Array) -> dict[str, Array]:
    images, labels = made(100)
    return {"images": images, "labels": labels, key: value}


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"images": made(100)[0]}, "no .npz with images and labels"),
        (wrong("images", np.zeros((100, 784), np.uint8)), r"images are \(100, 784\) uint8"),
        (wrong("images", np.zeros((100, 28, 28))), r"images are \(100, 28, 28\) float64"),
        (wrong("labels", np.zeros(100)), "labels are float64"),
        (wrong("labels", np.full(100, -1)), "a label is not from 0 to 9"),
        (wrong("labels", np.zeros((100, 1), int)), r"labels of shape \(100, 1\)"),
        (wrong("labels", np.array([Calls(print, "ran")], dtype=object)), "no .npz with images"),
        (wrong("images", np.zeros((100, 28, 28), np.uint8)), "are the same and are called"),
    ],
)
def test_a_wrong_npz_is_one_sentence(tmp_path: Path, held: dict[str, Array], words: str) -> None:
    np.savez(tmp_path / "bad.npz", **held)
    with pytest.raises(NasxError, match=words):
        opened(tmp_path / "bad.npz").fingerprint()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_what_is_no_npz_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(NasxError, match=r"no \.npz with images and labels"):
        opened(tmp_path / "bad.npz").fingerprint()


def test_an_npz_that_announces_more_than_it_may_is_not_unpacked(tmp_path: Path) -> None:
    stream = io.BytesIO()
    head = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(stream, head)
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        file.writestr("images.npy", stream.getvalue() + b"abc")
    with pytest.raises(NasxError, match=r"no \.npz with images and labels"):
        opened(tmp_path / "bad.npz").fingerprint()


def test_wrong_places_and_counts_are_one_sentence(published: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"there is nothing at .*nowhere"):
        opened(tmp_path / "nowhere")
    with pytest.raises(NasxError, match="side must be a whole number from 4 to 28"):
        opened(published, side=32)
    with pytest.raises(NasxError, match="test must be a whole number from 10"):
        opened(published, test=0)
    with pytest.raises(NasxError, match="train is 170, and there are 160 images for it"):
        opened(published, valid=40, train=170).fingerprint()
    with pytest.raises(NasxError, match="valid is 5000, and there are 190 images"):
        opened(published).fingerprint()
    (published / FILES["test"][0]).unlink()
    with pytest.raises(MissingData, match="lacks t10k-images-idx3-ubyte"):
        opened(published)


def test_only_the_pixels_decide_the_order() -> None:
    """The key of an image is the SHA-256 of its 784 bytes: the split is the same everywhere."""
    from nasx.tasks.mnist import by_content

    images, _ = made(40)
    zeros = np.zeros(40, np.int64)
    order = by_content(images, zeros, Path("x"))
    digests = [hashlib.sha256(images[i].tobytes()).digest() for i in order]
    assert digests == sorted(digests)
