"""What a ghost layer takes beside a dense one, and beside half of it with depthwise filters.

    python benchmarks/ghost_shift.py [--rounds 25] [--runtime eager] [--isa avx512]

Dense: C to C channels, 3x3. Ghost: C/2 computed, C/2 moved copies, by our operator (`ghost`) or in
plain torch (`plain`), moved alike or each by itself (`channel`). Depthwise: C/2 computed, the other
half by 3x3 filters of their own. CPU time of one thread, all contestants in every round in a drawn
order; ratios are medians of paired rounds. In onnxruntime there is no operator of ours.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import platform
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from search_spaces._layers import _native
from search_spaces._layers.ghost_conv import ghost_conv2d
from search_spaces._layers.shift import Ghosts

SHAPES = ((64, 24, 1), (64, 48, 1), (64, 96, 1), (64, 48, 8), (128, 48, 1), (256, 48, 1))
Forward = Callable[[], object]


class Plain(nn.Module):
    """A ghost layer whose copies are slices, pads and a concatenation of plain torch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.conv, self.runs = layer.conv, layer.runs

    def forward(self, x: Tensor) -> Tensor:
        return ghost_conv2d(x, self.conv.weight, self.conv.bias, self.runs)


def layers(channels: int) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    shared = Ghosts(channels, channels, 3, ratio=0.5, mode="fixed")
    each = Ghosts(channels, channels, 3, ratio=0.5, mode="random", each="channel")
    found: dict[str, nn.Module] = {
        "dense": nn.Conv2d(channels, channels, 3, padding=1),
        "ghost": shared.deployed(),
        "channel": each.deployed(),
        "plain": Plain(shared.deployed()),
        "half": copy.deepcopy(shared.conv),
        "depthwise": Ghosts(channels, channels, 3, ratio=0.5, mode="depthwise"),
    }
    return {n: m.eval().to(memory_format=torch.channels_last) for n, m in found.items()}


def eager(model: nn.Module, x: Tensor) -> Forward:
    return lambda: model(x)


def aot(model: nn.Module, x: Tensor) -> Forward:
    import torch._inductor

    with tempfile.TemporaryDirectory() as folder:
        program = torch.export.export(model, (x,), strict=False)
        path = torch._inductor.aoti_compile_and_package(
            program, package_path=str(Path(folder) / "model.pt2")
        )
        loaded = torch._inductor.aoti_load_package(str(path))
    return lambda: loaded(x)


def onnxruntime(model: nn.Module, x: Tensor) -> Forward:
    import onnxruntime as ort

    file, ours = io.BytesIO(), x.contiguous()
    torch.onnx.export(model.to(memory_format=torch.contiguous_format), (ours,), file, dynamo=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: ours.numpy()}
    return lambda: session.run(None, given)


RUNTIMES = {"eager": eager, "aot": aot, "onnxruntime": onnxruntime}


def rounds(contestants: dict[str, Forward], times: int) -> dict[str, list[float]]:
    """Return CPU ms of one call, the mean of two after one that warms the caches, by round."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    drawn, order = random.Random(0), list(contestants)
    for turn in range(times + 1):
        drawn.shuffle(order)
        for name in order:
            contestants[name]()
            began = time.thread_time()
            contestants[name]()
            contestants[name]()
            if turn:
                found[name].append((time.thread_time() - began) * 500)
    return found


@torch.no_grad()
def table(runtime: str, times: int) -> None:
    known = [n for n in layers(2) if runtime != "onnxruntime" or n not in ("ghost", "channel")]
    others = known[1:]
    print(f"\n{runtime}, {times} rounds: median CPU ms of dense; times dense (quartiles)\n")
    print(f"| channels, size, batch | dense ms | {' | '.join(others)} |")
    print("|---|---|" + "---|" * len(others), flush=True)
    for channels, side, batch in SHAPES:
        x = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last)
        made = {n: m for n, m in layers(channels).items() if n in known}
        found = rounds({n: RUNTIMES[runtime](m, x) for n, m in made.items()}, times)
        cells = [
            f"{channels}, {side} x {side}, {batch}",
            f"{statistics.median(found['dense']):.2f}",
        ]
        for name in others:
            ratios = [a / b for a, b in zip(found[name], found["dense"], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            cells.append(f"**{middle:.3f}** ({low:.3f} to {high:.3f})")
        print(f"| {' | '.join(cells)} |", flush=True)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), "?")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=25)
    ask.add_argument("--runtime", choices=list(RUNTIMES), action="append")
    ask.add_argument("--isa", choices=list(_native.LEVELS))
    given = ask.parse_args()
    if given.isa:
        os.environ["NASX_ISA"] = given.isa
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(
        f"machine: {processor()}, {platform.machine()}, {_native.isa()}, torch "
        f"{torch.__version__}; 1 thread; load {os.getloadavg()[0]:.1f}"
    )
    for runtime in given.runtime or RUNTIMES:
        table(runtime, given.rounds)


if __name__ == "__main__":
    main()
