"""Archives as others wrote them, and as somebody hostile would."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
