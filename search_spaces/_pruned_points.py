"""The pruned ResNets that papers state, counted: every convolution of a block at one ratio.

A convolution of C channels keeps C - int(p * C), the last one of a block puts its channels back
into the full width (mode "scatter"), stem, shortcuts and classifier are whole. Counted as the
released code of arXiv:2010.10732 prunes; the paper rounds to a tenth of a percent. Its own ratios
are not printed: those here are the multiples of 0.05 that fit its table best.
"""

from __future__ import annotations

from typing import NamedTuple

from nasx.shape import TaskShape
from nasx.space import Published

IMAGENET = TaskShape("classify", (3, 224, 224), 1000)
CIFAR = TaskShape("classify", (3, 32, 32), 10)
SOURCE = "arithmetic of the released pruning script: C - int(p C) of each convolution of a block"


class Point(NamedTuple):
    """A network at one ratio: trainable parameters and MACs, and the row of the paper it is."""

    network: str
    ratio: float
    params: int
    macs: int
    row: str

    @property
    def shape(self) -> TaskShape:
        """Return the task shape that it is counted on."""
        return CIFAR if self.network in ("resnet20", "resnet32", "resnet56") else IMAGENET


POINTS = (
    Point("resnet20", 0.45, 119_045, 18_040_448, "CIFAR-10"),
    Point("resnet32", 0.45, 204_599, 30_482_048, "CIFAR-10"),
    Point("resnet56", 0.45, 375_707, 55_365_248, "CIFAR-10"),
    Point("resnet18", 0.30, 7_097_908, 1_122_402_770, "A"),
    Point("resnet18", 0.35, 6_430_516, 1_024_574_858, "B, its two columns swapped"),
    Point("resnet34", 0.30, 13_139_910, 2_229_369_659, "A"),
    Point("resnet34", 0.35, 11_871_513, 2_024_068_283, "B"),
    Point("resnet50", 0.35, 14_617_421, 2_232_573_815, "A"),
    Point("resnet50", 0.45, 12_209_092, 1_816_969_094, "B, within 1 percentage point"),
    Point("resnet101", 0.35, 23_716_348, 4_009_299_507, "A"),
    Point("resnet101", 0.45, 19_086_085, 3_159_221_978, "B, within 1 percentage point"),
)
DENSE = {  # parameters, MACs
    "resnet20": (272_282, 40_813_184),
    "resnet32": (466_714, 69_124_736),
    "resnet56": (855_578, 125_747_840),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_801_405_440),
}


def published_points() -> tuple[Published, ...]:
    """Return the points of scop that are checked with every space: CIFAR-10's and the A rows.

    The B rows are the same arithmetic at other ratios, and counting them takes as long again.
    """
    return tuple(
        Published(
            f"{p.network}_{round(100 * p.ratio)}",
            {"backbone": p.network, "mode": "scatter", "ratio": p.ratio},
            p.shape,
            p.params,
            p.macs,
            source=SOURCE,
        )
        for p in POINTS
        if p.row in ("CIFAR-10", "A")
    )
