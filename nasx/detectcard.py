"""What the card of an exported detector says: what goes in, what comes out, boxes in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

LEAST = 0.3  # chance from which on the card's example keeps a box
OVERLAP = 0.6  # intersection over union from which on two boxes of a class are one object


def detecting(known: Mapping[str, Any], classes: int) -> list[str]:
    """Return the lines on objects to be found: images and answers."""
    strides = ", ".join(map(str, known["strides"]))
    return [
        f"Images are {known['objects']} Channels first; what is left is grey (128 of 255).",
        f"\nOutput: (N, points, 4 + {classes}). Points lie in the middle of the cells of strides "
        f"{strides}, level after level, by rows. Each answers the distances to the left, top, "
        "right and lower side of its box, in input pixels, then the logit of each class below.",
    ]


def finding(known: Mapping[str, Any], names: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """Return lines of numpy that turn `output` into boxes, the best class of each point."""
    return [
        f"names = {json.dumps(list(names), ensure_ascii=False)}",
        f"high, wide = {shape[1]}, {shape[2]}",
        "",
        "def places(stride):",
        "    x, y = np.arange(0.5, -(-wide // stride)), np.arange(0.5, -(-high // stride))",
        "    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2) * stride",
        "",
        "def overlap(a, b):",
        "    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])",
        "    both = sides.clip(0).prod()",
        "    return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both + 1e-9)",
        "",
        f"points = np.concatenate([places(stride) for stride in {list(known['strides'])}])",
        "corners = np.concatenate([points - output[..., :2], points + output[..., 2:4]], -1)",
        "corners = np.clip(corners, 0, [wide, high, wide, high])",
        "chances = 1 / (1 + np.exp(-output[..., 4:]))",
        "for boxes, chance in zip(corners, chances):",
        "    label, best, kept = chance.argmax(1), chance.max(1), []",
        "    for i in np.argsort(-best):",
        f"        if best[i] < {LEAST}:",
        "            break",
        "        rivals = [j for j in kept if label[j] == label[i]]",
        f"        if all(overlap(boxes[i], boxes[j]) <= {OVERLAP} for j in rivals):",
        "            kept.append(i)",
        "    print([(names[label[i]], float(best[i]), boxes[i].tolist()) for i in kept])",
    ]
