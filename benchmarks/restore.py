"""What photographs cost a training step: CPU time of batches and scores beside a small network's.

    python benchmarks/restore.py

One thread, CPU time, median of rounds in which every row takes its turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from nasx import registry
from nasx.tasks.base import Batch
from nasx.tasks.mixture import mixture
from nasx.tasks.restore import Restore
from search_spaces._sr_nets import edsr, micro_edsr

HEADS = ("x2", "x3", "x4", "denoise", "derain")
PATCH, BATCH, ROUNDS = 32, 16, 9
MIXED, MIXED_PATCH = ("x2", "x3", "x4", "denoise30", "denoise50", "derain"), 24


def endless(task: Restore, view: Any = "train") -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from task.batches(view, task.shape.input, BATCH, generator, augment=True)


def mixed() -> None:
    """Print what a batch of a mixture takes, beside one of each of its degradations."""
    task = registry.task({"name": "photos", "patch": MIXED_PATCH})
    assert isinstance(task, Restore)
    views = {head: mixture({head: 1.0}) for head in MIXED}
    views |= {"all six": mixture(dict.fromkeys(MIXED, 1.0))}
    views |= {"all six, 64 crops": mixture(dict.fromkeys(MIXED, 1.0), crops=64)}
    streams = {name: endless(task, view) for name, view in views.items()}
    for stream in streams.values():
        next(stream)
    rounds = [
        {n: seconds(lambda s=s: next(s), 30) for n, s in streams.items()} for _ in range(ROUNDS)
    ]
    print(f"\n{BATCH} patches of {MIXED_PATCH} x {MIXED_PATCH} of a mixture, CPU ms a batch")
    for name in views:
        print(f"| {name} | {1000 * statistics.median(r[name] for r in rounds):.2f} |")


def seconds(act: Callable[[], Any], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times


def step(model: nn.Module, optimizer: torch.optim.Optimizer, task: Restore, batch: Batch) -> None:
    optimizer.zero_grad()
    task.loss(model(batch.inputs), batch).backward()
    optimizer.step()


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{BATCH} patches of {PATCH} x {PATCH}, CPU ms a batch; micro EDSR of 32 channels, 4 blocks"
    )
    print("| head | batch, ms | step, ms | share | score of valid, s | the net's part, s |")
    print("|---|---|---|---|---|---|")
    for head in HEADS:
        task = registry.task({"name": "photos", "degradations": [head], "patch": PATCH})
        assert isinstance(task, Restore)
        model = edsr(micro_edsr(task.shape)).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        stream = endless(task)
        batch = next(stream)
        step(model, optimizer, task, batch)
        rounds = [
            (
                seconds(lambda stream=stream: next(stream), 20),
                seconds(lambda m=model, o=optimizer, t=task, b=batch: step(m, o, t, b), 3),
            )
            for _ in range(ROUNDS)
        ]
        data, learning = (statistics.median(r[i] for r in rounds) for i in range(2))
        model.eval()
        scoring = seconds(lambda m=model, t=task: t.score(m, "valid", t.shape.input), 1)
        inputs = [task.pairs("valid", task.heads[0]).input(i) for i in range(2)]
        tensors = [torch.from_numpy(i / 255).float().permute(2, 0, 1)[None] for i in inputs]
        with torch.no_grad():
            net = seconds(lambda m=model, t=tensors: [m(one) for one in t], 1)
        print(
            f"| {head} | {1000 * data:.2f} | {1000 * learning:.0f} | {data / learning:.1%} "
            f"| {scoring:.2f} | {net:.2f} |"
        )
    mixed()


if __name__ == "__main__":
    main()
