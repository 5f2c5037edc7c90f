"""How close an image is to the truth: PSNR and SSIM on luma, as the restoration literature does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # of R, G, B in 0 to 255 (ITU-R BT.601)
BLACK = 16.0
WINDOW, SIGMA = 11, 1.5  # of SSIM
CEILING = 100.0  # dB
STEADY = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)


def luma(image: Tensor) -> Tensor:
    """Return Y (H, W) float64 in 16 to 235 of an RGB image (3, H, W) in 0 to 255.

    In whole levels, as MATLAB's rgb2ycbcr gives for bytes: the published numbers were taken so.
    """
    weights = torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)
    return (BLACK + (image.double() * weights).sum(0)).round()


def eight_bits(image: Tensor) -> Tensor:
    """Return an image in [0, 1] as the levels 0 to 255 of a file, still floating."""
    return (image.clamp(0, 1) * 255).round()


def psnr(image: Tensor, truth: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB of Y (H, W) in 0 to 255.

    Images that agree have no error to put a number on: they, too, are held to CEILING.
    """
    error = float((image - truth).square().mean())
    return min(CEILING, 10 * math.log10(255**2 / error)) if error > 0 else CEILING


def ssim(image: Tensor, truth: Tensor) -> float:
    """Return the mean structural similarity of Y (H, W), at least 11 x 11, in 0 to 255.

    Gaussian window of 11 pixels and deviation 1.5, only where it fits whole (Wang et al., IEEE TIP
    13 (4), 2004).
    """
    x, y = image, truth
    means = _blurred(torch.stack([x, y, x * x, y * y, x * y]))
    mx, my, xx, yy, xy = means.unbind(0)
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    c1, c2 = STEADY
    top = (2 * mx * my + c1) * (2 * cov + c2)
    return float((top / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())


def _blurred(planes: Tensor) -> Tensor:
    """Return Gaussian means (N, H - 10, W - 10) of planes (N, H, W)."""
    at = torch.arange(WINDOW, dtype=planes.dtype) - WINDOW // 2
    line = torch.exp(-(at**2) / (2 * SIGMA**2))
    first, *others = (line / line.sum()).tolist()
    for axis in (1, 2):
        length = planes.shape[axis] - WINDOW + 1
        # Sums of shifted planes: a convolution in double precision takes five times as long.
        total = planes.narrow(axis, 0, length) * first
        for shift, weight in enumerate(others, 1):
            total.add_(planes.narrow(axis, shift, length), alpha=weight)
        planes = total
    return planes


def fidelity(image: Tensor, truth: Tensor, crop: int) -> dict[str, float]:
    """Return psnr in dB and ssim of RGB images (3, H, W) in [0, 1], rounded to 8 bits.

    `crop` pixels at every edge do not count: no method can know what lies beyond it.
    """
    height, width = truth.shape[-2:]
    inner = (slice(crop, height - crop), slice(crop, width - crop))
    x, y = (luma(eight_bits(i))[inner] for i in (image, truth))
    return {"psnr": psnr(x, y), "ssim": ssim(x, y)}
