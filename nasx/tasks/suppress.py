"""From the answers of a dense detector to boxes: the best ones, each object once.

Greedy suppression for each class apart, exact: solved for all images at once by repeating "a box
stays unless a better one that stays overlaps it" until nothing changes, which is where the greedy
order ends, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nasx.tasks.dense import corners_of

LEAST = 0.05  # chance below which a box is not looked at
LOOKED = 128  # boxes of an image that are looked at, the best ones
KEPT = 100  # of an image, at most: as many as COCO scores
OVERLAP = 0.6  # intersection over union from which on two boxes of a class are one object


@dataclass(frozen=True)
class Found:
    """The boxes of one image, best first: corners (n, 4), chances (n,), classes (n,)."""

    corners: Tensor
    chances: Tensor
    labels: Tensor


def decode(output: Tensor, places: Tensor, size: tuple[int, int]) -> list[Found]:
    """Return what answers (N, P, 4 + classes) find on images of `size` (height, width) pixels.

    Boxes are cut off at the border. `places` (P, 2) are the points.
    """
    chance, flat = (
        torch.sigmoid(output[..., 4:]).flatten(1).topk(min(LOOKED, output[0, :, 4:].numel()), dim=1)
    )
    classes = output.shape[-1] - 4
    label, point = flat % classes, flat // classes
    sides = output[..., :4].gather(1, point[..., None].expand(-1, -1, 4))
    high, wide = size
    corners = corners_of(places[point], sides).clamp(min=0)
    corners = corners.minimum(torch.tensor([wide, high, wide, high], dtype=corners.dtype))
    stays = survivors(corners, label, chance > LEAST)
    found = []
    for boxes, chances, labels, kept in zip(corners, chance, label, stays, strict=True):
        rows = kept.nonzero()[:KEPT, 0]
        found.append(Found(boxes[rows], chances[rows], labels[rows]))
    return found


def survivors(corners: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Return which of the boxes (N, K, 4), best first, survive greedy suppression by class (N, K).

    A box that is not `valid` neither survives nor suppresses.
    """
    beaten_by = overlaps(corners) > OVERLAP
    beaten_by &= labels[:, :, None] == labels[:, None]
    beaten_by &= valid[:, :, None] & valid[:, None]
    beaten_by = beaten_by.tril(-1)  # row i may be beaten by the better columns j < i
    stays = valid
    while True:
        after = valid & ~(beaten_by & stays[:, None]).any(-1)
        if torch.equal(after, stays):
            return stays
        stays = after


def overlaps(corners: Tensor) -> Tensor:
    """Return the intersection over union (N, K, K) of all pairs of boxes of an image."""
    low = torch.maximum(corners[:, :, None, :2], corners[:, None, :, :2])
    high = torch.minimum(corners[:, :, None, 2:], corners[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (corners[..., 2:] - corners[..., :2]).prod(-1)
    return shared / (area[:, :, None] + area[:, None] - shared).clamp(min=1e-9)
