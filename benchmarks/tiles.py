"""How large images are best cut for a network of one input side: PSNR and CPU time by tiling.

    python benchmarks/tiles.py SPACE HEAD [SAMPLES [SIDE]]

The space's baseline is trained on SAMPLES patches of SIDE pixels of one degradation, seed 0, and
restores the two photographs of valid with every overlap and border. One thread, CPU time.
"""

from __future__ import annotations

import sys
import time

import torch

from nasx import registry
from nasx.tasks.base import Split
from nasx.tasks.fidelity import fidelity
from nasx.tasks.restore import Restore, images_of
from nasx.tasks.tiles import fixed_side, tiled
from nasx.training import Training

EIGHTHS = ((2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (6, 0), (6, 1), (6, 2), (6, 3))
VALID: Split = "valid"


def main(space: str, head: str, samples: int = 6000, side: int = 24) -> None:
    torch.set_num_threads(1)
    task = registry.task({"name": "photos", "degradations": [head], "patch": side})
    assert isinstance(task, Restore)
    training = Training(registry.space(space)(), task, full=samples, seed=0)
    for _ in training.run(samples):
        pass
    model, how = training.deployed(), task.heads[0]
    assert fixed_side(model) == side, f"{space} takes images of any size"
    pairs = task.pairs(VALID, how)
    print("| overlap | border | PSNR, dB | CPU, s |\n|---|---|---|---|")
    for overlap, border in EIGHTHS:
        start, total = time.process_time(), 0.0
        for index in range(len(pairs.truth)):
            image = images_of([pairs.input(index)])
            with torch.no_grad():
                parts = tiled(
                    model, image, side, overlap * side // 8, border * side // 8, how.scale
                )[0]
            truth = images_of([pairs.truth.image(index)[: parts.shape[1], : parts.shape[2]]])[0]
            total += fidelity(parts, truth, how.crop)["psnr"]
        spent = time.process_time() - start
        print(f"| {overlap}/8 | {border}/8 | {total / len(pairs.truth):.4f} | {spent:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
