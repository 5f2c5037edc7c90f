"""The runtimes that can time a network, by the name that `measure.runtime` gives them."""

from __future__ import annotations

from collections.abc import Callable

from nasx.cost.inprocess import sample_aot, sample_compile, sample_cuda, sample_eager
from nasx.cost.piped import sample_onnxruntime
from nasx.cost.samples import Networks, Plan, Samples
from nasx.study import Measure

Sampler = Callable[[Networks, Measure, Plan], Samples]

RUNTIMES: dict[str, Sampler] = {
    "onnxruntime": sample_onnxruntime,
    "aot": sample_aot,
    "eager": sample_eager,
    "compile": sample_compile,
    "cuda": sample_cuda,
}
