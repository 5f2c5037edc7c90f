"""The learning curve: at most 200 rows, whatever the length of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROWS = 200


class Curve:
    """Collect the losses of every batch into rows of means, equally far apart in samples."""

    def __init__(self, full: int) -> None:
        self.full = full
        self.rows: list[dict[str, float]] = []
        self.sums: dict[int, tuple[float, int]] = {}  # by step, since the last row

    def add(
        self,
        before: int,
        samples: int,
        losses: Mapping[int, float],
        rate: float,
        notes: Mapping[str, float],
    ) -> None:
        """Add one batch: samples seen before and after it, the loss of each step by its number.

        A row has samples, loss and lr (of the batch's last step), with several steps also loss.0
        and so on, and the newest notes. Losses are means over the batches since the row before.
        """
        for number, loss in losses.items():
            total, count = self.sums.get(number, (0.0, 0))
            self.sums[number] = (total + loss, count + 1)
        if not losses or samples * ROWS // self.full == before * ROWS // self.full:
            return
        means = {number: total / count for number, (total, count) in sorted(self.sums.items())}
        row = {"samples": float(samples), "loss": means[max(losses)], "lr": rate}
        if max(means) > 0:
            row |= {f"loss.{number}": mean for number, mean in means.items()}
        self.rows.append(row | {name: float(value) for name, value in notes.items()})
        self.sums = {}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"rows": self.rows, "sums": [[n, *pair] for n, pair in self.sums.items()]}

    def put_back(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `to_json` returned."""
        self.rows = saved["rows"]
        self.sums = {number: (total, count) for number, total, count in saved["sums"]}
