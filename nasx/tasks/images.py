"""Reading one image file to a square of bytes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from nasx.errors import NasxError
from nasx.tasks.cache import Bytes

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(path.read_bytes())) as image:
                image.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction
                upright = _three_channels(ImageOps.exif_transpose(image))
        small = ImageOps.fit(upright, (side, side), Image.Resampling.BILINEAR)
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
    return np.asarray(small)


def _three_channels(image: Image.Image) -> Image.Image:
    """Return the image as RGB; what is transparent shows the colour stored there."""
    if image.mode.startswith("I;16"):  # Pillow itself would cut 16 bits off at 255: all white
        high = np.asarray(image).astype(np.uint16) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    if image.mode in ("P", "PA"):  # by this way, or Pillow warns of palettes with transparency
        image = image.convert("RGBA")
    return image.convert("RGB")
