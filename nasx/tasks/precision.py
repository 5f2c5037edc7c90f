"""Average precision as COCO defines it, by pycocotools; size bins are the task's own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasx.tasks.boxed import Boxed, Reals
from nasx.tasks.boxsizes import SizeBin
from nasx.tasks.data import Indices

MOST = 100  # boxes of an image that count
ALL = (0.0, 1e10)  # areas


@dataclass(frozen=True)
class Detections:
    """All boxes found on a split: `image` (n,), `labels` (n,), `chances` (n,), `corners` (n, 4).

    Corners are x0, y0, x1, y1 in pixels of the original images.
    """

    image: Indices
    labels: Indices
    chances: Reals
    corners: Reals


def average_precision(
    truth: Boxed, found: Detections, classes: int, bins: Sequence[SizeBin]
) -> dict[str, float]:
    """Return ap50, ap and the AP of each bin, in percent.

    AP is the mean over ten overlaps from .5 to .95 and over the classes that occur. A bin without
    an object has no entry. Crowd regions count neither way (pycocotools: `iscrowd`).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
        wanted, got = COCO(), COCO()
        wanted.dataset, got.dataset = _dataset(truth, classes), _answers(truth, found, classes)
        wanted.createIndex()
        got.createIndex()
        judge: Any = COCOeval(wanted, got, "bbox")
        judge.params.areaRng = [ALL, *(one.areas() for one in bins)]
        judge.params.areaRngLbl = ["all", *(one.name for one in bins)]
        judge.params.maxDets = [MOST]
        judge.evaluate()
        judge.accumulate()
    table = judge.eval["precision"][..., 0]  # overlap, recall, class, bin; -1 where nothing is
    values = {"ap50": _mean(table[0, :, :, 0]), "ap": _mean(table[..., 0])}
    values |= {one.name: _mean(table[..., 1 + i]) for i, one in enumerate(bins)}
    return {name: value for name, value in values.items() if value is not None}


def _mean(table: Reals) -> float | None:
    known = table[table > -1]
    return 100 * float(known.mean()) if known.size else None


def _dataset(truth: Boxed, classes: int) -> dict[str, Any]:
    image = np.repeat(np.arange(len(truth.images)), np.diff(truth.offsets))
    boxes = _as_coco(truth.corners)
    rows = zip(image, truth.labels, boxes, truth.areas, truth.crowd, strict=True)
    return _whole(truth, classes) | {
        "annotations": [
            {"id": i + 1, "image_id": int(n), "category_id": int(label), "bbox": box.tolist(),
             "area": float(area), "iscrowd": int(crowd)}
            for i, (n, label, box, area, crowd) in enumerate(rows)
        ]
    }  # fmt: skip


def _answers(truth: Boxed, found: Detections, classes: int) -> dict[str, Any]:
    boxes = _as_coco(found.corners)
    rows = zip(found.image, found.labels, boxes, found.chances, strict=True)
    return _whole(truth, classes) | {
        "annotations": [
            {"id": i + 1, "image_id": int(n), "category_id": int(label), "bbox": box.tolist(),
             "area": float(box[2] * box[3]), "score": float(chance), "iscrowd": 0}
            for i, (n, label, box, chance) in enumerate(rows)
        ]
    }  # fmt: skip


def _whole(truth: Boxed, classes: int) -> dict[str, Any]:
    images = [
        {"id": i, "height": int(high), "width": int(wide)}
        for i, (high, wide) in enumerate(truth.sizes)
    ]
    return {"images": images, "categories": [{"id": c, "name": str(c)} for c in range(classes)]}


def _as_coco(corners: Reals) -> Reals:
    """Return x, y, width, height of corners."""
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
