"""What one call of an operator of ours costs in eager PyTorch and in an AOTInductor package.

    python benchmarks/operators.py

Times 32 layers that negate 64 numbers, by an operator registered from Python as the kernels of
ours are, and by torch's own (which AOTInductor fuses into one loop), against no layer at all.
"""

from __future__ import annotations

import argparse
import statistics
from typing import ClassVar

import torch
from torch import Tensor, nn

from nasx.cost.latency import time_networks
from nasx.operators import Reference
from nasx.study import Measure
from search_spaces._layers._native import operator

CALLS = 32

negate = operator("bench_negate(Tensor x) -> Tensor", torch.neg, torch.empty_like)


def reference(x: Tensor) -> Tensor:
    return -x


class Own(nn.Module):
    """Negates by an operator of ours."""

    references: ClassVar[dict[str, Reference]] = {"nasx::bench_negate": reference}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = negate(x)
        return y


class Plain(nn.Module):
    """Negates by an operator of PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.neg(x)


def main() -> None:
    """Print microseconds per call, by runtime, over passes of one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=20)
    passes = parser.parse_args().passes
    networks = {
        name: (nn.Sequential(*(kind() for _ in range(n))), (64,))
        for name, kind, n in (("empty", Plain, 0), ("ours", Own, CALLS), ("torch", Plain, CALLS))
    }
    print("| runtime | operator of | us per call, median | quartiles | empty network, us |")
    print("|---|---|---|---|---|")
    for runtime in ("eager", "aot"):
        timed = time_networks(networks, Measure(runtime=runtime), passes=passes, runs=8)
        nothing = timed["empty"].by_pass
        for name in ("ours", "torch"):
            pairs = zip(timed[name].by_pass, nothing, strict=True)
            q1, middle, q3 = statistics.quantiles([1e3 * (a - b) / CALLS for a, b in pairs], n=4)
            print(
                f"| {runtime} | {name} | {middle:.2f} | {q1:.2f} to {q3:.2f} | "
                f"{1e3 * statistics.median(nothing):.1f} |"
            )


if __name__ == "__main__":
    main()
