"""Does a latency repeat while two trainings run beside it? Twelve small CNNs, round after round.

    python benchmarks/latency.py [--runtime onnxruntime] [--rounds 8] [--beside 2] [--drift FILE]

Each round times all nets by the protocol, then each by torch.utils.benchmark's blocked_autorange,
so both meet the same minutes; seconds are wall time. Goals: Kendall tau between two rounds at least
.95, at most .05 s per net, median IQR between rounds at most 4 %; and with --drift, run twice half
an hour apart (the first run writes FILE, the second compares): calibrated values (ms / calibrator
ms) within 5 %.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from nasx.cost import probe
from nasx.cost.latency import Latency, time_models, time_networks
from nasx.cost.onnxfile import timing_onnx
from nasx.files import read_json, read_json_lines, write_json
from nasx.study import Measure

SHAPE = (3, 32, 32)
TAU, SECONDS, IQR, DRIFT = 0.95, 0.05, 0.04, 0.05  # goals


def conv(a: int, b: int, k: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(b)]


class Sum(nn.Module):
    """A residual block: the body, and what goes around it."""

    def __init__(self, body: list[nn.Module], around: list[nn.Module]) -> None:
        super().__init__()
        self.body, self.around = nn.Sequential(*body), nn.Sequential(*around)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.around(x)


def inverted(width: int) -> list[nn.Module]:
    layers: list[nn.Module] = [*conv(3, width, 3, 2), nn.ReLU6()]
    a = width
    for b, stride in ((width, 1), (2 * width, 2), (2 * width, 1), (4 * width, 2), (4 * width, 1)):
        h = 4 * a
        body = [*conv(a, h, 1), nn.ReLU6(), *conv(h, h, 3, stride, h), nn.ReLU6(), *conv(h, b, 1)]
        layers += [Sum(body, [])] if (a, stride) == (b, 1) else body
        a = b
    return layers


def residual(width: int) -> list[nn.Module]:
    layers: list[nn.Module] = [*conv(3, width, 3), nn.ReLU()]
    a = width
    for b, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        body = [*conv(a, b, 3, stride), nn.ReLU(), *conv(b, b, 3)]
        around = [] if (a, stride) == (b, 1) else conv(a, b, 1, stride)
        layers += [Sum(body, around), nn.ReLU()]
        a = b
    return layers


def plain(width: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    a = 3
    for b in (width, 2 * width, 4 * width):
        layers += [*conv(a, b, 3), nn.ReLU(), *conv(b, b, 3), nn.ReLU(), nn.MaxPool2d(2)]
        a = b
    return layers


def nets() -> dict[str, nn.Module]:
    """Return twelve classifiers of 10 classes, the same at every call."""
    torch.manual_seed(0)
    found = {}
    for family, widths in ((inverted, (4, 8, 12, 16, 24)), (residual, (4, 8, 12, 16)),
                           (plain, (4, 8, 12))):  # fmt: skip
        for width in widths:
            head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10)]
            net = nn.Sequential(*family(width), *head).eval()
            net(torch.zeros(1, *SHAPE))
            found[f"{family.__name__} {width}"] = net
    return found


def train_for_ever() -> None:
    """Train one net after the other on one thread, as a search's worker does."""
    from nasx.registry import task
    from nasx.training import Training
    from search_spaces.tinynet import TinyNet

    torch.set_num_threads(1)
    data = task("digits-in-photos")
    for seed in itertools.count():
        for samples in Training(TinyNet(), data, full=16_000, seed=seed).run(16_000):
            if not seed and samples <= 64:
                print("trains", flush=True)


