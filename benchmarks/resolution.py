"""Does resolution matter on digits-in-photos? One net, side 64 against side 16, three seeds.

    python benchmarks/resolution.py [--samples 18000] [--seeds 3] [--width 8]

Depth and width stay fixed, only the input side differs; both sides see the same images in the same
order. Goal: side 64 beats side 16 by >= 15 points of top-1 on valid + test, mean of the seeds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from nasx import recipe
from nasx.tasks.base import Task
from nasx.tasks.photos import digits_in_photos

SIDES = (64, 16)
GOAL = 15.0  # points
BATCH = 64


def network(width: int) -> nn.Sequential:
    """Return five 3x3 convolutions, strides 1, 2, 1, 2, 1, a global maximum, a linear layer."""

    def block(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        ]

    plan = ((3, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1))
    layers: list[nn.Module] = []
    for index, (c_in, c_out, stride) in enumerate(plan):
        layers += block(3 if index == 0 else c_in * width, c_out * width, stride)
    return nn.Sequential(
        *layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)
    ).to(memory_format=torch.channels_last)


def train(task: Task, side: int, seed: int, samples: int, width: int) -> nn.Module:
    """Train with AdamW, a warm-up and a cosine over `samples` images; return the eval-mode net."""
    torch.manual_seed(seed)  # initial weights; everything later draws from `generator`
    model, generator = network(width).train(), torch.Generator().manual_seed(seed)
    optimizer = recipe.adamw(lr=6e-3)(model.parameters())
    factor, steps, step = recipe.one_cycle(), samples // BATCH, 0
    while step < steps:
        for batch in task.batches("train", (3, side, side), BATCH, generator, augment=True):
            if step == steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = 6e-3 * factor(step / steps)
            optimizer.zero_grad()
            task.loss(model(batch.inputs), batch).backward()
            optimizer.step()
            step += 1
    return model.eval()


def top1(task: Task, model: nn.Module, side: int) -> dict[str, float]:
    """Return top-1 in percent on valid, test and both together."""
    shape = (3, side, side)
    scores = {s: task.score(model, s, shape)["top1"] for s in ("valid", "test")}
    sizes = {s: task.size(s) for s in ("valid", "test")}
    both = sum(scores[s] * sizes[s] for s in scores) / sum(sizes.values())
    return {**scores, "both": both}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(named)} x {named[0]}" if named else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=18_000, help="images seen in training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="channels of the first layer")
    given = parser.parse_args()
    torch.set_num_threads(1)
    task = digits_in_photos()
    print(f"machine: {processor()}, {platform.system()}, torch {torch.__version__}, 1 thread")
    print(
        f"digits-in-photos (data {task.fingerprint()}): {task.size('train')} train, "
        f"{task.size('valid')} valid, {task.size('test')} test; width {given.width}, "
        f"{given.samples} samples, batch {BATCH}\n"
    )
    print("| side | seed | valid top-1 | test top-1 | valid + test | CPU s |")
    print("|---|---|---|---|---|---|")
    found: dict[int, list[float]] = {side: [] for side in SIDES}
    for side in SIDES:
        for seed in range(given.seeds):
            start = time.process_time()
            scores = top1(task, train(task, side, seed, given.samples, given.width), side)
            spent = time.process_time() - start
            found[side].append(scores["both"])
            cells = " | ".join(f"{scores[s]:.2f}" for s in ("valid", "test", "both"))
            print(f"| {side} | {seed} | {cells} | {spent:.0f} |", flush=True)
    means = {side: statistics.mean(values) for side, values in found.items()}
    gaps = [a - b for a, b in zip(found[SIDES[0]], found[SIDES[1]], strict=True)]
    print()
    for side in SIDES:
        spread = statistics.stdev(found[side]) if given.seeds > 1 else float("nan")
        print(f"side {side}: mean {means[side]:.2f} %, deviation over seeds {spread:.2f}")
    gap = means[SIDES[0]] - means[SIDES[1]]
    verdict = "met" if gap >= GOAL else "MISSED"
    listed = ", ".join(f"{g:+.2f}" for g in gaps)
    print(f"side {SIDES[0]} minus side {SIDES[1]}: {gap:+.2f} points (by seed {listed})")
    print(f"goal >= {GOAL:.0f} points: {verdict}")


if __name__ == "__main__":
    main()
