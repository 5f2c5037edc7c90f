"""What the card of an export says of several heads, and of images that go in tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasx.networkfiles import ONNX, PROGRAM, SOURCE

if TYPE_CHECKING:
    from nasx.modelcard import About


def files_of(about: About) -> tuple[str, str, str]:
    """Return the ONNX, program and source file of a network, or of its first head."""
    if not about.heads:
        return ONNX, PROGRAM, SOURCE
    onnx, program, source = next(iter(about.heads.values()))["files"]
    return onnx, program, source


def headed(about: About) -> str:
    """Return the table of heads: what each costs, and where its files are."""
    if not about.heads:
        return ""
    rows = ["| head | MACs | parameters | files |", "|---|---|---|---|"]
    for head, known in about.heads.items():
        names = ", ".join(f"`{name}`" for name in known["files"])
        rows.append(f"| {head} | {known['macs']:,} | {known['params']:,} | {names} |")
    said = (
        "Each head is a network of its own, of whose parts the others share some: costs above are "
        "those of the first. All source files read the one `weights.safetensors`; ONNX files and "
        "programs hold what their head needs."
    )
    return "\n".join(rows) + f"\n\n{said}"


def tiles(shape: tuple[int, ...], parity: Mapping[str, Any], module: str) -> str:
    """Say how images of other sizes go through a network of one input side."""
    if not any("tiled" in row for row in parity["files"].values()):
        return ""
    code = [
        "import torch",
        f"from {module} import restore",
        "",
        f"image = torch.zeros({shape[0]}, 100, 150)  # (channels, height, width), any size",
        "output = restore(image)",
        "print(output.shape)",
    ]
    return (
        f"Images of another size than {shape[1]} x {shape[2]} are cut into overlapping tiles, as "
        "the scores here were taken; a second argument of `restore` is the function to be called "
        "with tiles in place of `Model`, e.g. an ONNX session's:\n\n"
        + "\n".join(["```python", *code, "```"])
    )