@contextlib.contextmanager
def trainings(count: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            asked = [sys.executable, __file__, "--train"]
            process = stack.enter_context(subprocess.Popen(asked, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit("a training beside the measurement did not begin")
        yield


def autorange(runners: dict[str, probe.Run]) -> dict[str, float]:
    found = {}
    for name, run in runners.items():
        timer = Timer("run()", globals={"run": run}, num_threads=1)
        found[name] = timer.blocked_autorange(min_run_time=0.1).median * 1e3
    return found


def kendall(a: dict[str, float], b: dict[str, float]) -> float:
    """Return Kendall's tau (a) of two orders of the same nets."""
    pairs = list(itertools.combinations(a, 2))
    return sum(float(np.sign((a[i] - a[j]) * (b[i] - b[j]))) for i, j in pairs) / len(pairs)


def spread(rounds: list[dict[str, float]], name: str) -> float:
    q1, middle, q3 = np.quantile([found[name] for found in rounds], (0.25, 0.5, 0.75))
    return float((q3 - q1) / middle)


def row(method: str, rounds: list[dict[str, float]], seconds: list[float]) -> str:
    taus = [kendall(a, b) for a, b in itertools.pairwise(rounds)]
    iqr = statistics.median(spread(rounds, name) for name in rounds[0])
    each = statistics.median(seconds) / len(rounds[0])
    return (
        f"| {method} | {statistics.median(taus):.3f} | {min(taus):.3f} | {100 * iqr:.1f} % "
        f"| {each:.3f} |"
    )


def drift(file: Path, runtime: str, values: dict[str, float]) -> str:
    """Write calibrated values, or compare with those of an earlier run."""
    before = read_json(file)
    if before is None:
        write_json(file, {"runtime": runtime, "time": time.time(), "values": values})
        return f"calibrated values written to {file}: run the same command in half an hour"
    if before["runtime"] != runtime:
        raise SystemExit(f"{file} holds values of {before['runtime']}: name another file")
    ratios = [values[name] / before["values"][name] for name in values]
    middle = statistics.median(ratios)
    return (
        f"drift of the calibrated value in {(time.time() - before['time']) / 60:.0f} min: "
        f"{100 * (middle - 1):+.1f} % (nets {100 * (min(ratios) - 1):+.1f} to "
        f"{100 * (max(ratios) - 1):+.1f} %; goal within {100 * DRIFT:.0f} %)"
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runtime", choices=("onnxruntime", "eager"), default="onnxruntime")
    ask.add_argument("--rounds", type=int, default=8)
    ask.add_argument("--beside", type=int, default=2, help="trainings beside the measurement")
    ask.add_argument("--drift", type=Path, metavar="FILE")
    ask.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.train:
        train_for_ever()
    if given.rounds < 2:
        raise SystemExit("rounds are compared: --rounds must be at least 2")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    measure, models = Measure(runtime=given.runtime), nets()
    if given.runtime == "eager":
        x = torch.zeros(1, *SHAPE)
        runners = {name: (lambda net=net: net(x)) for name, net in models.items()}

        def timed(turn: int, raw: Path) -> dict[str, Latency]:
            networks = {name: (net, SHAPE) for name, net in models.items()}
            return time_networks(networks, measure, seed=turn, raw=raw)
    else:
        files = {name: timing_onnx(net, SHAPE, 1) for name, net in models.items()}
        runners = {name: probe.runner_of(data, 1, 1, name) for name, data in files.items()}

        def timed(turn: int, raw: Path) -> dict[str, Latency]:
            return time_models(files, measure, seed=turn, raw=raw)

    found: list[dict[str, Latency]] = []
    anchor: list[dict[str, float]] = []
    whole, anchored = [], []
    with tempfile.TemporaryDirectory() as folder, trainings(given.beside):
        raw = Path(folder) / "latency.jsonl"
        for turn in range(given.rounds):
            began = time.perf_counter()
            found.append(timed(turn, raw))
            whole.append(time.perf_counter() - began)
            began = time.perf_counter()
            anchor.append(autorange(runners))
            anchored.append(time.perf_counter() - began)
        heads = [line for line in read_json_lines(raw) if "measurement" in line]
    block = [head["block"]["wall_ms"] / 1e3 for head in heads]
    calibrated = [{n: v.median_ms / v.calibrator_ms for n, v in r.items()} for r in found]
    least = [{n: v.min_ms for n, v in r.items()} for r in found]
    share = statistics.median(v.cpu_share for r in found for v in r.values())
    print(f"{heads[0]['machine']['cpu']}, cores {heads[0]['machine']['affinity']}, {given.runtime}")
    print(f"{given.rounds} rounds, {given.beside} trainings beside, CPU share {share:.0%}\n")
    print("| method | tau between rounds, median | least | median IQR over rounds | s per net |")
    print("|---|---|---|---|---|")
    print(row("calibrated median (stored)", calibrated, block))
    print(row("least run (ranks)", least, block))
    print(row("torch blocked_autorange(.1 s)", anchor, anchored))
    started = statistics.median(whole) / len(models)
    print(f"\ngoals: tau {TAU}, IQR {100 * IQR:.0f} %, {SECONDS} s per net", end=" ")
    print(f"(with the start of the probe {started:.3f} s; export left out)\n")
    print("| net | ms, calibrated | IQR over rounds | ms, autorange | IQR over rounds |")
    print("|---|---|---|---|---|")
    for name in models:
        ours = statistics.median(r[name].median_ms for r in found)
        theirs = statistics.median(r[name] for r in anchor)
        print(f"| {name} | {ours:.3f} | {100 * spread(calibrated, name):.1f} % | {theirs:.3f} "
              f"| {100 * spread(anchor, name):.1f} % |")  # fmt: skip
    if given.drift:
        middle = {n: statistics.median(r[n] for r in calibrated) for n in models}
        print("\n" + drift(given.drift, given.runtime, middle))


if __name__ == "__main__":
    main()
