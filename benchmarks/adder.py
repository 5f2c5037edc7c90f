"""How fast is the adder layer? Beside F.conv2d and the form that its papers give, on five shapes.

    python benchmarks/adder.py [--rounds 15] [--isa avx512] [--threads 2] [--only speed]

speed: CPU ms of forward and backward (both gradients), one thread, N = 32, k = 3, padding 1; every
round visits all contestants in random order, ratios are medians of paired rounds. The spread form
holds filters x taps x places at once; plain torch is the fallback without a compiler.
memory: growth of the peak resident memory by one forward and backward, each in its own process.
threads: wall ms on one thread and on more, part by part; it needs idle cores.
Goals: geometric mean over conv at most 2.5, none above 3.2 (avx2: mean at most 4); at least 50
times faster than the spread form on the three large shapes; memory at most conv's; 1.7 on two
threads.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces._layers import _adder_kernel, _native
from search_spaces._layers._adder_ops import adder_conv2d, grad_input, grad_weight

SHAPES = [(16, 16, 32, 1), (32, 32, 16, 1), (64, 64, 8, 1), (16, 16, 8, 1), (32, 64, 16, 2)]
LARGE = 3  # the first shapes, on which the spread form is compared
GOALS = {"avx512": (2.5, 3.2), "avx2": (4.0, math.inf)}
FORMS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
Layer = Callable[[Tensor, Tensor, int], Tensor]
Shape = tuple[int, int, int, int]


class Spread(torch.autograd.Function):
    """The published layer: each difference of filter, tap and place lies in memory."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *given: Tensor) -> Tensor:
        columns, filters = given
        ctx.save_for_backward(columns, filters)
        return -(filters[:, :, None] - columns).abs().sum(1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor]:
        columns, filters = ctx.saved_tensors
        g = grad[:, None]
        of_filters = ((columns - filters[:, :, None]) * g).sum(2)
        of_filters *= 0.2 * math.sqrt(filters.numel()) / of_filters.norm().clamp_min(1e-12)
        return (-(columns - filters[:, :, None]).clamp(-1, 1) * g).sum(0), of_filters


def spread(x: Tensor, w: Tensor, stride: int) -> Tensor:
    columns = F.unfold(x, 3, padding=1, stride=stride).transpose(0, 1).flatten(1)
    side = (x.shape[2] - 1) // stride + 1
    y = Spread.apply(columns, w.flatten(1))
    return y.view(w.shape[0], x.shape[0], side, side).transpose(0, 1)


def conv(x: Tensor, w: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, w, stride=stride, padding=1)


def kernel(level: str) -> Layer:
    def layer(x: Tensor, w: Tensor, stride: int) -> Tensor:
        os.environ["NASX_ISA"] = level
        return adder_conv2d(x, w, stride, 1)

    return layer


def plain(x: Tensor, w: Tensor, stride: int) -> Tensor:
    return adder_conv2d(x, w, stride, 1)


def problem(
    shape: Shape, form: torch.memory_format, many: int = 1
) -> tuple[Tensor, Tensor, Tensor, int]:
    c, o, side, stride = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32 * many, c, side, side, generator=generator).contiguous(memory_format=form)
    w = torch.randn(o, c, 3, 3, generator=generator).contiguous(memory_format=form)
    y = conv(x, w, stride)
    grad = torch.randn(y.shape, generator=generator).contiguous(memory_format=form)
    return x.requires_grad_(), w.requires_grad_(), grad, stride


def visit(name: str, layer: Layer, given: tuple[Tensor, Tensor, Tensor, int], clock: Clock) -> Pair:
    """Return ms of forward and of backward."""
    x, w, grad, stride = given
    without = name == "plain torch"
    found = _adder_kernel.library
    if without:
        _adder_kernel.library = lambda name: None
    try:
        began = clock()
        y = layer(x, w, stride)
        middle = clock()
        torch.autograd.grad(y, (x, w), grad)
        return 1e3 * (middle - began), 1e3 * (clock() - middle)
    finally:
        _adder_kernel.library = found


