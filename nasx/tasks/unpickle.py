"""One restricted unpickler, for the CIFAR archives: numbers, text, lists, dicts and arrays only.

A pickle is a program. Here every global it names is refused but the three that rebuild a NumPy
array, and those may only make plain arrays of numbers.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from nasx.errors import NasxError

ARRAYS = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds; NasxError naming the file and the first global refused."""

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module in ARRAYS and name == "_reconstruct":
                return _reconstruct
            if module == "numpy" and name == "ndarray":
                return np.ndarray
            if module == "numpy" and name == "dtype":
                return _dtype
            raise NasxError(
                f"{path}: refused to read: it asks for {module}.{name}, which no archive has"
            )

        def persistent_load(self, pid: Any) -> Any:
            raise NasxError(f"{path}: refused to read: it refers to objects outside the file")

    try:
        return Restricted(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except NasxError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise NasxError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise NasxError("refused to read: an array of an unknown kind")
    return np.ndarray(shape, np.dtype("u1") if code in (b"b", "b") else _dtype(code))


def _dtype(code: Any, *_: Any) -> np.dtype[Any]:
    text = code.decode() if isinstance(code, bytes) else str(code)
    if text not in ("u1", "i1", "i8", "f8", "i4", "f4", "b"):
        raise NasxError(f"refused to read: arrays of type '{text}'")
    return np.dtype(text)
