"""Compile the kernels in C++ that layers of ours run on, and register them as torch operators.

    kernels = library("adder")        # adder.cpp beside this file, as a ctypes library, or None
    conv = operator("adder(Tensor x, Tensor w) -> Tensor", kernel, fake)   # torch.ops.nasx.adder

The only place that compiles. What is compiled is kept in ~/.cache/nasx/native ($NASX_CACHE), under
a name that depends on the source, the flags, the compiler and the processor. Without a compiler,
or with one that fails, `library` gives None and says so once; layers then take plain torch.

Sources are one file each, with a plain C interface, and may use GCC's vector extensions and
OpenMP; they take the number of threads as an argument. $NASX_ISA (avx512, avx2 or portable) asks
for less than the processor has.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from nasx.errors import NasxError
from nasx.files import cache_folder

log = logging.getLogger("nasx")

# What a processor must have for a level, and what the compiler is then told; the best comes first.
LEVELS: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "avx512": (
        frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma"}),
        ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    ),
    "avx2": (frozenset({"avx2", "fma", "bmi2"}), ("-march=x86-64-v3",)),
    "portable": (frozenset(), ()),
}
# Extensions that the best level uses where the processor has them.
EXTRA = {
    "avx512_vpopcntdq": "-mavx512vpopcntdq",
    "avx512_bitalg": "-mavx512bitalg",
    "avx512_vnni": "-mavx512vnni",
}
COMMON = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-Wall")
SECONDS = 120  # that one compilation may take

OPERATORS = torch.library.Library("nasx", "FRAGMENT")  # type: ignore[no-untyped-call]


def operator(
    schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """Register `kernel` as torch.ops.nasx.NAME, NAME being the first word of `schema`.

    `fake` answers with an empty tensor of the output's shape: counting on shapes, torch.export and
    AOTInductor follow it. A gradient is registered by torch.library.register_autograd.
    """
    name = OPERATORS.define(schema)  # type: ignore[no-untyped-call]
    OPERATORS.impl(name, kernel, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"nasx::{name}", fake, lib=OPERATORS)
    found: Callable[..., Any] = getattr(torch.ops.nasx, name)
    return found


def unwatched(x: Tensor) -> bool:
    """Return whether a call on `x` computes and nothing more: no gradient, trace, count or export.

    Then a layer may call its kernel without torch's dispatcher, which takes longer than small
    layers bear (some 10 microseconds a call of an operator in Python) and would do nothing.
    """
    return (
        type(x) is Tensor
        and not torch.is_grad_enabled()
        and not is_in_torch_dispatch_mode()
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


@functools.cache
def processor_flags() -> frozenset[str]:
    """Return the vector extensions of this processor by their names in /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    values = (line.partition(":") for line in lines)
    found = (value.split() for name, _, value in values if name.strip() in ("flags", "Features"))
    return frozenset(next(found, ()))


def isa() -> str:
    """Return the level that kernels are compiled for: $NASX_ISA, or the best one here.

    NasxError where $NASX_ISA is no level, or one that this processor does not have.
    """
    asked = os.environ.get("NASX_ISA")
    here = [name for name, (needs, _) in LEVELS.items() if needs <= processor_flags()]
    if not asked:
        return here[0]
    if asked not in LEVELS:
        raise NasxError(f"NASX_ISA={asked} is not one of {', '.join(LEVELS)}; correct or unset it")
    if asked not in here:
        raise NasxError(
            f"NASX_ISA={asked}: this processor has only {', '.join(here)}; name one of these, or "
            "unset it"
        )
    return asked


def library(name: str) -> ctypes.CDLL | None:
    """Return the kernels of NAME.cpp beside this file for `isa()`; None where none can be made."""
    found = os.environ.get  # layers ask at every call: a look-up, as long as these stay
    return _library(name, found("NASX_ISA"), found("CXX"), found("NASX_CACHE"), found("HOME"))


@functools.cache
def _library(name: str, *environment: str | None) -> ctypes.CDLL | None:
    try:
        source = Path(__file__).with_name(f"{name}.cpp").read_bytes()
        compiler = _command(os.environ.get("CXX") or "g++")
        version = _run([*compiler, "--version"]).stdout
        command = [*compiler, *COMMON, *flags(isa())]
        return _loaded(_compiled(name, source, command, version, cache_folder() / "native"))
    except _Failed as error:
        log.warning("%s: layers run on slower plain torch", error)
        return None


def _command(compiler: str) -> list[str]:
    """Return the words of a command that is there."""
    try:
        command = shlex.split(compiler)
    except ValueError as error:
        raise _Failed(f"CXX={compiler} cannot be read as a command ({error})") from error
    if not command or shutil.which(command[0]) is None:
        raise _Failed(
            f"there is no C++ compiler '{compiler}' (install g++, or name another in the "
            "environment variable CXX)"
        )
    return command


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # a folder from which nothing may be run, or no library at all
        raise _Failed(f"{path} cannot be loaded ({error})") from error


def flags(level: str) -> tuple[str, ...]:
    """Return what the compiler is told for a level on this processor."""
    extra = tuple(flag for name, flag in EXTRA.items() if name in processor_flags())
    return LEVELS[level][1] + (extra if level == "avx512" else ())


class _Failed(Exception):
    """Say in one line why a kernel could not be made."""


def _compiled(name: str, source: bytes, command: list[str], version: str, folder: Path) -> Path:
    """Return the compiled library, from the cache or made now by one process for all."""
    machine = [platform.machine(), *sorted(processor_flags())]
    parts = (source, " ".join(command).encode(), version.encode(), " ".join(machine).encode())
    key = hashlib.sha256(b"".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()[:16]
    path = folder / f"{name}-{key}.so"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        demand_private(folder)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _intact(path):
                _compile(source, command, path)
        return path
    except OSError as error:
        raise _Failed(
            f"kernels cannot be kept in {folder} ({error.strerror or error}; set NASX_CACHE to a "
            "folder of yours with room)"
        ) from error


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _Failed(f"'{command[0]}' did not answer within {SECONDS} s") from error
    except OSError as error:
        raise _Failed(f"'{command[0]}' cannot be run ({error.strerror or error})") from error


def demand_private(folder: Path) -> None:
    """Refuse a folder in which somebody else could put a library: OSError says why."""
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"it belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def _intact(path: Path) -> bool:
    """Return whether a compiled library is there, is what was written, and by this user."""
    try:
        wanted = path.with_suffix(".sha256").read_text()
        ours = path.stat().st_uid == os.getuid()
        return ours and hashlib.sha256(path.read_bytes()).hexdigest() == wanted
    except OSError:
        return False


def _compile(source: bytes, command: list[str], path: Path) -> None:
    """Compile beside `path` and put the library in its place whole, its hash first."""
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        unit, made = Path(scratch) / f"{path.stem}.cpp", Path(scratch) / path.name
        unit.write_bytes(source)
        done = _run([*command, str(unit), "-o", str(made)])
        if done.returncode or not made.is_file():
            lines = [s for s in done.stderr.splitlines() if "error" in s] or [
                f"exit code {done.returncode}"
            ]
            raise _Failed(f"'{command[0]}' cannot compile {path.stem}.cpp ({lines[0].strip()})")
        path.unlink(missing_ok=True)
        path.with_suffix(".sha256").write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        made.replace(path)
