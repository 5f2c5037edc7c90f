"""A folder of small pictures for the task `photos`, where it is not photographs that are tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 100  # pixels: an input of 24 enlarged by 4 fits


def write(folder: Path) -> str:
    """Write ten pictures of soft blots with a little grain; return their folder."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        soft = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
        grain = rng.integers(-20, 21, soft.shape)
        Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return str(folder)
