"""The four files that hold a network: weights, ONNX, a torch.export program and plain source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nasx.errors import NasxError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

WEIGHTS, ONNX, PROGRAM, SOURCE = "weights.safetensors", "model.onnx", "model.pt2", "model.py"


def write_networks(network: nn.Module, title: str, folder: Path, inputs: Tensor) -> list[str]:
    """Write the four files to `folder`; return the names of the constants among the weights.

    `inputs` (N, ...) serve as an example. Operators of our own stand in all files as plain torch:
    model.py holds their references as functions, the other two what they are traced to.
    """
    import torch
    from safetensors.torch import save

    from nasx.cost.onnxfile import hushed, write_onnx
    from nasx.modelfile import model_source, stored_tensors
    from nasx.operators import references_of
    from nasx.plainform import PlainTorch

    references = references_of(network)
    with hushed():
        program = plain = exported(network, inputs)
        tensors = stored_tensors(program)
        source = model_source(program, title, WEIGHTS, references)
        if references:
            with PlainTorch(network):
                plain = exported(network, inputs)
        torch.export.save(plain, folder / PROGRAM)
        write_onnx(network, tuple(inputs.shape[1:]), folder / ONNX)
        (folder / WEIGHTS).write_bytes(save(tensors))  # save_file would hide it from others
        (folder / SOURCE).write_text(source, encoding="utf-8")
    own = network.state_dict()
    return [name for name in tensors if name not in own]


def exported(network: nn.Module, inputs: Tensor) -> ExportedProgram:
    """Return the torch.export program of a network, for any batch size."""
    import torch

    example = torch.cat([inputs[:1], inputs[:1]])  # a batch of 1 would be taken as fixed
    batch = torch.export.Dim("batch", min=1)
    try:
        with torch.no_grad():
            return torch.export.export(
                network, (example,), dynamic_shapes=({0: batch},), strict=False
            )
    except NasxError:
        raise
    except Exception as error:  # torch.export raises errors of many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise NasxError(
            f"{type(network).__name__}: torch.export cannot follow its forward pass: {why}; "
            "write it without branches on values and for any batch size"
        ) from error
