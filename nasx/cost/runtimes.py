"""Write networks as ONNX, and collect raw timing samples under each runtime."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost import probe
from nasx.cost.inputs import example, first_line
from nasx.cost.untouched import untouched
from nasx.errors import NasxError
from nasx.shape import Shape
from nasx.study import Measure

SECONDS = 60  # the probe may take for each network, and twice for its start

Networks = Mapping[str, tuple[nn.Module, Shape]]


@dataclass(frozen=True)
class Plan:
    """How often and in which order candidates are visited."""

    seed: int = 0
    passes: int = 10
    runs: int = 5


@dataclass(frozen=True)
class Samples:
    """Raw samples, one row per visit (see `nasx.cost.probe.collect`), and where they were taken.

    `others` is the number of cores that other processes kept busy meanwhile, where known.
    """

    rows: list[dict[str, Any]]
    machine: dict[str, Any]
    others: float | None


# -- ONNX files ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Silence what the exporters log, warn and print (a failed export prints its graph)."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_onnx(model: nn.Module, shape: Shape, path: Path) -> None:
    """Write `model` for inputs (batch, *shape), batch dynamic, as the file that is deployed.

    By torch.export and its ONNX translation, which fail loudly on data-dependent control flow.
    The file appears whole or not at all; a network that cannot be exported is refused.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with untouched(model), _hushed():
            program = _program(model, example(model, shape, 2), torch.export.Dim("batch", min=1))
            program.save(new, external_data=False)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except Exception as error:
        raise _not_exported(model, error) from error
    finally:
        new.unlink(missing_ok=True)


def timing_onnx(model: nn.Module, shape: Shape, batch: int) -> bytes:
    """Return `model` as ONNX of a fixed batch size, made for timing only.

    The tracing exporter takes about 1/20 of the time of `write_onnx` and gives onnxruntime the
    same operators to fuse; it freezes data-dependent branches as the example takes them, so it is
    never what is deployed. Where it fails, `write_onnx`'s exporter answers.
    """
    inputs = example(model, shape, batch)
    memory = io.BytesIO()
    with untouched(model), torch.no_grad(), _hushed():
        try:
            torch.onnx.export(
                model,
                inputs,
                memory,  # type: ignore[arg-type]  # this exporter writes into it
                dynamo=False,
                input_names=_input_names(inputs),
            )
        except Exception:
            try:
                return bytes(_program(model, inputs, None).model_proto.SerializeToString())
            except Exception as error:
                raise _not_exported(model, error) from error
    return memory.getvalue()


def _program(model: nn.Module, inputs: tuple[Tensor, ...], batch: Any) -> torch.onnx.ONNXProgram:
    """Translate `model` by torch.export; `batch` is the dynamic first dimension, or None."""
    dynamic = None if batch is None else tuple({0: batch} for _ in inputs)
    with torch.no_grad():
        exported = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
        program = torch.onnx.export(
            exported,
            inputs,
            dynamo=True,
            verbose=False,
            input_names=_input_names(inputs),
            dynamic_shapes=dynamic,  # again, for the name of the dimension
        )
    if program is None:
        raise NasxError("the exporter returned nothing")
    return program


def _input_names(inputs: tuple[Tensor, ...]) -> list[str]:
    return ["input"] if len(inputs) == 1 else [f"input{i}" for i in range(len(inputs))]


def _not_exported(model: nn.Module, error: Exception) -> NasxError:
    return NasxError(
        f"{type(model).__name__}: cannot be written as ONNX: {first_line(error)}; "
        "change its forward, or set measure.runtime: eager"
    )


def calibrator_onnx() -> bytes:
    """Return the fixed work that every visit also times: two 3x3 convolutions, 9.4 MMACs."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32) / 17
    nodes = [
        helper.make_node("Conv", [a, "w"], [b], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        for a, b in (("x", "y"), ("y", "z"))
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 32, 16, 16]) for n in "xz"]
    graph = helper.make_graph(
        nodes, "calibrator", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


# -- samples ------------------------------------------------------------------------------------


def sample_eager(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks as PyTorch runs them, in this process, inputs in the weights' memory format."""
    if measure.via:
        raise NasxError(
            "measure.via needs measure.runtime: onnxruntime; eager runs in this process"
        )
    threads = torch.get_num_threads()
    x = torch.randn(2, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    w = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(1)) / 17

    def calibrate() -> Tensor:
        return nn.functional.conv2d(nn.functional.conv2d(x, w, padding=1), w, padding=1)

    def runner(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        return lambda: model(*inputs)

    try:
        torch.set_num_threads(measure.threads)
        with contextlib.ExitStack() as stack:
            runners = {}
            for name, (model, shape) in networks.items():
                stack.enter_context(untouched(model))
                runners[name] = runner(model, example(model, shape, measure.batch))
            stack.enter_context(torch.inference_mode())
            for run in (*runners.values(), calibrate):
                run()
            clock = probe.clock_for(measure.threads)
            before = probe.cpu_use()
            rows = probe.collect(runners, calibrate, clock, plan.passes, plan.runs, plan.seed)
            busy = probe.others_since(before)
    finally:
        torch.set_num_threads(threads)
    return Samples(rows, {**probe.machine(), "torch": torch.__version__}, busy)


def sample_onnxruntime(networks: Networks, measure: Measure, plan: Plan) -> Samples:
    """Time networks in ONNX Runtime, in a fresh process here or behind `measure.via`."""
    models = {
        name: timing_onnx(model, shape, measure.batch) for name, (model, shape) in networks.items()
    }
    return sample_models(models, measure, plan)


def sample_models(models: Mapping[str, bytes], measure: Measure, plan: Plan) -> Samples:
    """Time ONNX models (their bytes by name) in the probe."""
    text = script_of(models, measure, plan)
    answer = _ask(text, measure.via, SECONDS * (2 + len(models)))
    return Samples(answer["rows"], answer["machine"], answer["others"])


def script_of(models: Mapping[str, bytes], measure: Measure, plan: Plan) -> str:
    """Return the text a Python reads on stdin to time `models`: the probe and its payload."""
    payload = {
        "header": {"threads": measure.threads, "batch": measure.batch, **asdict(plan)},
        "models": {name: base64.b64encode(data).decode() for name, data in models.items()},
        "calibrator": base64.b64encode(calibrator_onnx()).decode(),
    }
    source = Path(probe.__file__).read_text(encoding="utf-8")
    return f"{source}\n\nmain({json.dumps(payload)!r})\n"


def _ask(script: str, via: str | None, seconds: float) -> dict[str, Any]:
    """Pipe `script` to a Python and return the JSON of its last line; its failures are refused."""
    command = via or shlex.join([sys.executable, "-P", "-"])
    where = f"measure.via {via!r}" if via else "the latency probe"
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what the command started ends with it
    ) as process:
        try:
            out, complaints = process.communicate(script, timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NasxError(
                    f"{where}: no answer within {seconds:.0f} s; run the command by hand to see why"
                ) from error
            raise
    lines = out.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        said = (complaints.strip().splitlines() or ["nothing on stderr"])[-1]
        raise NasxError(
            f"{where}: no samples came back (exit {process.returncode}: {said}); "
            "it must run a Python with numpy and onnxruntime that reads a script on stdin"
        ) from None
    if "error" in answer:
        raise NasxError(f"{where}: {answer['error']}")
    return answer


Sampler = Callable[[Networks, Measure, Plan], Samples]

RUNTIMES: dict[str, Sampler] = {"onnxruntime": sample_onnxruntime, "eager": sample_eager}
