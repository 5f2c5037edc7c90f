"""The one table of quantities a study may name as objective or constraint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]
Kind = Literal["score", "static", "measured"]


@dataclass(frozen=True)
class Axis:
    """A quantity: its unit, its better direction, and when it is known.

    `score` is known after training, `static` before it from the cost card, `measured` by timing.
    """

    name: str
    label: str
    unit: str
    direction: Direction
    kind: Kind


AXES: dict[str, Axis] = {
    a.name: a
    for a in (
        Axis("top1", "top-1 accuracy", "%", "maximize", "score"),
        Axis("psnr", "PSNR", "dB", "maximize", "score"),
        Axis("ssim", "SSIM", "", "maximize", "score"),
        Axis("ap", "AP", "%", "maximize", "score"),
        Axis("ap50", "AP50", "%", "maximize", "score"),
        Axis("macs", "MACs", "MAC", "minimize", "static"),
        Axis("flops", "FLOPs (2 x MACs)", "FLOP", "minimize", "static"),
        Axis("params", "parameters", "", "minimize", "static"),
        Axis("bytes", "stored size", "byte", "minimize", "static"),
        Axis("adds", "additions", "add", "minimize", "static"),
        Axis("shifts", "shifts", "shift", "minimize", "static"),
        Axis("bit_ops", "bit operations", "bit op", "minimize", "static"),
        Axis("lookups", "table look-ups", "look-up", "minimize", "static"),
        Axis("energy_uj", "modelled energy", "uJ", "minimize", "static"),
        Axis("peak_bytes", "peak memory", "byte", "minimize", "static"),
        Axis("latency_ms", "latency", "ms", "minimize", "measured"),
    )
}
