"""Write a network as one plain Python file, generated from its exported graph.

    text = model_source(torch.export.export(network, (x,)), "t0007 of study tinynet")

The file imports torch and safetensors only. Its forward pass spells the graph's operations one by
one; what has no nicer spelling stands as torch.ops.aten.NAME.OVERLOAD(...). Local names are used
again as soon as their value is no longer needed, so that no tensor lives longer than it must.
"""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nasx.errors import NasxError
from nasx.modelforward import Forward
from nasx.modelspelling import WIDTH, literal, quoted, structure, wrapped
from nasx.operators import Reference
from nasx.referencesource import needs_math, reference_source
from nasx.tilefile import recipe_source

if TYPE_CHECKING:
    from torch import Tensor, fx
    from torch.export import ExportedProgram

    from nasx.tasks.tiles import Tiling

HEAD = '''"""{title}

Generated from the exported graph; needs torch and safetensors, and {weights} beside it.

    from {module} import Model
    model = Model().eval()
    output = model(torch.zeros({shape}))
{more}
`python {module}.py` prints the number of parameters and the shape of the output.
"""

{math}from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).resolve().parent / "{weights}"
INPUT = {shape}  # one sample; the first dimension is the batch


'''
MORE = """
Images of other sizes:

    from {module} import restore
    output = restore(image)
"""

TAIL = '''

def shapes(output):
    """Return the shapes of all tensors in an output."""
    if isinstance(output, torch.Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        return {key: shapes(value) for key, value in output.items()}
    return [shapes(value) for value in output]


if __name__ == "__main__":
    model = Model().eval()
    with torch.inference_mode():
        output = model(torch.zeros(INPUT))
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    print(f"input {INPUT}, output {shapes(output)}")
'''


def stored_tensors(program: ExportedProgram) -> dict[str, Tensor]:
    """Return every tensor of the program by name, each with memory of its own, on the CPU.

    These are the network's parameters and buffers under the names of its state_dict, and the
    constants that its forward pass makes (`lifted_tensor_0`, ...).
    """
    import torch

    found = {**program.state_dict, **program.constants}
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise NasxError(
                f"the network holds '{name}', a {type(value).__name__}, which no weights file can "
                "keep: hold it as a tensor or a Python number"
            )
    return {name: found[name].detach().cpu().contiguous().clone() for name in sorted(found)}


def model_source(
    program: ExportedProgram,
    title: str,
    weights: str = "weights.safetensors",
    references: Mapping[str, Reference] | None = None,
    *,
    module: str = "model",
    stored: Mapping[str, str] = {},
    tiling: Tiling | None = None,
) -> str:
    """Return the source text of a module `Model` that computes what `program` computes.

    `references` maps an operator of our own, e.g. "nasx::distance", to a function in plain torch
    with its parameters, which is written into the file under the operator's name (`distance`).
    `module` is the file's name without its ending, `stored` maps names of tensors to those in the
    weights file where they differ. With `tiling` the file has a function `restore` for images of
    any size. Raises NasxError where the graph holds an operator without one, or one that cannot
    stand alone.
    """
    attributes, lines = _attributes(program, stored)
    example = next(n for n in program.graph.nodes if n.name in program.graph_signature.user_inputs)
    # The example's sides where any are taken: int() would fix them in the program for good.
    sides = example.meta["val"].shape[1:]
    shape = (1, *(s if isinstance(s, int) else int(s.node.hint) for s in sides))
    forward = Forward(program.graph_module, attributes, set(references or ()))
    body = forward.method("forward", lambda result: structure(program.call_spec.out_spec, result))
    own = references or {}
    functions = [reference_source(n, own[n], s) for n, s in sorted(forward.used.items())]
    math = "import math\n" if any(map(needs_math, functions)) else ""
    known = {"weights": weights, "shape": literal(shape), "math": math, "module": module}
    more = "" if tiling is None else MORE.format(module=module)
    text = [HEAD.format(title=_inert(title), more=more, **known)]
    text += [f"{function}\n\n" for function in functions]
    text.append('class Model(nn.Module):\n    """The network, with its trained weights."""\n\n')
    text.append("    def __init__(self, weights=WEIGHTS):\n        super().__init__()\n")
    text.append("        tensors = load_file(weights)\n")
    text += [f"        {line}\n" for line in lines]
    text += [f"\n{method}" for method in [body, *forward.inner]]
    return "".join(text) + (recipe_source(tiling) if tiling else "") + TAIL


def _attributes(
    program: ExportedProgram, renamed: Mapping[str, str]
) -> tuple[dict[fx.Node, str], list[str]]:
    """Return how the graph's own tensors are spelled in forward, and the lines that load them."""
    from torch.export.graph_signature import InputKind

    nodes = {n.name: n for n in program.graph.nodes if n.op == "placeholder"}
    stored = {**program.state_dict, **program.constants}
    spelled: dict[fx.Node, str] = {}
    lines: list[str] = []
    taken: set[str] = set()
    shared: dict[int, str] = {}  # one parameter under two names (tied weights) stays one
    for spec in program.graph_signature.input_specs:
        name, node = spec.target, nodes.get(getattr(spec.arg, "name", ""))
        if spec.kind is InputKind.USER_INPUT or node is None or name is None:
            continue
        parameter = spec.kind is InputKind.PARAMETER
        if not node.users and not parameter:
            spelled[node] = "None"  # e.g. a BatchNorm's count of batches
            continue
        attribute = _attribute(name, taken)
        value = stored[name]
        kind, frozen = "nn.Buffer", []
        spelled[node] = f"self.{attribute}"
        if parameter:
            if id(value) in shared:
                lines.append(f"self.{attribute} = self.{shared[id(value)]}")
                continue
            shared[id(value)] = attribute
            kind = "nn.Parameter"
            frozen = [] if value.requires_grad else ["requires_grad=False"]
        source = [f"tensors[{quoted(renamed.get(name, name))}]", *frozen]
        loading = wrapped(f"self.{attribute} = ", kind, source)
        note = f"  # {tuple(value.shape)}"
        fits = len(loading[0] + note) + 8 <= WIDTH and len(loading) == 1
        lines += [loading[0] + note] if fits else loading
    return spelled, lines


def _attribute(name: str, taken: set[str]) -> str:
    """Return a free Python name for a tensor's dotted name (blocks.0.weight -> blocks_0_weight)."""
    from torch import nn

    attribute = re.sub(r"[^0-9A-Za-z_]", "_", name).lstrip("_") or "tensor"
    if attribute[0].isdigit():
        attribute = f"layer_{attribute}"
    while attribute in taken or keyword.iskeyword(attribute) or hasattr(nn.Module(), attribute):
        attribute += "_"
    taken.add(attribute)
    return attribute


def _inert(text: str) -> str:
    """Return text that cannot end a docstring or start an escape."""
    words = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return "\n".join(textwrap.wrap(words, WIDTH - 3))
