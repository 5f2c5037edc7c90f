"""The networks of the papers as candidates of the space `vision_transformer`, counted at 224."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nasx.shape import TaskShape
from nasx.space import Published

SHAPE = TaskShape("classify", (3, 224, 224), 1000)


_TIMM = "parameters: timm 1.0.31; MACs by arithmetic"
_NEAR = "parameters: the paper's table, to 1 %; ours differs in details of stem, merge or places"


def _four(values: Sequence[Any], spare: Any) -> list[Any]:
    return [*values, *[spare] * (4 - len(values))]


def _flat(depth: int, dim: int, ratio: int = 4, **more: Any) -> dict[str, Any]:
    """Return a flat network with heads of 64 on patches of 16 and a class token."""
    fields = {"depth": _four([depth], 2), "dim": _four([dim], 64), "mlp_ratio": _four([ratio], 2)}
    fixed = {"layout": "flat", "head_dim": 64, "patch": 16, "stem": "patch", "pool": "cls"}
    fixed["position"] = "learned"
    return fields | fixed | more


def _pyramid(depths: Sequence[int], dims: Sequence[int], **more: Any) -> dict[str, Any]:
    """Return a pyramid of patches of 4 that ends in the mean of its tokens."""
    n = len(depths)
    fields = {"depth": _four(depths, 2), "dim": _four(dims, 64), "mlp_ratio": _four([4] * n, 2)}
    fixed = {"layout": "pyramid", "stages": n, "patch": 4, "stem": "patch", "pool": "mean"}
    return fields | fixed | more


def _swin(dim: int, middle: int) -> dict[str, Any]:
    return _pyramid(
        (2, 2, middle, 2), [dim * 2**i for i in range(4)], head_dim=32, window=7, merge="concat",
        attention=["window"] * 4, position="relative",
    )  # fmt: skip


def _pvt2(
    depths: Sequence[int], dims: Sequence[int], head_dim: int = 64, first: int = 8
) -> dict[str, Any]:
    return _pyramid(
        depths, dims, head_dim=head_dim, merge="conv", stem="overlap", ffn="conv",
        mlp_ratio=[first, first, 4, 4], attention=["reduced"] * 4, reduction=[8, 4, 2, 1],
        position="none",
    )  # fmt: skip


def _point(
    name: str, fields: dict[str, Any], params: int, macs: int | None = None,
    tolerance: float = 0.0, source: str = _TIMM,
) -> Published:  # fmt: skip
    return Published(name, fields, SHAPE, params, macs, None, tolerance, source)


_WIDE = (64, 128, 320, 512)
POINTS = (
    _point("deit_ti", _flat(12, 192), 5_717_416, 1_253_683_200),
    _point("deit_s", _flat(12, 384), 22_050_664, 4_598_882_304),
    _point("deit_b", _flat(12, 768), 86_567_656, 17_563_828_224),
    _point("deit_s_distilled", _flat(12, 384, distill="hard"), 22_436_432, 4_624_140_288),
    _point("vit_l", _flat(24, 1024), 304_326_632, 61_554_712_576),
    _point("swin_t", _swin(96, 6), 28_288_354, 4_490_566_656),
    _point("swin_s", _swin(96, 18), 49_606_258, 8_740_875_264),
    _point("swin_b", _swin(128, 18), 87_768_224, 15_430_946_816),
    _point("tnt_s", _flat(12, 384, inner=24), 23_768_584, 5_216_875_008),
    _point("tnt_b", _flat(12, 640, inner=40), 65_428_680, 14_049_082_880),
    _point("pvt2_b0", _pvt2((2, 2, 2, 2), (32, 64, 160, 256), 32), 3_666_760),
    _point("pvt2_b1", _pvt2((2, 2, 2, 2), _WIDE), 14_009_000),
    _point("pvt2_b2", _pvt2((3, 4, 6, 3), _WIDE), 25_362_856),
    _point("pvt2_b3", _pvt2((3, 4, 18, 3), _WIDE), 45_238_696),
    _point("pvt2_b4", _pvt2((3, 8, 27, 3), _WIDE), 62_556_072),
    _point("pvt2_b5", _pvt2((3, 6, 40, 3), _WIDE, first=4), 81_956_008),
    _point(
        "t2t_14", _flat(14, 384, 3, stem="t2t", position="sine"), 21_500_000, None, 0.01, _NEAR
    ),
    _point(
        "pit_s",
        _pyramid(
            (2, 6, 4), (144, 288, 576), head_dim=48, patch=8, stem="overlap", merge="pool",
            pool="cls", position="learned", attention=["global"] * 4,
        ),
        23_460_000, None, 0.01, _NEAR,
    ),
    _point(
        "twins_svt_s",
        _pyramid(
            (2, 2, 10, 4), (64, 128, 256, 512), head_dim=32, window=7, merge="concat",
            attention=["twins"] * 4, reduction=[8, 4, 2, 1], position="conv",
        ),
        24_060_000, None, 0.01, _NEAR,
    ),
)  # fmt: skip
