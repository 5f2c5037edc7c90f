"""The restricted reader of archives: what they may hold, and what is refused."""

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archives import Calls, named, python2, write
from nasx.errors import NasxError
from nasx.tasks import pickles
from nasx.tasks.pickles import read_pickle


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
        (b"\x80\x02}X\x01\x00\x00\x00acnumpy\nndarray\ns.", "an? object"),
        (b"\x80\x02]q\x00h\x00a.", "a list in two places"),
        (b"\x80\x02}U\x01a" + b"]" * 40 + b"a" * 39 + b"s.", "nested too deeply"),
        (b"\x80\x02}r" + struct.pack("<I", 2**27) + b".", "a value numbered 134217728 after 0"),
        (b"}p999999999\n.", "a value numbered 999999999"),
        (b"\x80\x02U\x03tagQ.", "a persistent id"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\nK\x00K\x00tR.", "foreign"),
    ],
)
def test_what_an_archive_may_not_hold_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(NasxError, match=words) as caught:
        read_pickle(tmp_path / "a")
    assert "is refused" in str(caught.value)


def test_few_bytes_that_stand_for_billions_of_values_are_refused(tmp_path: Path) -> None:
    lists: Any = [1] * 10
    for _ in range(6):
        lists = [lists] * 40
    tables: Any = {"a": 1}
    for _ in range(6):
        tables = {str(i): tables for i in range(40)}
    for value, kind in (({"a": lists}, "list"), (tables, "dict")):
        (tmp_path / "a").write_bytes(pickle.dumps(value, 2))
        with pytest.raises(NasxError, match=f"a {kind} in two places"):
            read_pickle(tmp_path / "a")


@pytest.mark.parametrize("module", ["numpy.core.multiarray\n_reconstruct", "numpy\nndarray"])
def test_an_archive_sets_no_attribute_of_what_it_names(tmp_path: Path, module: str) -> None:
    before = {name: dict(vars(kind)) for name, kind in vars(pickles).items() if callable(kind)}
    states = [b"}U\x01xK\x01s", b"N}(X\x0c\x00\x00\x00__defaults__(K\x01K\x02tu\x86"]
    for state in states:
        (tmp_path / "a").write_bytes(b"\x80\x02}c" + module.encode() + b"\n" + state + b"b0.")
        with pytest.raises(NasxError, match="not a whole pickle"):
            read_pickle(tmp_path / "a")
    after = {name: dict(vars(kind)) for name, kind in vars(pickles).items() if callable(kind)}
    assert after == before


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
