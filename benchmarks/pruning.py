"""What do pruned channels save in time: in one layer, and in whole networks?

    python benchmarks/pruning.py [--rounds 30] [--ratio 0.5] [--only layers joins resnet18 ...]

CPU time of one thread; every round visits all variants in random order, a visit is one warm run
and three timed. A cell is the median over rounds of the ratio to the dense one of the same round.
Goal: a 3x3 layer halved on both sides takes <= 0.30 of the dense one, geometric mean of six shapes.

Layers: 3 x 3, C to C channels, padding 1, NCHW, in PyTorch (eager) and in ONNX Runtime; "join" are
ways to add half of the channels to a shortcut. Networks: drawn channels of every set stay (kept
numbers lie anywhere, as scores leave them), in the modes of search_spaces/_surgery.py, in ONNX
Runtime on the file that is deployed, batch 1 and 8, beside the ratio of MACs.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.cost.card import card_of
from nasx.cost.onnxfile import timing_onnx, write_onnx
from nasx.shape import TaskShape
from search_spaces._backbones import network
from search_spaces._bases import micro
from search_spaces._coupling import Mode, coupled
from search_spaces._layers.channels import Widen
from search_spaces._resnets import ResNetPlan, large_resnet, resnet
from search_spaces._surgery import kept_counts, slim

SHAPES = ((1, 32, 64), (1, 64, 32), (1, 128, 16), (8, 32, 32), (8, 64, 32), (8, 128, 16))
GOAL = 0.30
MODES: tuple[Mode, ...] = ("scatter", "inner", "group")
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "micro": (lambda: network(micro(TaskShape("classify", (3, 32, 32), 10)).plan), 32),
    "resnet20": (lambda: resnet(ResNetPlan(3, 10, shortcut="bare")), 32),
    "resnet18": (lambda: resnet(large_resnet(18, 3, 10)), 64),
}
Variants = dict[str, Callable[[], object]]


class IndexAdd(nn.Module):
    """Add few channels in place of their numbers, by torch's own operator."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor(places))

    def forward(self, few: Tensor, aside: Tensor) -> Tensor:
        return aside.index_add(1, self.places, few)


class IndexCopy(IndexAdd):
    """Write few channels into zeros, then add."""

    def forward(self, few: Tensor, aside: Tensor) -> Tensor:
        return aside + torch.zeros_like(aside).index_copy(1, self.places, few)


class Gathered(nn.Module):
    """Add few channels as our networks do: one zero channel, one gather, one sum."""

    def __init__(self, places: list[int], size: int) -> None:
        super().__init__()
        self.widen = Widen(places, size)

    def forward(self, few: Tensor, aside: Tensor) -> Tensor:
        return aside + self.widen(few)


class Joined(nn.Module):
    """A 3x3 convolution beside an identity shortcut."""

    def __init__(self, weight: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.join(F.conv2d(x, self.weight, padding=1), x))


def deployed(model: nn.Module, x: Tensor) -> bytes:
    """Return the file that is deployed, for any batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model.eval(), tuple(x.shape[1:]), path)
        return path.read_bytes()


def onnxruntime_of(file: bytes, x: Tensor) -> Callable[[], object]:
    """Return a run of an ONNX file on x, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name, given = session.get_inputs()[0].name, x.numpy()
    return lambda: session.run(None, {name: given})


