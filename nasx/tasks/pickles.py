"""Reading old data archives that are pickles, without running anything that they name.

A pickle may name any function and have it called. Here the names of numpy's array reconstruction
lead to two plain classes of ours, every other name is refused, and the bytes of an array are read
by us: no code outside this file runs on what the archive holds.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from nasx.errors import NasxError

NUMBERS = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"}
DEPTH = 8  # of lists and dictionaries within each other
STORES = {"PUT", "BINPUT", "LONG_BINPUT"}  # the operations that number a value for later use
NDARRAY = object()  # stands for the type numpy.ndarray; has no attribute that could be set


class _Refused(Exception):
    """What an archive holds that it may not."""


class _Dtype:
    """The number format of an array in the archive: what numpy.dtype was called with."""

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        text = code.decode("ascii", "replace") if isinstance(code, bytes) else code
        if text not in NUMBERS:
            raise _Refused(f"an array of {text!r}")
        self.code = str(text)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1].decode("ascii", "replace") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise _Refused(f"an array of byte order {order!r}")
        self.order = order


class _Array:
    """An array in the archive: what numpy.ndarray.__setstate__ was called with."""

    value: np.ndarray[Any, Any] | None = None

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not NDARRAY:
            raise _Refused("an array of a foreign type")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise _Refused("an array without plain numbers")
        numbers = np.dtype(dtype.order + dtype.code)
        lengths = all(isinstance(n, int) and n >= 0 for n in shape)
        if not lengths or math.prod(shape) * numbers.itemsize != len(raw):
            raise _Refused("an array whose size is not that of its data")
        flat = np.frombuffer(raw, numbers)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


# Nothing here may be a function: an archive may set attributes of what it names.
ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): _Dtype,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise _Refused(f"the global {module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def read_pickle(path: Path) -> dict[str, Any]:
    """Return the dictionary in an archive: arrays, bytes, str, dict, list and int only.

    Byte strings that are keys (Python 2 wrote them) become str. Raises NasxError naming the file
    and the first global, type or damage that it refuses.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NasxError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        _scan(data)
        value = _plain(_Reader(io.BytesIO(data), encoding="bytes").load(), 0, set())
    except _Refused as refused:
        raise NasxError(
            f"{path} is refused: it holds {refused}, and an archive may hold arrays, bytes, "
            "str, dict, list and int only; get the file again from its publisher"
        ) from None
    except Exception as error:  # a damaged pickle may raise nearly anything, and all means this
        raise NasxError(
            f"{path} is not a whole pickle ({type(error).__name__}); get the file again"
        ) from error
    if not isinstance(value, dict):
        raise NasxError(f"{path} holds a {type(value).__name__}, not the dictionary of an archive")
    return value


def _scan(data: bytes) -> None:
    """Refuse numbers of values that no writer gives: the reader makes room for all below them."""
    stored = 0
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in STORES:
            stored += 1
            if isinstance(argument, int) and argument > stored:
                raise _Refused(f"a value numbered {argument} after {stored - 1} others")


def _plain(value: Any, depth: int, met: set[int]) -> Any:
    """Return the value with its arrays built, or refuse its type.

    `met` are the ids of the lists and dictionaries seen: a few hundred bytes of lists that hold
    one list many times would stand for billions of values.
    """
    if isinstance(value, _Array) and value.value is not None:
        return value.value
    if type(value) in (bytes, str, int):
        return value
    if type(value) not in (dict, list):
        raise _Refused(f"a {type(value).__name__}")
    if id(value) in met:
        raise _Refused(f"a {type(value).__name__} in two places")
    if depth > DEPTH:
        raise _Refused("lists nested too deeply")
    met.add(id(value))
    if type(value) is list:
        return [_plain(v, depth + 1, met) for v in value]
    return {_key(k): _plain(v, depth + 1, met) for k, v in value.items()}


def _key(key: Any) -> str:
    if type(key) is bytes:
        return key.decode("utf-8", "replace")
    if type(key) is str:
        return key
    raise _Refused(f"a key of type {type(key).__name__}")
