"""How does the latency of a detector fall as the gates of its pyramid close?

    python benchmarks/dyfpn.py [--rounds 30] [--widen 1.0] [--out 32]

An untrained detector of the space `dyfpn` (neck "skip", gate cnn_a) on 3 x 96 x 96, whose gates are
held open or shut by the bias of their last layer: what is timed is the network that is deployed,
gates included. CPU time of one thread; every round visits all settings in drawn order, a visit is
one warm run and three timed. Cells are medians over rounds of the ratio to all gates open.

Batch 1 in PyTorch (eager) and in ONNX Runtime, whose file holds each gate as an If; batch 8 in
eager, where of eight images as many have their gates open as the row says.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost.onnxfile import timing_onnx
from nasx.cost.ops import count
from nasx.shape import Boxes, TaskShape
from search_spaces.dyfpn import DyFpn

SHAPE = TaskShape("detect", (3, 96, 96), Boxes(10, (4, 8, 16)))
SETTINGS = {
    "all open": (True, True, True),
    "stride 16 shut": (True, True, False),
    "strides 8, 16 shut": (True, False, False),
    "stride 4 shut": (False, True, True),
    "all shut": (False, False, False),
}
Runs = dict[str, Callable[[], object]]


def held(model: Any, opened: tuple[bool, ...]) -> nn.Module:
    """Hold the gates of each level open or shut, fine to coarse."""
    for level, wanted in zip(model.neck.gate.levels, opened, strict=True):
        nn.init.zeros_(level[-1].weight)
        with torch.no_grad():
            level[-1].bias.copy_(torch.tensor([0.0, 9.0 if wanted else -9.0]))
    return model.eval()  # type: ignore[no-any-return]


def built(candidate: DyFpn) -> nn.Module:
    """Return the untrained network from a fixed seed."""
    torch.manual_seed(0)
    return candidate.build(SHAPE)


class Some(nn.Module):
    """A gate that is open for the first `many` images of a batch."""

    def __init__(self, levels: int, many: int) -> None:
        super().__init__()
        self.levels, self.many = levels, many

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return logits (N, 2) of each level."""
        run = (torch.arange(len(features[0])) < self.many).float()
        return [torch.stack([0.5 - run, run - 0.5], 1)] * self.levels


def onnxruntime_of(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a run of the exported network on x, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    file = timing_onnx(model, tuple(x.shape[1:]), len(x))
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name, given = session.get_inputs()[0].name, x.numpy()
    return lambda: session.run(None, {name: given})


def timed(runs: Runs, rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each setting in every round."""
    order, shuffled = list(runs), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            runs[name]()  # warms what the one before has cooled
            began = time.thread_time()
            for _ in range(3):
                runs[name]()
            times[name].append(1e3 * (time.thread_time() - began) / 3)
    return times


def show(title: str, times: dict[str, list[float]], macs: dict[str, float]) -> None:
    """Print one table: median ratios to the first row, their quartiles, and MACs."""
    first = next(iter(times))
    print(
        f"\n{title}, {len(times[first])} rounds; {first}: {statistics.median(times[first]):.2f} ms"
    )
    for name, own in times.items():
        pairs = sorted(t / d for t, d in zip(own, times[first], strict=True))
        low, middle, high = statistics.quantiles(pairs, n=4)
        share = macs[name] / macs[first]
        print(f"| {name} | {share:.3f} | **{middle:.3f}** ({low:.3f} to {high:.3f}) |")


def main() -> None:
    """Time all settings and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--widen", type=float, default=1.0)
    parser.add_argument("--out", type=int, default=32)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    candidate = DyFpn(widen=asked.widen, out=asked.out)
    print(f"{platform.machine()}, torch {torch.__version__}, {candidate.widen=} {candidate.out=}")
    x = torch.rand(1, *SHAPE.input, generator=torch.Generator().manual_seed(0))
    networks = {name: held(built(candidate), opened) for name, opened in SETTINGS.items()}
    plain = {"plain 1x1 pyramid": built(DyFpn(neck="fpn", widen=asked.widen, out=asked.out)).eval()}
    networks |= plain
    macs = {name: float(count(model, x).macs) for name, model in networks.items()}
    with torch.no_grad():
        runs: Runs = {n: lambda m=m: m(x) for n, m in networks.items()}  # type: ignore[misc]
        show("eager, batch 1", timed(runs, asked.rounds), macs)
        runs = {name: onnxruntime_of(model, x) for name, model in networks.items()}
        show("onnxruntime, batch 1", timed(runs, asked.rounds), macs)
        eight = torch.rand(8, *SHAPE.input, generator=torch.Generator().manual_seed(0))
        batches: dict[str, Any] = {}
        for many in (8, 6, 4, 2, 0):
            model: Any = built(candidate).eval()
            model.neck.gate = Some(3, many)
            batches[f"{many} of 8 open"] = model
        macs = {name: float(count(model, eight).macs) for name, model in batches.items()}
        runs = {n: lambda m=m: m(eight) for n, m in batches.items()}  # type: ignore[misc]
        show("eager, batch 8", timed(runs, asked.rounds), macs)


if __name__ == "__main__":
    main()
