"""What do dropped heads, hidden units and tokens save in operations, and what in measured time?

    python benchmarks/efficient_transformers.py [--passes 15] [--only micro|tiny|published]

Untrained deployed networks of the space `vision_transformer`, cut as `decide` cuts them: a micro
network (64 px, 256 tokens of 64, 4 blocks) and DeiT-Ti (224 px, 196 tokens of 192, 12 blocks).
CPU time of one thread, in PyTorch (eager) and in ONNX Runtime, batches of 1 and 8; all networks of
a table are timed together in drawn order (`nasx.cost.latency`). Cells are ratios to the whole one.
`published` are the networks of papers, on their own sides, untrained, in milliseconds.
"""

from __future__ import annotations

import argparse
import platform
from typing import Any

import torch
from torch import nn

from nasx.cost.card import card_of
from nasx.cost.latency import Latency, time_each, time_networks
from nasx.shape import TaskShape
from nasx.study import Measure
from search_spaces.vision_transformer import VisionTransformer

MICRO = {
    "layout": "flat", "patch": 4, "dim": [64, 64, 64, 64], "depth": [4, 2, 2, 2], "stem": "patch",
    "head_dim": 16, "mlp_ratio": [4, 2, 2, 2], "position": "learned", "pool": "mean",
}  # fmt: skip
TINY = next(p for p in VisionTransformer.published if p.name == "deit_ti")
SIZES: dict[str, tuple[dict[str, Any], TaskShape]] = {
    "micro": (MICRO, TaskShape("classify", (3, 64, 64), 10)),
    "tiny": (dict(TINY.candidate), TINY.shape),
}
COLUMNS = [("eager", 1), ("eager", 8), ("onnxruntime", 1), ("onnxruntime", 8)]
CUTS: dict[str, dict[str, Any]] = {
    "whole": {},
    "half of the heads": {"heads_kept": 0.5},
    "half of the hidden units": {"mlp_kept": 0.5},
    "half of both": {"heads_kept": 0.5, "mlp_kept": 0.5},
    "a quarter of both": {"heads_kept": 0.25, "mlp_kept": 0.25},
    ".7 of the tokens, three times": {"tokens_kept": [0.7, 0.7, 0.7]},
    "half of the tokens, three times": {"tokens_kept": [0.5, 0.5, 0.5]},
    "half of both, .7 of the tokens": {
        "heads_kept": 0.5, "mlp_kept": 0.5, "tokens_kept": [0.7, 0.7, 0.7],
    },
    "weights of 8 bits": {"bits": 8},  # an operator of our own: not for ONNX Runtime's clock
}  # fmt: skip


def network(fields: dict[str, Any], shape: TaskShape) -> nn.Module:
    """Return the untrained deployed network of a candidate."""
    candidate = VisionTransformer.from_json(fields)
    torch.manual_seed(0)
    return candidate.decide(candidate.build(shape)).eval()


def published(passes: int) -> None:
    """Print what the networks of papers take, the dearest one (ViT-L) left out."""
    measure = Measure(runtime="onnxruntime", device="cpu", batch=1, threads=1)
    points = [p for p in VisionTransformer.published if p.name != "vit_l"]
    print("| network | side | MACs (G) | ms, ONNX Runtime (quartiles) |\n|---|---|---|---|")
    for point in points:  # one after the other: together they would need 4 GB
        made = {point.name: (network(dict(point.candidate), point.shape), point.shape.input)}
        found = time_networks(made, measure, passes=min(passes, 5))[point.name]
        low, high = f"{found.q1_ms:.1f}", f"{found.q3_ms:.1f}"
        macs = (point.macs or 0) / 1e9
        print(
            f"| {point.name} | {point.shape.side} | {macs:.3f} | {found.median_ms:.1f} "
            f"({low} to {high}) |",
            flush=True,
        )
    print()


def ratio(found: dict[str, Latency], name: str) -> str:
    """Return a latency over that of the whole network."""
    return f"{found[name].median_ms / found['whole'].median_ms:.2f}" if name in found else "-"


def main() -> None:
    """Print one table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--only", choices=(*SIZES, "published"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}\n")
    if asked.only in (None, "published"):
        published(asked.passes)
    for size, (base, shape) in SIZES.items():
        if asked.only not in (None, size):
            continue
        made = {name: network({**base, **cut}, shape) for name, cut in CUTS.items()}
        cards = {name: card_of(model, shape.input) for name, model in made.items()}
        columns = []
        for runtime, batch in COLUMNS:
            measure = Measure(runtime=runtime, device="cpu", batch=batch, threads=1)
            pairs = {name: (model, shape.input) for name, model in made.items()}
            columns.append(time_each(pairs, measure, passes=asked.passes).latencies)
        heads = [f"{runtime}, batch {batch}" for runtime, batch in COLUMNS]
        print(f"| {size}: what is left | MACs | params | bytes | " + " | ".join(heads) + " |")
        print("|---" * (4 + len(heads)) + "|")
        for name, card in cards.items():
            of = cards["whole"]
            costs = (card.macs / of.macs, card.params / of.params, card.bytes / of.bytes)
            cells = [f"{v:.2f}" for v in costs] + [ratio(found, name) for found in columns]
            print(f"| {name} | " + " | ".join(cells) + " |")
        whole = ", ".join(f"{found['whole'].median_ms:.2f}" for found in columns)
        print(f"\nwhole: {cards['whole'].macs:,} MACs, {whole} ms\n", flush=True)


if __name__ == "__main__":
    main()