Clock = Callable[[], float]
Pair = tuple[float, float]


def rounds(
    layers: dict[str, Layer], shape: Shape, form: torch.memory_format, times: int
) -> dict[str, list[Pair]]:
    given, order, shuffled = problem(shape, form), list(layers), random.Random(0)
    found: dict[str, list[Pair]] = {name: [] for name in layers}
    for turn in range(times + 1):
        shuffled.shuffle(order)
        for name in order:
            pair = visit(name, layers[name], given, time.process_time)
            if turn:  # the first round compiles and allocates
                found[name].append(pair)
    return found


def ratio(over: list[Pair], under: list[Pair]) -> tuple[float, float, float]:
    """Return median and quartiles of the paired ratios of forward + backward."""
    ratios = [sum(a) / sum(b) for a, b in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


def named(shape: Shape) -> str:
    c, o, side, stride = shape
    return f"C{c} O{o} {side} x {side}" + (f" stride {stride}" if stride > 1 else "")


def speed(levels: list[str], times: int) -> None:
    layers = {"conv": conv, **{level: kernel(level) for level in levels}}
    for name, form in FORMS.items():
        print(
            f"\n{name}, {times} rounds: median CPU ms forward + backward; times conv (quartiles)\n"
        )
        print("| shape | conv | " + " | ".join(f"{n} | x conv" for n in levels) + " |")
        print("|---|---|" + "---|---|" * len(levels))
        every: dict[str, list[float]] = {level: [] for level in levels}
        for shape in SHAPES:
            found = rounds(layers, shape, form, times)
            cells = [named(shape), both(found["conv"])]
            for level in levels:
                middle, low, high = ratio(found[level], found["conv"])
                every[level].append(middle)
                cells += [both(found[level]), f"**{middle:.2f}** ({low:.2f} to {high:.2f})"]
            print(f"| {' | '.join(cells)} |", flush=True)
        for level, ratios in every.items():
            mean, worst = statistics.geometric_mean(ratios), max(ratios)
            goal = GOALS.get(level)
            wanted = f" (goals {goal[0]} and {goal[1]})" if goal else ""
            print(f"\n{level}: geometric mean {mean:.2f}, worst {worst:.2f}{wanted}", flush=True)


def both(pairs: list[Pair]) -> str:
    forward, backward = (statistics.median(values) for values in zip(*pairs, strict=True))
    return f"{forward:.2f} + {backward:.2f}"


def slow(level: str, times: int = 3) -> None:
    layers = {level: kernel(level), "plain torch": plain, "spread": spread}
    print(f"\ncontiguous, {times} rounds: median CPU ms, and how many times faster {level} is\n")
    print("| shape | plain torch | times | spread | times (least) |\n|---|---|---|---|---|")
    for i, shape in enumerate(SHAPES):
        found = rounds(layers, shape, torch.contiguous_format, times)
        cells = [named(shape)]
        for name in ("plain torch", "spread"):
            ratios = [sum(a) / sum(b) for a, b in zip(found[name], found[level], strict=True)]
            cells += [both(found[name]), f"{statistics.median(ratios):.0f}"]
        goal = "; goal 50" if i < LARGE else ""
        print(f"| {' | '.join(cells)} ({min(ratios):.0f}{goal}) |", flush=True)


def growth(name: str) -> None:
    """Print by how many MiB this process grows at its peak (called in a process of its own)."""
    torch.set_num_threads(1)
    layer = {"conv": conv, "spread": spread}.get(name, plain)
    for shape in ((16, 16, 4, 1), SHAPES[0]):  # the first loads what has to be loaded
        given = problem(shape, torch.channels_last)
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = status("VmRSS")
        visit(name, layer, given, time.process_time)
    print(f"{(status('VmHWM') - before) / 1024:.1f}")


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def memory(level: str, times: int = 3) -> None:
    print(f"\n{named(SHAPES[0])}, growth of the peak in MiB, median of {times} processes (range)\n")
    print("| form | MiB |\n|---|---|")
    for name in ("conv", level, "plain torch", "spread"):
        command = [sys.executable, __file__, "--growth", name]
        environment = {**os.environ, "NASX_ISA": level}
        found = [
            float(subprocess.run(command, env=environment, text=True, check=True,
                                 capture_output=True).stdout)
            for _ in range(times)
        ]  # fmt: skip
        print(f"| {name} | {statistics.median(found):.1f} ({min(found)} to {max(found)}) |")


def scaling(level: str, threads: int, times: int) -> None:
    """Print by how much more threads shorten each part; the wall clock, so on idle cores only."""
    print(f"\nWall ms on 1 thread, and times faster on {threads} (quartiles), {times} rounds; "
          f"load {os.getloadavg()[0]:.1f}\n")  # fmt: skip
    parts = ("output", "of the input", "of the weight", "adder layer", "convolution")
    print(f"| N | shape | {' | '.join(parts)} |\n|---|---|" + "---|" * len(parts))
    layer = kernel(level)
    for many in (1, 4):
        means: list[float] = []
        for shape in SHAPES:
            x, w, grad, stride = problem(shape, torch.channels_last, many)
            bare = (x.detach(), w.detach(), stride, 1)
            runs: list[Callable[[], object]] = [
                lambda g=bare: adder_conv2d(*g),
                lambda g=bare, up=grad: grad_input(up, *g),
                lambda g=bare, up=grad: grad_weight(up, *g, 0.2),
                lambda g=(x, w, grad, stride): visit(level, layer, g, time.perf_counter),
                lambda g=(x, w, grad, stride): visit("conv", conv, g, time.perf_counter),
            ]
            cells = [str(len(x)), named(shape)]
            for run in runs:
                ones, gains = zip(*(threaded(run, threads) for _ in range(times)), strict=True)
                low, middle, high = statistics.quantiles(gains, n=4)
                cells.append(
                    f"{statistics.median(ones):.2f}: {middle:.2f} ({low:.2f} to {high:.2f})"
                )
                if run is runs[3]:
                    means.append(middle)
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\nadder layer: geometric mean {statistics.geometric_mean(means):.2f} (goal 1.7)\n")
    maps = Path("/proc/self/maps").read_text().splitlines()
    pools = {line.split()[-1] for line in maps if "gomp" in line or "iomp" in line}
    print(f"OpenMP libraries in this process: {len(pools)} (more would fight for the cores)")


def threaded(run: Callable[[], object], threads: int) -> Pair:
    """Return wall ms on one thread, and how many times faster it is on more."""
    took = []
    for count in (1, threads):
        torch.set_num_threads(count)
        run()  # wakes the threads
        began = time.perf_counter()
        for _ in range(3):
            run()
        took.append((time.perf_counter() - began) * 1e3 / 3)
    torch.set_num_threads(1)
    return took[0], took[0] / took[1]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), "?")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=15)
    ask.add_argument("--isa", choices=list(_native.LEVELS), action="append")
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--only", choices=["speed", "slow", "memory", "threads"])
    ask.add_argument("--growth", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.growth:
        growth(given.growth)
        return
    here = [n for n, (needs, _) in _native.LEVELS.items() if needs <= _native.processor_flags()]
    levels = given.isa or [n for n in here if n != "portable"] or here
    torch.set_num_threads(1)
    print(f"machine: {processor()}, {platform.machine()}, torch {torch.__version__}; 1 thread")
    if given.only in (None, "speed"):
        speed(levels, given.rounds)
    if given.only in (None, "slow"):
        slow(levels[0])
    if given.only in (None, "memory"):
        memory(levels[0])
    if given.only in (None, "threads") and (os.cpu_count() or 1) >= given.threads:
        scaling(levels[0], given.threads, given.rounds)


if __name__ == "__main__":
    main()
