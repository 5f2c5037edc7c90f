"""Contrastive losses over patches of images: those of one image are alike, of two are not.

Features are (N, T, dim): T patches of N images. Both forms compare all N T patches with each
other, so memory grows with (N T)^2: 16 images of 64 patches need 4 MB for the similarities, 64
images of 256 a gigabyte.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Form = Literal["paper", "released"]
STANDARD = 0.07  # the temperature that the released form is scaled by
LEAST = 1e-8


def contrast(features: Tensor, form: Form, temperature: float) -> Tensor:
    """Return the loss of one of the two forms; 0 for a single image, which has nothing beside it.

    "paper": arXiv:2012.00364, equation 4. "released": its code's loss, SupCon (arXiv:2004.11362,
    equation 2). They differ in value; the paper's may be negative.
    """
    if features.shape[0] < 2:
        return features.sum() * 0.0
    of = between_images if form == "paper" else supervised
    return of(features, temperature)


def between_images(features: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over images and pairs of patches of -log(e^(d alike) / sum e^(d others)).

    d is the cosine over the temperature; the sum runs over the patch at the second's place in all
    other images. Every pair of one image counts, a patch with itself too: N T^2 terms.
    """
    images, patches = features.shape[:2]
    d = _similar(features, temperature).view(images, patches, images, patches)
    d = d.permute(0, 2, 1, 3)  # (image, other image, patch, its patch)
    own = torch.eye(images, dtype=torch.bool, device=d.device)[:, :, None, None]
    others = d.masked_fill(own, -math.inf).logsumexp(1)
    alike = d.diagonal(dim1=0, dim2=1).permute(2, 0, 1)
    return (others - alike).mean()


def supervised(features: Tensor, temperature: float = STANDARD) -> Tensor:
    """Return the mean over patches of -log(e^d alike / sum e^d of all others), scaled to .07.

    The mean is taken over the other patches of the image; they stand in the sum, too.
    """
    images, patches = features.shape[:2]
    d = _similar(features, temperature)
    itself = torch.eye(len(d), dtype=torch.bool, device=d.device)
    # The code subtracts a row's largest, a patch with itself, and keeps the logarithm from 0.
    largest = 1 / temperature
    every = (d - largest).exp().masked_fill(itself, 0.0).sum(1).add(LEAST).log() + largest
    image = torch.arange(images, device=d.device).repeat_interleave(patches)
    alike = (image[:, None] == image[None, :]) & ~itself
    mean = d.masked_fill(~alike, 0.0).sum(1) / max(1, patches - 1)
    return (every - mean).mean() * (temperature / STANDARD)


def _similar(features: Tensor, temperature: float) -> Tensor:
    """Return the cosine of every two patches over the temperature, (N T, N T)."""
    unit = functional.normalize(features.flatten(0, 1), dim=-1)
    return unit @ unit.T / temperature
