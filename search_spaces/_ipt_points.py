"""The published networks as candidates of the space `ipt`, counted on a patch of 48 x 48."""

from __future__ import annotations

from typing import Any

from nasx.shape import TaskShape
from nasx.space import Published

SEEN = ("x2", "x3", "x4", "denoise30", "denoise50", "derain")  # in published pre-training

_LARGE: dict[str, Any] = {
    "features": 64, "patch": 3, "encoder": 12, "decoder": 12, "heads": 12, "mlp": 4,
    "position": "once", "blocks": 2, "kernel": 5, "up": "shuffle", "skip": "none",
}  # fmt: skip


def _point(name: str, heads: tuple[str, ...], params: int, macs: int, **fields: Any) -> Published:
    shape = TaskShape("restore", (3, 48, 48), heads)
    source = "the released network, counted; MACs of its first head, shifts of colour included"
    return Published(name, {**_LARGE, **fields}, shape, params, macs, source=source)


_X2, _X2_4 = 33_323_832_576, 12_486_530_304

POINTS = (
    _point("ipt_x2", ("x2",), 115_460_419, _X2),
    _point("ipt_x3", ("x3",), 115_645_059, 33_768_516_096),
    _point("ipt_x4", ("x4",), 115_608_131, 34_730_811_648),
    _point("ipt_denoise", ("denoise30",), 115_312_707, 32_972_087_808),
    _point("ipt_six", SEEN, 118_892_370, _X2),
    _point("ipt_six_4_layers", SEEN, 44_482_386, _X2_4, encoder=4, decoder=4),
)
