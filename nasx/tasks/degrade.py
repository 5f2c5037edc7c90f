"""What spoils an image: shrinking by 2, 3 or 4, Gaussian noise, or rendered streaks of rain.

Streaks are drawn, not photographed: white lines of one slant for each image, added to it. Say
"rendered streaks" where scores on them are reported.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from nasx.errors import NasxError
from nasx.tasks.bicubic import enlarge, shrink, to_bytes
from nasx.tasks.cache import Bytes
from nasx.tasks.mixture import weights_of

Planes = npt.NDArray[np.float32]

NAMES = "x2, x3, x4, denoise, denoise10 to denoise70, derain"
SIGMA = (10.0, 70.0)  # levels of 255, between which noise may lie
RENDERING = 1  # raise it when what is drawn below changes: cached images are then made again
LENGTH = (8, 24)  # pixels of a streak
SLANT = 35  # degrees from the vertical, at most
DENSITY = (0.002, 0.008)  # of pixels in which a streak begins
WHITE = (0.25, 0.6)  # of full white, that the brightest streak adds


@dataclass(frozen=True)
class Degradation:
    """One way to spoil images, and the head of the network that mends it.

    `scale` is 1 where the size stays. `sigma` bounds the noise's standard deviation in levels of
    255, drawn afresh for each image.
    """

    name: str
    scale: int = 1
    sigma: tuple[float, float] = (0.0, 0.0)

    @property
    def crop(self) -> int:
        """Return the pixels at every edge that are not scored."""
        return self.scale if self.scale > 1 else 0

    @property
    def drawn(self) -> bool:
        """Return whether it takes random numbers, and so differs from pass to pass."""
        return self.scale == 1

    def words(self) -> str:
        """Return what it does to an image, as one says it of a head."""
        if self.scale > 1:
            return f"{self.name}: shrunk by {self.scale} (antialiased bicubic)"
        if self.name == "derain":
            return f"{self.name}: rendered streaks of rain"
        low, high = self.sigma
        level = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return f"{self.name}: Gaussian noise of deviation {level} in levels of 255"

    def spoil(self, images: list[Bytes], generator: torch.Generator) -> list[Bytes]:
        """Return images (H, W, 3) as a file would hold them spoilt, each drawn for itself."""
        if self.scale > 1:
            return [shrink(image, self.scale) for image in images]
        if self.name == "derain":
            return [rain(image, generator) for image in images]
        return [noise(image, self.sigma, generator) for image in images]

    def untouched(self, image: Bytes) -> Bytes:
        """Return what one has without a network: the bicubic enlargement, or the image itself."""
        return enlarge(image, self.scale) if self.scale > 1 else image


def scale_of(name: str) -> int:
    """Return how many times larger than its input the answer of a head is: 3 for "x3"."""
    return int(name[1:]) if re.fullmatch("x[234]", name) else 1


def degradation(name: str, sigma: tuple[float, float]) -> Degradation | None:
    """Return the degradation of a head's name, or None; `sigma` is of the head "denoise"."""
    if scale_of(name) > 1:
        return Degradation(name, scale=scale_of(name))
    if name == "derain":
        return Degradation(name)
    if name == "denoise":
        return Degradation(name, sigma=sigma)
    level = re.fullmatch(r"denoise(\d\d)", name)
    if level and 10 <= int(level[1]) <= 70:
        return Degradation(name, sigma=(float(level[1]), float(level[1])))
    return None


def mixed(view: str, sigma: tuple[float, float]) -> dict[Degradation, float]:
    """Return the degradations of a mixture (`nasx.tasks.mixture`) with their weights."""
    found = {}
    for name, weight in weights_of(view).items():
        how = degradation(name, sigma)
        if how is None:
            raise NasxError(
                f"the view '{view}': there is no degradation '{name}'; valid are {NAMES}"
            )
        found[how] = weight
    return found


def noise(image: Bytes, sigma: tuple[float, float], generator: torch.Generator) -> Bytes:
    """Return an image (H, W, 3) under Gaussian noise, rounded and cut off at 0 and 255."""
    low, high = sigma
    deviation = low + (high - low) * float(torch.rand((), generator=generator))
    return to_bytes(image + deviation * torch.randn(image.shape, generator=generator).numpy())


def rain(image: Bytes, generator: torch.Generator) -> Bytes:
    """Return an image (H, W, 3) behind rendered streaks of one slant, length and density."""
    height, width = image.shape[:2]
    length, slant, density, white = torch.rand(4, generator=generator).tolist()
    layer = streaks(
        height,
        width,
        round(LENGTH[0] + (LENGTH[1] - LENGTH[0]) * length),
        math.radians(SLANT * (2 * slant - 1)),
        DENSITY[0] + (DENSITY[1] - DENSITY[0]) * density,
        generator,
    )
    strength = 255 * (WHITE[0] + (WHITE[1] - WHITE[0]) * white)
    return to_bytes(image + strength * layer[..., None])


def streaks(
    height: int,
    width: int,
    length: int,
    slant: float,
    density: float,
    generator: torch.Generator,
) -> Planes:
    """Return streaks (height, width) in [0, 1]; `slant` in radians from the vertical."""
    reach = math.ceil(length * abs(math.tan(slant))) + 1
    field = torch.rand(height + length, width + 2 * reach, generator=generator).numpy()
    # Each streak begins with a brightness of its own and fades to both of its ends.
    begun = np.where(field < density, 1 - 0.6 * field / density, 0).astype(np.float32)
    layer = np.zeros((height, width), np.float32)
    for step in range(length):
        fade = math.sin(math.pi * (step + 0.5) / length)
        along = reach + step * math.tan(slant)
        column, part = math.floor(along), along - math.floor(along)
        rows = begun[length - step : length - step + height]
        layer += fade * (1 - part) * rows[:, column : column + width]
        layer += fade * part * rows[:, column + 1 : column + 1 + width]
    return layer.clip(0, 1)
