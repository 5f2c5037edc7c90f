"""Size bins of boxes, by which a detector's precision is told apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SizeBin:
    """Objects whose area's square root lies within [low, high] pixels of the original image.

    `name` is the score's. Both ends are included, as pycocotools has them; `high` None is no bound.
    """

    name: str
    low: float
    high: float | None

    def areas(self) -> tuple[float, float]:
        """Return the bounds of the area in square pixels."""
        return self.low**2, 1e10 if self.high is None else self.high**2


COCO = (
    SizeBin("ap_small", 0, 32),
    SizeBin("ap_medium", 32, 96),
    SizeBin("ap_large", 96, None),
)
