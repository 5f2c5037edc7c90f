"""The cache of decoded data: made once, seen when damaged, refused when it has no room."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from nasx.errors import NasxError
from nasx.tasks import cache
from nasx.tasks.cache import Bytes, cached, digest


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Filler:
    """Count how often an array is made."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, out: Bytes) -> None:
        self.calls += 1
        out[:] = np.arange(out.size, dtype=np.uint8).reshape(out.shape)


def test_an_array_is_made_once_and_then_mapped_read_only(folder: Path) -> None:
    fill = Filler()
    first = cached("set", digest("a"), (5, 4, 3), fill)
    again = cached("set", digest("a"), (5, 4, 3), fill)
    assert fill.calls == 1
    assert isinstance(again.array, np.memmap)
    assert not again.array.flags.writeable
    np.testing.assert_array_equal(again.array, np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
    assert first.sha256 == again.sha256
    assert not list(folder.glob("*.tmp"))


def test_numpy_alone_can_read_the_file(folder: Path) -> None:
    cached("set", digest("a"), (5, 4), Filler())
    (path,) = folder.glob("*.npy")
    np.testing.assert_array_equal(np.load(path).reshape(-1), np.arange(20))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-cache.DIGEST - 5] ^= 255
    path.write_bytes(data)


def blank(path: Path) -> None:
    path.write_bytes(b"")


def no_header(path: Path) -> None:
    path.write_bytes(b"nonsense" * 20)


@pytest.mark.parametrize("damage", [cut, flip, blank, no_header])
def test_a_damaged_file_is_made_again(folder: Path, damage: object) -> None:
    fill = Filler()
    cached("set", digest("a"), (50, 4), fill)
    (path,) = folder.glob("*.npy")
    assert callable(damage)
    damage(path)
    found = cached("set", digest("a"), (50, 4), fill)
    assert fill.calls == 2
    np.testing.assert_array_equal(found.array.reshape(-1), np.arange(200))


def test_a_full_disk_is_refused_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = Filler()
    monkeypatch.setattr(cache, "free_bytes", lambda _: cache.RESERVE + 2**20 - 1)
    with pytest.raises(NasxError, match=r"needs 1 MiB .*NASX_CACHE") as caught:
        cached("set", digest("a"), (1024, 1024), fill)
    assert "\n" not in str(caught.value)
    assert fill.calls == 0
    assert not list(folder.glob("set-*.npy"))


def test_a_fault_while_filling_leaves_no_file(folder: Path) -> None:
    def fail(out: Bytes) -> None:
        out[0] = 1
        raise NasxError("a corrupt image")

    with pytest.raises(NasxError, match="corrupt image"):
        cached("set", digest("a"), (5, 4), fail)
    assert not [p for p in folder.iterdir() if p.suffix != ".lock"]


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(NasxError, match="cannot write the data cache"):
        cached("set", digest("a"), (5, 4), Filler())


def _make(folder: str, started: str) -> None:
    os.environ["NASX_CACHE"] = folder

    def fill(out: Bytes) -> None:
        with Path(started).open("a") as file:
            file.write("x")
        out[:] = 7

    assert int(cached("set", digest("a"), (100, 100), fill).array[99, 99]) == 7


def test_two_processes_write_one_file(tmp_path: Path, folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = str(tmp_path / "log")
    both = [context.Process(target=_make, args=(str(folder), log)) for _ in range(4)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [process.exitcode for process in both] == [0] * 4
    assert Path(log).read_text() == "x"


def test_digests_keep_their_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", 1) == digest("a", 1)