def layers(n: int, c: int, side: int) -> Iterator[tuple[str, Variants]]:
    """Yield one layer dense and halved, in both runtimes."""
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(n, c, side, side, generator=draw), torch.randn(c, c, 3, 3, generator=draw)
    half, few = x[:, : c // 2].contiguous(), w[: c // 2, : c // 2].contiguous()
    rows = w[: c // 2].contiguous()
    yield (
        "eager",
        {
            "dense": lambda: F.conv2d(x, w, padding=1),
            "both sides halved": lambda: F.conv2d(half, few, padding=1),
            "outputs halved": lambda: F.conv2d(x, rows, padding=1),
        },
    )

    def convolution(weight: Tensor, given: Tensor) -> Callable[[], object]:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
        layer.weight = nn.Parameter(weight)
        return onnxruntime_of(timing_onnx(layer, tuple(given.shape[1:]), len(given)), given)

    yield (
        "onnxruntime",
        {
            "dense": convolution(w, x),
            "both sides halved": convolution(few, half),
            "outputs halved": convolution(rows, x),
        },
    )


def joins(n: int, c: int, side: int) -> Iterator[tuple[str, Variants]]:
    """Yield a layer beside a shortcut, and ways to add half of its channels."""
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(n, c, side, side, generator=draw), torch.randn(c, c, 3, 3, generator=draw)
    rows = w[: c // 2].contiguous()
    places = torch.randperm(c, generator=draw)[: c // 2].sort().values.tolist()
    joined = {
        "dense": Joined(w, torch.add),
        "join: zero channel and gather (ours)": Joined(rows, Gathered(places, c)),
        "join: index_add": Joined(rows, IndexAdd(places)),
        "join: index_copy": Joined(rows, IndexCopy(places)),
    }
    runs: Variants = {n: onnxruntime_of(deployed(m, x), x) for n, m in joined.items()}
    yield "onnxruntime, with a shortcut", runs


def slimmed(model: nn.Module, mode: Mode, ratio: float, align: int) -> nn.Module:
    """Return a network without `ratio` of its channels, drawn."""
    # Inside the blocks of micro there is nothing; its head is.
    untouched = ("stem", "shortcut") if mode == "inner" else None
    sets = coupled(model, mode, untouched)
    counts, draw = kept_counts(sets, ratio, align), torch.Generator().manual_seed(0)
    kept = {c.name: torch.randperm(c.size, generator=draw)[: counts[c.name]].tolist() for c in sets}
    return slim(model, kept, mode, untouched)


def timed(runs: Variants, rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each variant in every round."""
    order, shuffled = list(runs), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            run = runs[name]
            run()  # warms what the one before has cooled
            began = time.thread_time()
            for _ in range(3):
                run()
            times[name].append(1e3 * (time.thread_time() - began) / 3)
    return times


def ratios(times: dict[str, list[float]]) -> dict[str, tuple[float, float, float]]:
    """Return each variant's median ratio to the dense one, how far its quartiles are apart, and
    the ratio of the minima (what load disturbs least)."""
    found = {}
    for name, own in times.items():
        pairs = sorted(t / d for t, d in zip(own, times["dense"], strict=True))
        quarter = len(pairs) // 4
        apart = pairs[-1 - quarter] / pairs[quarter] - 1
        found[name] = statistics.median(pairs), apart, min(own) / min(times["dense"])
    return found


def of_layers(rounds: int, made: Callable[..., Iterator[tuple[str, Variants]]]) -> None:
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for shape in SHAPES:
        for runtime, variants in made(*shape):
            for name, cell in ratios(timed(variants, rounds)).items():
                found.setdefault((runtime, name), []).append(cell)
    shapes = ", ".join("x".join(map(str, shape)) for shape in SHAPES)
    print(f"3 x 3 layers, N x C x H: {shapes}\n")
    print("| runtime | variant | geometric mean | of minima | by shape | quartiles apart, median |")
    print("|---|---|---|---|---|---|")
    for (runtime, name), cells in found.items():
        mean, least = (math.exp(statistics.mean(math.log(c[i]) for c in cells)) for i in (0, 2))
        goal = f" (goal {GOAL})" if name == "both sides halved" else ""
        row = " ".join(f"{c[0]:.3f}" for c in cells)
        apart = statistics.median(c[1] for c in cells)
        print(f"| {runtime} | {name} | {mean:.3f}{goal} | {least:.3f} | {row} | {apart:.0%} |")
    print()


def of_networks(rounds: int, ratio: float, asked: list[str]) -> None:
    print(f"whole networks, ratio {ratio}, ONNX Runtime\n")
    print("| network | mode | align | MACs | params | batch 1 | batch 8 | quartiles apart |")
    print("|---|---|---|---|---|---|---|---|")
    for title in asked:
        make, side = NETWORKS[title]
        torch.manual_seed(0)
        dense = make().eval()
        models = {"dense": dense}
        for mode in MODES:
            for align in (1, 8):
                models[f"{mode} | {align}"] = slimmed(dense, mode, ratio, align)
        cells = []
        xs = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(1))
        files = {name: deployed(model, xs) for name, model in models.items()}
        for x in (xs[:1], xs):
            runs = {name: onnxruntime_of(file, x) for name, file in files.items()}
            times = timed(runs, rounds)
            cells.append((statistics.median(times["dense"]), ratios(times)))
        whole = card_of(dense, (3, side, side))
        print(
            f"| {title}, {side} px | dense | | {whole.macs / 1e6:.2f} M | {whole.params:,} | "
            f"{cells[0][0]:.3f} ms | {cells[1][0]:.3f} ms | |"
        )
        for name, model in list(models.items())[1:]:
            card = card_of(model, (3, side, side))
            (one, spread, _), (eight, also, _) = (found[name] for _, found in cells)
            print(
                f"| | {name} | {card.macs / whole.macs:.3f} | {card.params / whole.params:.3f} | "
                f"{one:.3f} | {eight:.3f} | {spread:.0%}, {also:.0%} |"
            )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), "?")


def main() -> None:
    import onnxruntime

    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=30)
    ask.add_argument("--ratio", type=float, default=0.5)
    ask.add_argument("--only", nargs="+", choices=["layers", "joins", *NETWORKS])
    given = ask.parse_args()
    torch.set_num_threads(1)
    versions = f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    print(f"machine: {processor()}, {versions}, one thread, {given.rounds} rounds\n")
    with torch.inference_mode():
        asked = given.only or ["layers", "joins", *NETWORKS]
        for name, made in (("layers", layers), ("joins", joins)):
            if name in asked:
                of_layers(given.rounds, made)
        if nets := [name for name in asked if name in NETWORKS]:
            of_networks(given.rounds, given.ratio, nets)


if __name__ == "__main__":
    main()
