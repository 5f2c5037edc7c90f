"""Small PNGs of what a classifier says of an image."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from nasx.tasks.cache import Bytes

SIDE = 128  # pixels of the longer side as drawn
LINE = 14  # pixels of one line of text
RIGHT, WRONG = (18, 110, 60), (170, 40, 30)


def write_picture(path: Path, image: Bytes, true: str, said: str) -> None:
    """Write an (H, W, C) uint8 image with its true and predicted class below it."""
    height, width, channels = image.shape
    shown = Image.fromarray(image[..., 0] if channels == 1 else image).convert("RGB")
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    enlarging = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BILINEAR
    canvas = Image.new("RGB", (SIDE, size[1] + 2 * LINE + 4), "white")
    canvas.paste(shown.resize(size, enlarging), ((SIDE - size[0]) // 2, 0))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    colour = RIGHT if true == said else WRONG
    pen.text((3, size[1] + 2), f"true  {true[:16]}", fill=(40, 40, 40), font=font)
    pen.text((3, size[1] + 2 + LINE), f"said  {said[:16]}", fill=colour, font=font)
    canvas.save(path, "PNG")
