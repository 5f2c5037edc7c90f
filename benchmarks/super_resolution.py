"""How far above bicubic enlargement does a small convolutional network get, and in what CPU time?

    python benchmarks/super_resolution.py                         # embedded photographs, x2
    python benchmarks/super_resolution.py --train T91 BSDS200 --test SET5 --samples 160000

The micro EDSR of search_spaces/_sr_nets.py by the recipe of _sr_recipe.py, on one thread. PSNR is
of luma, `scale` pixels cropped, whole images; the training never looks at them. CPU time is this
process's, scoring apart. `--keep FOLDER` holds a checkpoint: the same command continues after a
stop. Goals: +0.8 dB on embedded photographs within 3 CPU minutes, +1.5 dB on Set5 x2 after 30 CPU
minutes of training on the 291 images.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import nn

from nasx import registry
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.space import Space, integer
from nasx.tasks.base import Task
from nasx.training import Training
from search_spaces._sr_nets import edsr, micro_edsr
from search_spaces._sr_recipe import restoring


class Micro(Space):
    """The micro EDSR, of any width and depth."""

    name = "micro"
    tasks = ("restore",)
    features: int = integer(4, 256, default=32)
    blocks: int = integer(1, 64, default=4)

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the untrained network, which is bicubic enlargement."""
        return edsr(micro_edsr(shape, self.features, self.blocks))

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return the recipe of super-resolution networks."""
        return restoring()


def asked() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--train", nargs="+", type=Path, help="folders of training images")
    parser.add_argument(
        "--test", type=Path, help="folder of test images (embedded: the task's own)"
    )
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--samples", type=int, default=16000, help="patches of 32 x 32 seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--marks", type=int, default=8, help="scores on the way")
    parser.add_argument("--keep", type=Path, help="folder of the checkpoint to continue from")
    return parser.parse_args()


def photographs(args: argparse.Namespace) -> Task:
    """Return the task on the folders that were named, or on embedded photographs."""
    options: dict[str, object] = {"degradations": [f"x{args.scale}"]}
    if args.train:
        options["path"] = [str(folder) for folder in args.train]
    if args.test:
        options["test"] = str(args.test)
    return registry.task({"name": "photos", **options})


def gained(training: Training, base: float) -> float:
    """Return the PSNR on the test images less that of bicubic enlargement, in dB."""
    return training.score("test")["psnr"] - base


def main() -> None:
    """Train, and print a row at every mark."""
    args = asked()
    torch.set_num_threads(1)
    task = photographs(args)
    net = Micro(features=args.features, blocks=args.blocks)
    training = Training(net, task, full=args.samples, seed=args.seed)
    base = training.score("test")["psnr"]
    spent = 0.0
    clock = None if args.keep is None else args.keep.with_name(f"{args.keep.name}.json")
    if clock is not None and clock.exists():
        training.load(args.keep)
        spent = json.loads(clock.read_text())["cpu_s"]
    size = sum(p.numel() for p in training.model.parameters())
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    print(f"{net.features} features, {net.blocks} blocks, {size:,} parameters, seed {args.seed}")
    print(f"bicubic {base:.2f} dB\n{'samples':>8} {'CPU s':>7} {'dB above':>9}")
    for mark in range(1, args.marks + 1):
        until = args.samples * mark // args.marks
        if until < training.samples:
            continue
        start = time.process_time()
        for _ in training.run(until):
            pass
        spent += time.process_time() - start
        if clock is not None:
            training.save(args.keep)
            clock.write_text(json.dumps({"cpu_s": spent}))
        print(f"{training.samples:8d} {spent:7.0f} {gained(training, base):+9.2f}", flush=True)


if __name__ == "__main__":
    main()
