"""How well does a small detector find digits, or the objects of a COCO folder, in what CPU time?

    python benchmarks/detect.py                                     # embedded digit scenes
    python benchmarks/detect.py --path BCCD --side 192 256 --samples 6000

The detector of search_spaces/_detectors.py with a plain pyramid, by the recipe of
_detect_recipe.py, on one thread. Scores are of the test split; the training never looks at it.
CPU time is this process's, scoring apart. Goals: AP50 50 on digit scenes and 60
on BCCD, each within two CPU minutes.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch
from torch import nn

from nasx import registry
from nasx.cost.card import card_of
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space, integer
from nasx.tasks.base import Task
from nasx.training import Training
from search_spaces._detect_recipe import detecting
from search_spaces._detectors import Pyramid, detector, micro_plan

WIDTHS = {4: (16, 24, 32, 64), 8: (12, 16, 32, 48, 64)}  # by the finest stride


class Micro(Space):
    """The micro detector with a plain pyramid."""

    name = "micro"
    tasks = ("detect",)
    out: int = integer(8, 64, step=8, default=24)

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the untrained network."""
        plan = micro_plan(shape, WIDTHS[shape.outputs.strides[0]], out=self.out)  # type: ignore[union-attr]
        return detector(plan, Pyramid(plan))

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return the recipe of small detectors."""
        return detecting()


def asked() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--path", help="a COCO folder; without it digit scenes")
    parser.add_argument("--side", nargs=2, type=int, default=(256, 256), help="of a COCO folder")
    parser.add_argument("--out", type=int, default=24, help="channels of the neck")
    parser.add_argument("--samples", type=int, default=10000, help="images seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--marks", type=int, default=4, help="scores on the way")
    return parser.parse_args()


def task_of(args: argparse.Namespace) -> Task:
    """Return the task that was named."""
    if args.path is None:
        return registry.task("digit-scenes")
    return registry.task({"name": "coco", "path": args.path, "side": list(args.side)})


def main() -> None:
    """Train, and print a row at every mark."""
    args = asked()
    torch.set_num_threads(1)
    task, net = task_of(args), Micro(out=args.out)
    task.fingerprint()
    training = Training(net, task, full=args.samples, seed=args.seed)
    card = card_of(training.deployed(), task.shape.input)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    print(f"{card.params:,} parameters, {card.macs / 1e6:.1f} M MACs, seed {args.seed}")
    print(f"{'samples':>8} {'CPU s':>7}  test scores, %")
    spent = 0.0
    for mark in range(1, args.marks + 1):
        start = time.process_time()
        for _ in training.run(args.samples * mark // args.marks):
            pass
        spent += time.process_time() - start
        scores = ", ".join(f"{n} {v:.1f}" for n, v in training.score("test").items())
        print(f"{training.samples:8d} {spent:7.0f}  {scores}", flush=True)


if __name__ == "__main__":
    main()
