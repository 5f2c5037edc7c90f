"""Write networks as ONNX: the file that is deployed, and a quicker one that is only timed."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nasx.cost.inputs import example, first_line, refusal_of
from nasx.cost.onnxbranches import own_weights
from nasx.cost.untouched import untouched
from nasx.errors import NasxError
from nasx.operators import no_simulation, operators_of
from nasx.plainform import PlainTorch
from nasx.shape import Shape


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silence what the exporters log, warn and print (a failed export prints its graph)."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_onnx(model: nn.Module, shape: Shape, path: Path, *, any_size: bool = False) -> None:
    """Write `model` for inputs (batch, *shape), batch dynamic, as the file that is deployed.

    With `any_size` height and width are dynamic, too. By torch.export and its ONNX translation,
    which fail loudly on data-dependent control flow. Operators of our own are written as their
    references. The file appears whole or not at all; a network that cannot be exported is refused.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    inputs = example(model, shape, 2)
    if any_size:  # sides that are equal in the example would be taken for one
        inputs = tuple(torch.cat([x, x], 3) for x in inputs)
    try:
        with untouched(model), hushed(), PlainTorch(model):
            program = _program(model, inputs, dynamic_sides(any_size=any_size))
            program.save(new, external_data=False)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        new.replace(path)
    except NasxError:
        raise
    except Exception as error:
        raise _not_exported(model, inputs, error) from error
    finally:
        new.unlink(missing_ok=True)


def timing_onnx(model: nn.Module, shape: Shape, batch: int, *, conditions: bool = False) -> bytes:
    """Return `model` as ONNX of a fixed batch size, made for timing only.

    The tracing exporter takes about 1/20 of the time of `write_onnx` and gives onnxruntime the
    same operators to fuse; it freezes data-dependent branches as the example takes them, so it is
    never what is deployed. Where it fails, and where `conditions` must stay in the file,
    `write_onnx`'s exporter answers. A network that holds operators of our own is refused: its
    latency here would be that of a simulation.
    """
    own = operators_of(model)
    if own:
        raise NasxError(no_simulation(type(model).__name__, own))
    inputs = example(model, shape, batch)
    memory = io.BytesIO()
    with untouched(model), torch.no_grad(), hushed():
        try:
            if conditions:
                return bytes(_program(model, inputs, None).model_proto.SerializeToString())
            torch.onnx.export(
                model,
                inputs,
                memory,  # type: ignore[arg-type]  # this exporter writes into it
                dynamo=False,
                input_names=_input_names(inputs),
            )
        except Exception as error:
            if conditions or refusal_of(model, inputs) is not None:
                raise _not_exported(model, inputs, error) from error
            try:
                return bytes(_program(model, inputs, None).model_proto.SerializeToString())
            except Exception as error:
                raise _not_exported(model, inputs, error) from error
    return memory.getvalue()


def dynamic_sides(*, any_size: bool) -> dict[int, Any]:
    """Return the dynamic dimensions of an input: the batch and, of images, height and width."""
    names = {0: "batch", 2: "height", 3: "width"} if any_size else {0: "batch"}
    return {at: torch.export.Dim(name, min=1) for at, name in names.items()}


def _program(
    model: nn.Module, inputs: tuple[Tensor, ...], sides: dict[int, Any] | None
) -> torch.onnx.ONNXProgram:
    """Translate `model` by torch.export; `sides` are the dynamic dimensions, None for none."""
    dynamic = None if sides is None else tuple(sides for _ in inputs)
    packed = any(b.dtype == torch.uint8 for b in model.buffers())
    with torch.no_grad():
        exported = torch.export.export(model, inputs, dynamic_shapes=dynamic, strict=False)
        program = torch.onnx.export(
            exported,
            inputs,
            dynamo=True,
            verbose=False,
            input_names=_input_names(inputs),
            dynamic_shapes=dynamic,  # again, for the name of the dimension
            optimize=not packed,
        )
    if program is None:
        raise NasxError("the exporter returned nothing")
    if packed:
        _optimise_packed(program)
    _complete(program.model.graph)
    own_weights(program.model.graph)
    return program


def _optimise_packed(program: torch.onnx.ONNXProgram) -> None:
    """Optimise as the exporter does, but leave weights packed in bytes as they are stored.

    It would unpack those of up to 8 KiB, to 32 times their size; ONNX Runtime does so as it loads.
    """
    import onnxscript.optimizer
    from onnx_ir import DataType

    def fold(node: Any) -> bool | None:
        values = (v.const_value for v in node.inputs if v is not None)
        return False if any(v is not None and v.dtype == DataType.UINT8 for v in values) else None

    onnxscript.optimizer.optimize_ir(program.model, should_fold=fold)


def _complete(graph: Any) -> None:
    """Give back the constants that the exporter's optimiser loses from a graph.

    Where one value is clamped twice, it (onnxscript 0.7) names the limits alike and keeps one pair.
    """
    for node in graph.all_nodes():
        for value in node.inputs:
            lost = value is not None and value.producer() is None and not value.is_graph_input()
            if lost and value.name not in graph.initializers and value.const_value is not None:
                graph.register_initializer(value)


def _input_names(inputs: tuple[Tensor, ...]) -> list[str]:
    return ["input"] if len(inputs) == 1 else [f"input{i}" for i in range(len(inputs))]


def _not_exported(model: nn.Module, inputs: tuple[Tensor, ...], error: Exception) -> NasxError:
    misfit = refusal_of(model, inputs)
    if misfit is not None:
        return NasxError(misfit)
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
