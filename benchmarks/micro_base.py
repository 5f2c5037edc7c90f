"""Does the micro base learn whatever the seed? Three TinyNets on digits-in-photos.

    python benchmarks/micro_base.py [--samples 16000] [--seeds 5]

A net that some seeds leave at chance would make a search's front a matter of luck. Goal: the lowest
seed of each net at least 20 points above chance.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from nasx.registry import task
from nasx.training import Training
from search_spaces.tinynet import TinyNet

NETS = {
    "base": TinyNet(),
    "deep": TinyNet(r=0.97, d=1.5, c=0.43),
    "small": TinyNet(r=0.63, d=1.0, c=0.225),
}
CHANCE, GOAL = 10.0, 20.0


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--samples", type=int, default=16000)
    ask.add_argument("--seeds", type=int, default=5)
    given = ask.parse_args()
    torch.set_num_threads(1)
    data = task("digits-in-photos")
    print("| net | MACs | valid top-1 by seed | mean | deviation | lowest above chance | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name, net in NETS.items():
        scores, began = [], time.process_time()
        for seed in range(given.seeds):
            training = Training(net, data, full=given.samples, seed=seed)
            for _ in training.run(given.samples):
                pass
            scores.append(training.score("valid")["top1"])
        cpu = (time.process_time() - began) / given.seeds
        by_seed = ", ".join(f"{s:.1f}" for s in scores)
        above = min(scores) - CHANCE
        print(
            f"| {name} | {net.macs(data.shape):,} | {by_seed} | {statistics.mean(scores):.1f} "
            f"| {statistics.stdev(scores):.1f} | {above:.1f} ({above / GOAL:.1f} x the goal) "
            f"| {cpu:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
