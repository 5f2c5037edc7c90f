"""Published necks: on the maps of a ResNet-50, at the two image sizes of the released code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nasx.shape import TaskShape
from nasx.space import Published

SIZES = {
    "1280x800": ((200, 320), (100, 160), (50, 80), (25, 40)),
    "1333x800": ((200, 334), (100, 167), (50, 84), (25, 42)),
}
CHANNELS = (256, 512, 1024, 2048)
OUT = 256
_COUNTED = (
    "counted by hand from the released layout: laterals with bias, four 3x3 output convolutions of "
    "256 channels, maps of a ResNet-50 with sides rounded up"
)


def neck_points() -> Iterator[Published]:
    """Yield the necks of the paper and its ablations; of those with gates, all that may run."""
    # fields, parameters, MACs at both sizes
    rows: dict[str, tuple[dict[str, Any], int, int, int]] = {
        "fpn": ({"neck": "fpn"}, 3_344_384, 57_999_360_000, 60_565_094_400),
        "fpn_3x3": ({"neck": "fpn", "kernel": 3}, 11_208_704, 120_913_920_000, 126_310_809_600),
        "fpn_5x5": ({"neck": "fpn", "kernel": 5}, 26_937_344, 246_743_040_000, 257_802_240_000),
        "fpn_7x7": ({"neck": "fpn", "kernel": 7}, 50_530_304, 435_486_720_000, 455_039_385_600),
        "inception": ({"neck": "inception"}, 103_620_608, 860_160_000_000, 898_822_963_200),
        "skip_or_all": (
            {"neck": "skip", "gate": "none"}, 104_604_672, 868_024_320_000, 907_041_177_600
        ),
        "skip_or_all_cnn_a": (
            {"neck": "skip", "gate": "cnn_a"}, 106_000_200, 868_025_714_560, 907_042_572_160
        ),
    }  # fmt: skip
    for at, (size, maps) in enumerate(SIZES.items()):
        features = tuple((c, *sides) for c, sides in zip(CHANNELS, maps, strict=True))
        shape = TaskShape("features", features, OUT)
        for name, (fields, params, *macs) in rows.items():
            yield Published(f"{name}_{size}", fields, shape, params, macs[at], source=_COUNTED)
