"""The room that compiles: once for all processes, never what somebody changed, never a crash."""

import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from nasx.errors import NasxError
from search_spaces._layers import _native
from search_spaces._layers._native import isa, library, operator

SOURCE = 'extern "C" int answer(int threads) { return 40 + threads; }\n'
CODE = (
    "import sys; from search_spaces._layers import _native; _native.__file__ = sys.argv[1];"
    "print(_native.library('tiny').answer(2))"
)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder with tiny.cpp, a cache of its own, and a g++ that writes down what it is told."""
    log = tmp_path / "told"
    compiler(tmp_path / "cxx", f'echo "$*" >> {log}; exec g++ "$@"')
    (tmp_path / "tiny.cpp").write_text(SOURCE)
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "_native.py"))
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(tmp_path / "cxx"))
    forget()
    yield tmp_path
    forget()


def forget():
    _native._library.cache_clear()


def compiler(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def compilations(room: Path) -> int:
    log = room / "told"
    return sum(" -o " in line for line in log.read_text().splitlines()) if log.exists() else 0


def made(room: Path) -> Path:
    (found,) = (room / "cache" / "native").glob("tiny-*.so")
    return found


def test_a_library_is_compiled_once(room):
    assert library("tiny").answer(2) == 42
    assert library("tiny") is library("tiny")
    forget()
    assert library("tiny").answer(2) == 42
    assert compilations(room) == 1


def test_another_source_is_another_library(room):
    assert library("tiny").answer(2) == 42
    (room / "tiny.cpp").write_text(SOURCE.replace("40", "50"))
    forget()
    assert library("tiny").answer(2) == 52
    assert compilations(room) == 2


def test_only_its_user_enters_the_cache(room):
    folder = room / "cache" / "native"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    library("tiny")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [p.suffix for p in sorted(folder.iterdir())] == [".lock", ".sha256", ".so"]


def test_a_changed_library_is_made_anew(room):
    library("tiny")
    content = made(room).read_bytes()
    for other in (content[: len(content) // 2], content[:-1] + b"?", b""):
        path = made(room)
        path.unlink()  # a loaded library must not be written over
        path.write_bytes(other)
        forget()
        assert library("tiny").answer(2) == 42
        assert made(room).read_bytes() == content
    assert compilations(room) == 4


def test_a_library_without_its_hash_is_made_anew(room):
    library("tiny")
    made(room).with_suffix(".sha256").unlink()
    forget()
    assert library("tiny").answer(2) == 42
    assert compilations(room) == 2


def test_a_library_of_another_user_is_not_loaded(room, monkeypatch):
    library("tiny")
    path = made(room)
    assert _native._intact(path)
    monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
    assert not _native._intact(path)
    with pytest.raises(PermissionError, match="belongs to user"):
        _native.demand_private(path.parent)


def test_two_processes_compile_once(room):
    (room / "waits").write_text("")
    compiler(
        room / "cxx",
        f'echo "$*" >> {room}/told; case "$*" in *" -o "*) touch {room}/compiling; '
        f'while [ -e {room}/waits ]; do sleep 0.01; done;; esac; exec g++ "$@"',
    )
    command = [sys.executable, "-c", CODE, str(room / "_native.py")]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    while not (room / "compiling").exists() and other.poll() is None:
        time.sleep(0.01)
    threading.Timer(0.2, (room / "waits").unlink).start()
    assert library("tiny").answer(2) == 42  # waits for the other process
    assert other.communicate(timeout=60)[0].strip() == "42"
    assert compilations(room) == 1


@pytest.mark.parametrize(
    ("cxx", "said"),
    [
        ("no-such-compiler", "there is no C++ compiler 'no-such-compiler' (install g++"),
        ("'", "CXX=' cannot be read as a command"),
        ("fails", "cannot compile tiny-"),
        ("garbage", "cannot be loaded"),
        ("silent", "(exit code 0)"),
        ("binary", "cannot be run (Exec format error)"),
    ],
)
def test_without_a_compiler_one_line_says_so(room, monkeypatch, caplog, cxx, said):
    scripts = {
        "fails": 'echo "tiny.cpp:1:1: error: no OpenMP" >&2; exit 1',
        "garbage": 'for last; do :; done; [ "$last" = --version ] || echo garbage > "$last"',
        "silent": "exit 0",
    }
    if cxx in scripts:
        cxx = str(compiler(room / cxx, scripts[cxx]))
    if cxx == "binary":
        (room / cxx).write_bytes(b"\x7fELF, not really")
        (room / cxx).chmod(0o755)
        cxx = str(room / cxx)
    monkeypatch.setenv("CXX", cxx)
    with caplog.at_level(logging.WARNING, "nasx"):
        assert library("tiny") is None
        assert library("tiny") is None
    (line,) = caplog.messages
    assert said in line
    assert "\n" not in line
    assert line.endswith("layers run on slower plain torch")


def test_a_source_that_does_not_compile_names_its_first_error(room, caplog):
    (room / "tiny.cpp").write_text("int answer( { }\n")
    with caplog.at_level(logging.WARNING, "nasx"):
        assert library("tiny") is None
    assert "error: expected" in caplog.messages[0]
    assert not list((room / "cache" / "native").glob("*.so"))


def test_a_cache_that_cannot_be_written_is_one_line(room, monkeypatch, caplog):
    (room / "file").write_text("")
    monkeypatch.setenv("NASX_CACHE", str(room / "file"))
    with caplog.at_level(logging.WARNING, "nasx"):
        assert library("tiny") is None
    assert "set NASX_CACHE to a folder of yours" in caplog.messages[0]


def test_a_level_can_be_asked_for(monkeypatch):
    monkeypatch.delenv("NASX_ISA", raising=False)
    assert isa() in _native.LEVELS
    monkeypatch.setenv("NASX_ISA", "portable")
    assert isa() == "portable"
    assert _native.flags("portable") == ()


def test_another_compiler_behind_the_same_command_is_another_library(room, monkeypatch):
    """As in CXX="ccache g++": the first word alone says nothing of who compiles."""
    (room / "version").write_text("one")
    compiler(room / "behind", f'[ "$*" = "g++ --version" ] && exec cat {room}/version; exec "$@"')
    monkeypatch.setenv("CXX", f"{room}/behind g++")
    assert library("tiny").answer(2) == 42
    (room / "version").write_text("two")
    forget()
    assert library("tiny").answer(2) == 42
    assert len(list((room / "cache" / "native").glob("tiny-*.so"))) == 2


def test_levels_are_libraries_of_their_own(room, monkeypatch):
    for level in ("portable", isa()):
        monkeypatch.setenv("NASX_ISA", level)
        assert library("tiny").answer(2) == 42
    assert compilations(room) == len({"portable", isa()})


def test_a_level_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("NASX_ISA", "sse9")
    with pytest.raises(NasxError, match="NASX_ISA=sse9 is not one of avx512, avx2, portable"):
        isa()


def test_a_level_that_this_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(_native, "processor_flags", lambda: frozenset({"avx2", "fma", "bmi2"}))
    monkeypatch.setenv("NASX_ISA", "avx512")
    with pytest.raises(NasxError, match="NASX_ISA=avx512: this processor has only avx2, portable"):
        isa()


def test_an_operator_has_a_shape_before_it_runs():
    double = operator(
        "test_native_double(Tensor x) -> Tensor", lambda x: 2 * x, lambda x: torch.empty_like(x)
    )
    assert double(torch.ones(3)).tolist() == [2, 2, 2]
    with FakeTensorMode() as mode:
        shape = double(mode.from_tensor(torch.ones(3)))
    assert isinstance(shape, FakeTensor)
    assert shape.shape == (3,)
