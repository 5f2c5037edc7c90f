"""CIFAR-10 by path, and the pickles of its archives: what they may hold, and what is refused."""

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasx import registry
from nasx.errors import NasxError
from nasx.tasks import cifar
from nasx.tasks.base import Task
from nasx.tasks.pickles import read_pickle

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse"]
NAMES += [b"ship", b"truck"]


def python2(value: Any) -> bytes:
    """Return a value as Python 2 with numpy 1 pickled it at protocol 2, as the publisher did."""
    if isinstance(value, bytes):
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(k) + python2(v) for k, v in value.items()) + b"u"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(" + b"".join(python2(n) for n in value.shape) + b"t"
    state = b"(K\x03U\x01|NNN" + python2(-1) + python2(-1) + b"K\x00tb"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR" + state
    return empty + b"(K\x01" + shape + dtype + b"\x89" + python2(value.tobytes()) + b"tb"


def write(path: Path, value: Any) -> Path:
    path.write_bytes(b"\x80\x02" + python2(value) + b".")
    return path


# --- the restricted reader ------------------------------------------------------------------------


def test_a_python_2_archive_is_read(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = write(tmp_path / "batch", {b"data": data, b"labels": [3, 0, 9], b"label": b"a batch"})
    found = read_pickle(path)
    assert list(found) == ["data", "labels", "label"]
    assert found["labels"] == [3, 0, 9]
    assert found["label"] == b"a batch"
    assert found["data"].dtype == np.uint8
    np.testing.assert_array_equal(found["data"], data)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", "<i8", ">f4"])
def test_arrays_of_this_numpy_are_read(
    tmp_path: Path, protocol: int, order: Any, kind: str
) -> None:
    data = np.asarray(np.arange(6).reshape(2, 3), kind, order=order)
    (tmp_path / "a").write_bytes(pickle.dumps({"data": data, "n": {"x": "é"}}, protocol))
    found = read_pickle(tmp_path / "a")
    np.testing.assert_array_equal(found["data"], data)
    assert found["data"].dtype == data.dtype
    assert found["n"] == {"x": "é"}


class Calls:
    """Pickle to a call of any function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def named(module: str, name: str, *args: Any) -> bytes:
    """Return a pickle that calls module.name(*args)."""
    inner = pickle.dumps(args, 2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + inner + b"R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.lib._npyio_impl", "load"),
        ("numpy", "memmap"),
        ("numpy", "matrix"),
        ("numpy.core.multiarray", "scalar"),
        ("_codecs", "encode"),
    ],
)
def test_every_other_global_is_refused_by_name(tmp_path: Path, module: str, name: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "data_batch_1"
    path.write_bytes(named(module, name, f"touch {victim}"))
    with pytest.raises(NasxError) as caught:
        read_pickle(path)
    assert f"{module}.{name}" in str(caught.value)
    assert str(path) in str(caught.value)
    assert not victim.exists()


def test_a_call_hidden_in_an_archive_does_not_run(tmp_path: Path) -> None:
    import os

    victim = tmp_path / "victim"
    hostile = {"data": np.zeros(3, np.uint8), "labels": [Calls(os.system, f"touch {victim}")]}
    for protocol in range(5):
        (tmp_path / "a").write_bytes(pickle.dumps(hostile, protocol))
        with pytest.raises(NasxError, match=r"is refused: it holds the global .*\.(system|encode)"):
            read_pickle(tmp_path / "a")
    assert not victim.exists()
    pickle.loads(pickle.dumps(hostile))  # the same archive does harm where nothing is refused
    assert victim.exists()


def array(shape: bytes = b"(K\x03t", code: bytes = b"U\x02u1", data: bytes = b"abc") -> bytes:
    head = b"\x80\x02}(T\x04\x00\x00\x00datacnumpy.core.multiarray\n_reconstruct\n"
    head += b"(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01" + shape + b"cnumpy\ndtype\n(" + code
    return head + b"K\x00K\x01tR(K\x03U\x01|NNNK\x00K\x00K\x00tb\x89" + python2(data) + b"tbu."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array(code=b"U\x01O"), "an array of 'O'"),
        (array(shape=b"(J\xff\xff\xff\x7ft"), "size is not that of its data"),
        (array(shape=b"(J\xff\xff\xff\xffK\x03t"), "size is not that of its data"),
        (pickle.dumps({"a": 1.5}), "a float"),
        (pickle.dumps({"a": (1, 2)}), "a tuple"),
        (pickle.dumps({"a": {1: 2}}), "a key of type int"),
        (pickle.dumps({"a": None}), "a NoneType"),
        (b"\x80\x02}X\x01\x00\x00\x00acnumpy\nndarray\ns.", "a type"),
        (b"\x80\x02]q\x00h\x00a.", "nested too deeply"),
        (b"\x80\x02U\x03tagQ.", "a persistent id"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x00K\x00tR.", "foreign"),
    ],
)
def test_what_an_archive_may_not_hold_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(NasxError, match=words) as caught:
        read_pickle(tmp_path / "a")
    assert "is refused" in str(caught.value)


def test_the_plain_array_that_the_faults_above_vary_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(array())
    assert read_pickle(tmp_path / "a")["data"].tobytes() == b"abc"


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"hello", array()[:-9], b"\x80\x02]R."])
def test_a_damaged_pickle_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(NasxError, match="not a whole pickle"):
        read_pickle(tmp_path / "a")


def test_a_pickle_of_a_list_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(NasxError, match="a list, not the dictionary"):
        read_pickle(write(tmp_path / "a", [1, 2]))


# --- the two forms of CIFAR-10, at 1/500 of their size --------------------------------------------


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
