"""What do dropped heads, hidden units and tokens, and low-bit weights save in measured time?

    python benchmarks/efficient_transformers.py [--rounds 15] [--only small deit_ti ...]

CPU time of one thread, the deployed networks at batch 1 and 8, in ONNX Runtime (on the file that is
deployed) and in PyTorch; every round visits all variants in random order. A cell is the median over
rounds of the ratio to the whole network of the same round, beside the ratio of counted MACs.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import onnxruntime
import torch
from pruning import deployed, onnxruntime_of, processor, ratios, timed
from torch import nn

from nasx.cost.card import card_of
from nasx.shape import TaskShape
from search_spaces.vision_transformer import VisionTransformer

HALF = [0.5, 0.5, 0.5]
CHANGES: dict[str, dict[str, Any]] = {
    "dense": {},
    "half of the heads": {"heads_kept": 0.5},
    "half of the hidden units": {"mlp_kept": 0.5},
    "tokens .7, .7, .7": {"tokens_kept": [0.7] * 3},
    "tokens .5, .5, .5": {"tokens_kept": HALF},
    "all of it by half": {"heads_kept": 0.5, "mlp_kept": 0.5, "tokens_kept": HALF},
    "weights of 8 bits": {"bits": 8},
}
SMALL: dict[str, Any] = {
    "layout": "flat", "depth": [8, 2, 2, 2], "dim": [64] * 4, "head_dim": 16, "patch": 4,
    "stem": "patch", "position": "learned", "pool": "cls",
}  # fmt: skip


def fields_of(name: str) -> tuple[dict[str, Any], int]:
    """Return a network's fields and the side of its images."""
    if name == "small":
        return SMALL, 32
    points = {point.name: point for point in VisionTransformer.published}
    return dict(points[name].candidate), points[name].shape.side


def network(fields: dict[str, Any], x: torch.Tensor, classes: int) -> nn.Module:
    """Return the deployed network of some fields, with drawn weights."""
    torch.manual_seed(0)
    shape = TaskShape("classify", tuple(x.shape[1:]), classes)
    one = VisionTransformer.from_json(fields)
    return one.decide(one.build(shape)).eval()


def of_network(name: str, rounds: int) -> None:
    """Print the rows of one network."""
    fields, side = fields_of(name)
    xs = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(1))
    models = {n: network({**fields, **change}, xs, 10) for n, change in CHANGES.items()}
    files = {n: deployed(model, xs) for n, model in models.items()}
    cells = []
    for x in (xs[:1], xs):
        for runs in (
            {n: onnxruntime_of(file, x) for n, file in files.items()},
            {n: (lambda m=model, x=x: m(x)) for n, model in models.items()},
        ):
            times = timed(runs, rounds)
            cells.append((statistics.median(times["dense"]), ratios(times)))
    cards = {n: card_of(model, (3, side, side)) for n, model in models.items()}
    whole = cards["dense"]
    dense = " | ".join(f"{ms:.3f} ms" for ms, _ in cells)
    print(f"| {name}, {side} px | whole | {whole.macs / 1e6:.1f} M | {whole.bytes:,} | {dense} | |")
    for n, card in list(cards.items())[1:]:
        ratio = " | ".join(f"{found[n][0]:.3f}" for _, found in cells)
        apart = statistics.median(found[n][1] for _, found in cells)
        print(
            f"| | {n} | {card.macs / whole.macs:.3f} | {card.bytes / whole.bytes:.3f} | {ratio} "
            f"| {apart:.0%} |",
            flush=True,
        )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=15)
    ask.add_argument("--only", nargs="+", default=["small", "deit_ti"])
    given = ask.parse_args()
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"machine: {processor()}, {versions}, one thread, {given.rounds} rounds\n")
    print("| network | change | MACs | bytes | ORT, 1 | eager, 1 | ORT, 8 | eager, 8 | quartiles |")
    print("|---|---|---|---|---|---|---|---|---|")
    with torch.inference_mode():
        for name in given.only:
            of_network(name, given.rounds)


if __name__ == "__main__":
    main()
