"""Reading image files to bytes, whatever their format, size and mode."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nasx.errors import NasxError
from nasx.tasks.cache import Bytes

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 lie on their side


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and the folders below it; hidden files are none."""
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def read_square(path: Path, side: int) -> Bytes:
    """Return (side, side, 3) uint8: turned as the camera says, scaled, cut to the middle square.

    Raises NasxError naming the file when it cannot be decoded whole.
    """
    with decoding(path):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction
            upright = _three_channels(ImageOps.exif_transpose(image))
        return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR))


def read_whole(path: Path) -> Bytes:
    """Return an image (H, W, 3) uint8, turned as the camera says; see `read_square`."""
    with decoding(path), Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.asarray(_three_channels(ImageOps.exif_transpose(image)))


def extent(content: bytes, path: Path) -> tuple[int, int]:
    """Return the height and width that `read_whole` will give, from the file's header alone."""
    with decoding(path), Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        lying = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (width, height) if lying else (height, width)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except NasxError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise NasxError(f"{path} is too large an image to decode; shrink or remove it") from error
    except UnidentifiedImageError as error:
        raise NasxError(
            f"{path} is a corrupt image (in no known format); replace or remove it"
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError ...
        raise NasxError(
            f"{path} is a corrupt image ({str(error) or type(error).__name__}); "
            "replace or remove it"
        ) from error


def _three_channels(image: Image.Image) -> Image.Image:
    """Return the image as RGB; what is transparent shows the colour stored there."""
    if image.mode.startswith("I"):  # Pillow itself would cut 16 bits off at 255: all white
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its levels are no 16-bit ones")
        image = Image.fromarray((levels.astype(np.uint32) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its levels are floating-point numbers of no known range")
    if image.mode in ("P", "PA"):  # by this way, or Pillow warns of palettes with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
