"""The idx files in which MNIST was published: a big-endian header, then bytes; often gzipped."""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nasx.errors import NasxError
from nasx.tasks.cache import Bytes

LARGEST = 2**30  # bytes that a file may unpack to
BYTES = 0x08  # the code of unsigned bytes, the third byte of a file


def unpack_idx(content: bytes, path: Path, dimensions: int) -> Bytes:
    """Return the array of an idx file of unsigned bytes with this many dimensions.

    `path` names it in refusals, and says by its suffix .gz that it is packed. Nothing is unpacked
    beyond what its header announces. Raises NasxError for any other content.
    """
    stream: io.BytesIO | gzip.GzipFile = io.BytesIO(content)
    if path.suffix == ".gz":
        stream = gzip.GzipFile(fileobj=stream)
    try:
        head = stream.read(4 + 4 * dimensions)
        if len(head) < 4 + 4 * dimensions or head[:4] != bytes([0, 0, BYTES, dimensions]):
            raise NasxError(f"{path} is no idx file of {dimensions}-dimensional bytes")
        shape = struct.unpack(f">{dimensions}I", head[4:])
        size = math.prod(shape)
        if size > LARGEST:
            raise NasxError(f"{path} announces {size:,} bytes: more than an idx file here may hold")
        data = stream.read(size)
        data += stream.read(1)  # nothing, and then the check sum of a packed file was right
    except (OSError, EOFError, zlib.error) as error:
        raise NasxError(f"{path} cannot be unpacked ({error}); copy the file again") from error
    if len(data) != size:
        less = "fewer" if len(data) < size else "more"
        raise NasxError(f"{path} holds {less} than the {size:,} bytes it announces; copy it again")
    return np.frombuffer(data, np.uint8).reshape(shape)
