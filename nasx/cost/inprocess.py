"""Time networks that PyTorch runs in this process: as they are, compiled, or on a GPU."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost import probe
from nasx.cost.device import index_of, missing, models_here
from nasx.cost.inputs import first_line, refusal_of
from nasx.cost.lease import Lease, exclusive, gpu_name
from nasx.cost.onnxfile import hushed
from nasx.cost.probe import Clock, Run
from nasx.cost.samples import Networks, Plan, Samples, visit_of
from nasx.cost.untouched import untouched
from nasx.errors import NasxError
from nasx.study import Measure

Forward = Callable[..., object]
Prepare = Callable[[nn.Module, tuple[Tensor, ...]], Forward]


def sample_eager(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks as PyTorch runs them, inputs in the weights' memory format."""
    return _sample(networks, measure, plan, lambda model, inputs: model)


def sample_compile(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks as torch.compile makes them; minutes for many, most of it compiling."""
    import torch._dynamo

    _demand_compiler(measure)

    def prepare(model: nn.Module, inputs: tuple[Tensor, ...]) -> Forward:
        compiled: Forward = torch.compile(copy.deepcopy(model))
        return compiled

    # Past this limit torch runs what it was to compile as it is, and only logs a warning.
    with torch._dynamo.config.patch(recompile_limit=8 + 8 * len(networks)):
        return _sample(networks, measure, plan, prepare)


def sample_aot(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks as AOTInductor packages: exported, compiled, loaded without Python between."""
    import torch._inductor

    _demand_compiler(measure)

    def prepare(model: nn.Module, inputs: tuple[Tensor, ...]) -> Forward:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            program = torch.export.export(copy.deepcopy(model), inputs, strict=False)
            path = torch._inductor.aoti_compile_and_package(
                program, package_path=str(Path(folder) / "model.pt2")
            )
            loaded: Forward = torch._inductor.aoti_load_package(str(path))
            return loaded

    return _sample(networks, measure, plan, prepare)


def sample_cuda(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time copies of networks on a GPU by its own events, calibrator included."""
    models = models_here(gpu=True)
    index = index_of(measure.device, models)
    if index is None:
        raise NasxError(missing(measure, models))
    device = torch.device("cuda", index)

    def prepare(model: nn.Module, inputs: tuple[Tensor, ...]) -> Forward:
        return copy.deepcopy(model).to(device)

    with torch.cuda.device(device):
        return _sample(networks, measure, plan, prepare, device)


def event_clock() -> Clock:
    """Return the time between two events on the current GPU, gaps in its work included."""

    def timed(run: Run) -> tuple[float, float]:
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        wall = time.perf_counter()
        first.record()
        run()
        last.record()
        last.synchronize()
        return (time.perf_counter() - wall) * 1e3, float(first.elapsed_time(last))

    return Clock("event", timed)


def _sample(
    networks: Networks,
    measure: Measure,
    plan: Plan,
    prepare: Prepare,
    device: torch.device | None = None,
) -> Samples:
    """Prepare every network on `measure.threads` threads, then time them as one block."""
    if measure.via:
        raise NasxError(
            "measure.via needs measure.runtime: onnxruntime; "
            f"{measure.runtime} runs in this process"
        )
    place = device or torch.device("cpu")
    runners: dict[str, Run] = {}
    faults: dict[str, str] = {}
    taken: dict[str, Any] = {"rows": [], "block": {}, "machine": probe.machine()}
    held: Callable[[], bool | None] = lambda: None  # noqa: E731
    with _threads(measure.threads), contextlib.ExitStack() as stack:
        for name, asked in networks.items():
            model, _, calls, _ = visit_of(asked, measure.batch)
            stack.enter_context(untouched(model))
            try:
                with hushed(), torch.inference_mode():
                    forward = prepare(model, calls[0])
                    runs = [_runner(forward, tuple(x.to(place) for x in c)) for c in calls]
                    runners[name] = probe.EachInTurn(runs)
                    runners[name]()  # first runs allocate, and compile
            except Exception as error:
                runners.pop(name, None)
                faults[name] = refusal_of(model, calls[0]) or (
                    f"{type(model).__name__}: {measure.runtime}: {first_line(error)[:300]}"
                )
        if runners:
            stack.enter_context(torch.inference_mode())
            calibrate = _calibrator(place)
            calibrate()
            clock = event_clock() if device else probe.cpu_clock(measure.threads)
            with exclusive(_lease(measure, device)) as held:
                taken = probe.take(runners, calibrate, clock, plan.passes, plan.runs, plan.seed)
    machine = {**taken["machine"], "torch": torch.__version__}
    if device is not None:
        machine |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return Samples(taken["rows"], machine, taken["block"], faults, held())


def _runner(forward: Forward, inputs: tuple[Tensor, ...]) -> Run:
    return lambda: forward(*inputs)


def _calibrator(place: torch.device) -> Run:
    """Return the work of `calibrator_onnx`, in PyTorch."""
    x = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0)).to(place)
    w = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(1)).to(place) / 17

    def calibrate() -> Tensor:
        return nn.functional.conv2d(nn.functional.conv2d(x, w, padding=1), w, padding=1)

    return calibrate


def _lease(measure: Measure, device: torch.device | None) -> Lease | None:
    """Return the lease that a setting needs: one thread on a CPU counts its own time alone."""
    if device is not None:
        return Lease(gpu_name(device.index or 0))
    return Lease("cpu") if measure.threads > 1 else None


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _demand_compiler(measure: Measure) -> None:
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise NasxError(
            f"measure.runtime {measure.runtime} needs a C++ compiler and there is no '{compiler}': "
            "install g++, or name another (clang++) in the environment variable CXX"
        )
