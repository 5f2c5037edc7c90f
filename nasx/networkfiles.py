"""The four files that hold a network: weights, ONNX, a torch.export program and plain source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nasx.errors import NasxError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from nasx.tasks.tiles import Tiling

WEIGHTS, ONNX, PROGRAM, SOURCE = "weights.safetensors", "model.onnx", "model.pt2", "model.py"


@dataclass(frozen=True)
class Part:
    """The files of one head of a network, or of a whole one.

    `head` is in the files' names, "" for a whole network. `tiling` says how larger images are cut,
    None where any go in. `shared` collects the tensors of the one weights file by name.
    """

    head: str = ""
    tiling: Tiling | None = None
    shared: dict[str, Tensor] = field(default_factory=dict)

    def named(self, file: str) -> str:
        """Return the name of a file of this head: "model_x2.onnx" for "model.onnx"."""
        stem, dot, kind = file.partition(".")
        return f"{stem}_{self.head}{dot}{kind}" if self.head else file

    def share(self, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        """Take tensors up; return the names in the weights file of those that got another one."""
        renamed = {}
        for name, value in tensors.items():
            held = self.shared.setdefault(name, value)
            if held.dtype != value.dtype or not held.equal(value):
                renamed[name] = f"{self.head}.{name}"
                self.shared[renamed[name]] = value
        return renamed


def write_networks(
    network: nn.Module,
    title: str,
    folder: Path,
    inputs: Tensor,
    *,
    any_size: bool = False,
    part: Part | None = None,
) -> list[str]:
    """Write the four files to `folder`; return the names of the constants among the weights.

    `inputs` (N, ...) serve as an example; with `any_size` images of other sizes may go in later.
    `part` is the head that the network is for, where the folder holds several.
    Operators of our own stand in all files as plain torch: model.py holds their references as
    functions, the other two what they are traced to.
    """
    import torch
    from safetensors.torch import save

    from nasx.cost.onnxfile import hushed, write_onnx
    from nasx.modelfile import model_source, stored_tensors
    from nasx.operators import references_of
    from nasx.plainform import PlainTorch

    references, part = references_of(network), part or Part()
    with hushed():
        program = plain = exported(network, inputs, any_size=any_size)
        stored, module = part.share(stored_tensors(program)), part.named(SOURCE).removesuffix(".py")
        source = model_source(
            program, title, WEIGHTS, references, module=module, stored=stored, tiling=part.tiling
        )
        if references:
            with PlainTorch(network):
                plain = exported(network, inputs, any_size=any_size)
        torch.export.save(plain, folder / part.named(PROGRAM))
        onnx = folder / part.named(ONNX)
        write_onnx(network, tuple(inputs.shape[1:]), onnx, any_size=any_size)
        tensors = {name: part.shared[name] for name in sorted(part.shared)}
        (folder / WEIGHTS).write_bytes(save(tensors))  # save_file would hide it from others
        (folder / part.named(SOURCE)).write_text(source, encoding="utf-8")
    own = network.state_dict()
    return [name for name in tensors if name not in own]


def exported(network: nn.Module, inputs: Tensor, *, any_size: bool = False) -> ExportedProgram:
    """Return the torch.export program of a network, for any batch size, or any size of image."""
    import torch

    from nasx.cost.onnxfile import dynamic_sides

    example = torch.cat([inputs[:1], inputs[:1]])  # a batch of 1 would be taken as fixed
    if any_size:  # sides that are equal in the example would be taken for one
        example = torch.cat([example, example], 3)
    sides = dynamic_sides(any_size=any_size)
    try:
        with torch.no_grad():
            return torch.export.export(network, (example,), dynamic_shapes=(sides,), strict=False)
    except NasxError:
        raise
    except Exception as error:  # torch.export raises errors of many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise NasxError(
            f"{type(network).__name__}: torch.export cannot follow its forward pass: {why}; "
            "write it without branches on values and for any batch size"
        ) from error
