"""What do convolutions of few bits take, beside the dense one in fp32?

    python benchmarks/low_bit.py [--rounds 30] [--threads 1] [--no-onnxruntime]
    NASX_ISA=avx2 python benchmarks/low_bit.py          # or portable: the binary kernels of those

3 x 3 convolutions, C to C channels, padding 1. CPU time of this thread (of the process with more
threads); every round visits all variants in random order, a visit is one warm run and three timed.
A cell is the median over rounds of the ratio to the dense convolution (NCHW) of the same round.
Goals, geometric means on one thread: binary with packing <= 0.12 with VPOPCNTDQ; int8 on bytes that
are there <= 0.12. What quantising adds stands beside it; going to the next layer's codes
(requantising) is that layer's quantising.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from search_spaces._layers import _bytes
from search_spaces._layers.int_conv import IntConv2d
from search_spaces._layers.xnor import XnorConv2d

SHAPES = ((1, 32, 64), (1, 64, 32), (1, 128, 16), (8, 32, 32), (8, 64, 32), (8, 128, 16))
DENSE, BINARY, BYTES = "dense fp32, NCHW", "binary, packing included, NHWC", "4 bits, int8 input"
GOALS = {BINARY: 0.12, BYTES: 0.12}
Variants = dict[str, Callable[[], object]]


def variants(n: int, c: int, side: int, with_onnxruntime: bool) -> Variants:
    """Return what is timed on one shape, by name."""
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(n, c, side, side, generator=draw), torch.randn(c, c, 3, 3, generator=draw)
    last = x.contiguous(memory_format=torch.channels_last)
    xnor = XnorConv2d.from_signs(torch.where(w >= 0, 1, -1), padding=1)
    found: Variants = {
        DENSE: lambda: F.conv2d(x, w, padding=1),
        "dense fp32, NHWC": lambda: F.conv2d(last, w, padding=1),
        BINARY: lambda: xnor(last),
        "binary, packing included, NCHW": lambda: xnor(x),
    }
    if _bytes.runs_in_bytes(8, 8):
        for bits in (4, 8):
            codes = torch.randint(0, 2**bits, w.shape, generator=draw)
            found |= in_bytes(IntConv2d.from_codes(codes, bits, padding=1), x, last)
    if with_onnxruntime:
        found["ONNX Runtime QDQ, int8 input and output"] = by_onnxruntime(n, c, side)
    return found


def in_bytes(layer: IntConv2d, x: Tensor, last: Tensor) -> Variants:
    bits, wide = layer.bits, layer.bits == 8
    grid = _bytes.grid_of(layer.alpha, layer.shape, bits, 8)
    codes, sums = _bytes.quantise(last, grid, signs=False, sums=wide)
    weight = _bytes.weight_of(layer.packed, layer.shape, bits, 8, 1, 1, last)
    return {
        f"{bits} bits, int8 input": lambda: _bytes.convolve(
            codes, sums, weight, grid.factor, 1, 1, signs=False
        ),
        f"{bits} bits, quantising included, NHWC": lambda: layer(last),
        f"{bits} bits, quantising included, NCHW": lambda: layer(x),
        f"{bits} bits, quantising alone, NHWC": lambda: _bytes.quantise(
            last, grid, signs=False, sums=wide
        ),
    }


def by_onnxruntime(n: int, c: int, side: int) -> Callable[[], object]:
    """Return an int8 convolution of ONNX Runtime between QuantizeLinear and DequantizeLinear."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    shape = [n, c, side, side]
    constants = {
        "w": draw.integers(-127, 128, (c, c, 3, 3)).astype(np.int8),
        "ws": np.full(c, 0.01, np.float32), "wz": np.zeros(c, np.int8),
        "xs": np.float32(0.03), "xz": np.uint8(0), "ys": np.float32(0.3), "yz": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["xf", "wf"], ["yf"], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["yf", "ys", "yz"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(e, TensorProto.UINT8, shape) for e in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = draw.integers(0, 256, shape).astype(np.uint8)
    return lambda: session.run(None, {"x": x})


def timed(runs: Variants, rounds: int) -> dict[str, list[float]]:
    """Return CPU milliseconds of each variant in every round."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.process_time
    order, shuffled = list(runs), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name in order:
            run = runs[name]
            run()  # warms what the one before has cooled
            began = clock()
            for _ in range(3):
                run()
            times[name].append(1e3 * (clock() - began) / 3)
    return times


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((n.partition(":")[2].strip() for n in lines if n.startswith("model name")), "?")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--rounds", type=int, default=30)
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("--no-onnxruntime", action="store_true")
    given = ask.parse_args()
    torch.set_num_threads(given.threads)
    one = torch.ones(1, 1, 1, 1)
    print(f"machine: {processor()}, torch {torch.__version__}, {given.threads} thread(s)")
    print(
        f"kernels: {XnorConv2d.from_signs(one).kernel}; {IntConv2d.from_codes(one.int(), 4).kernel}"
    )
    shapes = ", ".join("x".join(map(str, shape)) for shape in SHAPES)
    print(f"{given.rounds} rounds; shapes N x C x H: {shapes}\n")
    ratios: dict[str, list[float]] = {}
    spread: dict[str, list[float]] = {}
    dense = []
    with torch.inference_mode():
        for shape in SHAPES:
            times = timed(variants(*shape, not given.no_onnxruntime), given.rounds)
            dense.append(statistics.median(times[DENSE]))
            for name, found in times.items():
                pairs = sorted(t / d for t, d in zip(found, times[DENSE], strict=True))
                ratios.setdefault(name, []).append(statistics.median(pairs))
                quarter = len(pairs) // 4
                spread.setdefault(name, []).append(pairs[-1 - quarter] / pairs[quarter] - 1)
    print("dense, ms: " + ", ".join(f"{t:.2f}" for t in dense) + "\n")
    print("| variant | geometric mean | by shape | quartiles apart, median |")
    print("|---|---|---|---|")
    for name, found in ratios.items():
        mean = math.exp(statistics.mean(map(math.log, found)))
        goal = f" (goal {GOALS[name]})" if name in GOALS else ""
        row = " ".join(f"{r:.3f}" for r in found)
        print(f"| {name} | {mean:.3f}{goal} | {row} | {statistics.median(spread[name]):.0%} |")


if __name__ == "__main__":
    main()
