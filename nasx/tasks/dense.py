"""What the points of a dense detector should answer, and the loss of what they do.

    rows = points((96, 96), (4, 8, 16))         # (P, 2) places, (P,) strides
    loss = detection_loss(output, rows, truth)  # output (N, P, 4 + classes)

After "FCOS: Fully Convolutional One-Stage Object Detection" (arXiv:1904.01355): every level has a
range of box sizes (section 3.2), points near a box's middle answer for it (centre sampling, of the
extended version, arXiv:2006.09214), the smallest box wins. Classes have focal loss
(arXiv:1708.02002, equation 5), boxes the generalised IoU (arXiv:1902.09630).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

RADIUS = 1.5  # of centre sampling, in strides
# In strides, the farthest side of a box for which a level still answers. FCOS has 8 on images of
# 800 pixels; with 4 each level meets boxes of 4 to 8 cells, and small images use all their levels.
REACH = 4.0
ALPHA, GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class Truth:
    """Boxes of a batch, padded: `corners` (N, M, 4), `labels` (N, M) with -1 where there is none.

    `ignored` (N, K, 4) are regions in which nothing is taught, `NaN` where there is none.
    """

    corners: Tensor
    labels: Tensor
    ignored: Tensor


@functools.lru_cache(maxsize=64)
def points(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the points (P, 2) as x, y in input pixels, and the stride (P,) of each.

    Level after level by rising stride, then by rows: a level has a point in the middle of each of
    its ceil(h / s) x ceil(w / s) cells.
    """
    places, steps = [], []
    for stride in strides:
        rows, columns = (math.ceil(side / stride) for side in size)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        places.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        steps.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(places), torch.cat(steps)


def padded(flat: Tensor, offsets: Tensor, fill: float) -> Tensor:
    """Return rows (M, k) of images one after another as (N, most, k), filled up with `fill`."""
    counts = offsets.diff()
    count = len(counts)
    most = max(1, int(counts.max())) if count else 1
    out = flat.new_full((count, most, flat.shape[1]), fill)
    image = torch.repeat_interleave(torch.arange(count, device=flat.device), counts)
    out[image, torch.arange(len(flat), device=flat.device) - offsets[image]] = flat
    return out


def assign(rows: tuple[Tensor, Tensor], truth: Truth) -> tuple[Tensor, Tensor]:
    """Return which box (N, P) each point answers for, -1 for none, and where none is taught.

    Points of no box that lie in an ignored region teach nothing: neither box nor background.
    """
    places, steps = rows
    x0, y0, x1, y1 = truth.corners[:, None].unbind(-1)  # (N, 1, M)
    x, y = places[:, 0, None], places[:, 1, None]  # (P, 1)
    sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y], -1)  # (N, P, M, 4)
    near = torch.maximum((x - (x0 + x1) / 2).abs(), (y - (y0 + y1) / 2).abs())
    far, step = sides.amax(-1), steps[:, None]
    low = torch.where(step > steps.min(), REACH / 2 * step, 0.0)
    high = torch.where(step < steps.max(), REACH * step, math.inf)
    mine = (sides.amin(-1) > 0) & (near < RADIUS * step) & (far > low) & (far <= high)
    mine &= truth.labels[:, None] >= 0
    area = ((x1 - x0) * (y1 - y0)).expand_as(far).masked_fill(~mine, math.inf)
    least, box = area.min(-1)
    box = box.masked_fill(least == math.inf, -1)
    gx0, gy0, gx1, gy1 = truth.ignored[:, None].unbind(-1)
    inside = (x >= gx0) & (x <= gx1) & (y >= gy0) & (y <= gy1)
    return box, inside.any(-1) & (box < 0)


def detection_loss(output: Tensor, rows: tuple[Tensor, Tensor], truth: Truth) -> Tensor:
    """Return focal loss over classes plus 1 - GIoU over boxes, both by the number of points taken.

    `output` (N, P, 4 + classes): distances to the left, top, right and lower side in pixels, then
    class logits.
    """
    box, silent = assign(rows, truth)
    taken = box >= 0
    image, point = taken.nonzero(as_tuple=True)
    chosen = box[image, point]
    count = max(1, len(image))
    logits = output[..., 4:]
    target = torch.zeros_like(logits)
    target[image, point, truth.labels[image, chosen]] = 1.0
    classes = focal(logits, target).sum(-1).masked_fill(silent, 0.0).sum() / count
    places = rows[0][point]
    found = corners_of(places, output[image, point, :4])
    overlap = giou(found, truth.corners[image, chosen])
    return classes + (1 - overlap).sum() / count


def corners_of(places: Tensor, sides: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 (..., 4) of distances (..., 4) from places (..., 2)."""
    return torch.cat([places - sides[..., :2], places + sides[..., 2:]], -1)


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Return the focal loss of each logit, of the shape of both."""
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    chance = torch.sigmoid(logits)
    miss = torch.where(target > 0, 1 - chance, chance)
    return torch.where(target > 0, ALPHA, 1 - ALPHA) * miss**GAMMA * plain


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised intersection over union (k,) of corners (k, 4), in [-1, 1]."""
    least, most = torch.minimum(a, b), torch.maximum(a, b)
    shared = (least[:, 2:] - most[:, :2]).clamp(min=0).prod(-1)
    union = _area(a) + _area(b) - shared
    hull = (most[:, 2:] - least[:, :2]).clamp(min=0).prod(-1)
    return shared / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(-1)
