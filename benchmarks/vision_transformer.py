"""Does a micro transformer come near a micro convolutional network of as many MACs?

    python benchmarks/vision_transformer.py [--samples 32000] [--seeds 1 2 3]

Goal: within 3 points. Both are trained on the same varied images of digits-in-photos.
"""

from __future__ import annotations

import argparse
import time

import torch

from nasx.registry import task
from nasx.training import Training
from search_spaces.vision_transformer import VisionTransformer

FLAT = VisionTransformer.from_json(
    {
        "layout": "flat", "stem": "conv", "patch": 8, "depth": [2] * 4, "dim": [64] * 4,
        "ffn": "conv", "rate": 5e-3, "decay": 1e-3, "augment": "light",
    }
)  # fmt: skip


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--samples", type=int, default=32000)
    ask.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = ask.parse_args()
    torch.set_num_threads(1)
    data = task("digits-in-photos")
    beside = FLAT.control(data.shape)
    assert beside is not None
    print("| net | MACs | seed | valid top-1 | test top-1 | CPU s |")
    print("|---|---|---|---|---|---|")
    for seed in given.seeds:
        for name, net in (("transformer", FLAT), ("convolutional", beside)):
            began = time.process_time()
            training = Training(net, data, full=given.samples, seed=seed)
            for _ in training.run(given.samples):
                pass
            valid, test = (training.score(split)["top1"] for split in ("valid", "test"))
            print(
                f"| {name} | {net.macs(data.shape):,.0f} | {seed} | {valid:.1f} | {test:.1f} "
                f"| {time.process_time() - began:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
