"""Compare the files of a bundle with the network they were made from, in a process without nasx.

    python -I parity.py BUNDLE CASE.safetensors RESULT.json

Stands alone: torch, safetensors, onnxruntime and numpy are all it knows, as on a user's machine.
CASE holds `inputs` (N, ...) and the network's own outputs, `output.0` (N, ...) and so on. RESULT
gets, for every file, the largest difference from them in one batch of N and in batches of 1.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor], list[Tensor]]

TOLERANCE = 1e-4  # of the largest absolute value among the network's own outputs
ALONE = 8  # samples also run in a batch of their own
OURS = ("nasx", "search_spaces", "studies", "dashboards")


class Without:
    """An import finder that hides nasx where it is installed: a user may not have it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse our packages; leave every other name to the finders behind."""
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"{name} is hidden from this process", name=name)


def importable(name: str) -> bool:
    """Return whether a module can be imported here."""
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def onnx_network(path: Path) -> Network:
    """Return the ONNX file as ONNX Runtime runs it."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: [torch.as_tensor(y) for y in session.run(None, {name: x.numpy()})]


def program_network(path: Path) -> Network:
    """Return the saved torch.export program."""
    import torch

    return _leaves(torch.export.load(str(path)).module())


def source_network(path: Path) -> Network:
    """Return `Model` of the generated source file, with the weights beside it."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _leaves(module.Model().eval())


READERS: dict[str, Callable[[Path], Network]] = {
    "model.onnx": onnx_network,
    "model.pt2": program_network,
    "model.py": source_network,
}


def _leaves(network: Callable[[Tensor], Any]) -> Network:
    from torch.utils._pytree import tree_leaves

    return lambda x: list(tree_leaves(network(x)))


def compare(network: Network, inputs: Tensor, outputs: list[Tensor]) -> dict[str, Any]:
    """Return how far a network is from `outputs`: max_abs, max_relative, top1_agreement, pass."""
    found = network(inputs)
    if [y.shape for y in found] != [y.shape for y in outputs]:
        shapes = [tuple(y.shape) for y in found]
        return _miss(f"its outputs have shapes {shapes}, not {[tuple(y.shape) for y in outputs]}")
    pairs = list(zip(found, outputs, strict=True))
    for i in range(min(ALONE, len(inputs))):
        one = network(inputs[i : i + 1])
        pairs += [(y, whole[i : i + 1]) for y, whole in zip(one, outputs, strict=True)]
    if any(y.shape != wanted.shape for y, wanted in pairs):
        return _miss("its outputs have other shapes in a batch of 1")
    if any(not bool(y.isfinite().all()) for y in found):
        return _miss("its outputs are not finite")
    # Every output has a scale of its own: boxes in pixels must not excuse wrong class scores.
    scales = [max(float(y.abs().max()), 1e-12) if y.numel() else 1.0 for y in outputs]
    worst = relative = 0.0
    for k, (y, wanted) in enumerate(pairs):
        away = float((y.double() - wanted.double()).abs().max()) if y.numel() else 0.0
        if math.isnan(away):
            return _miss("its outputs are not finite in a batch of 1")
        worst, relative = max(worst, away), max(relative, away / scales[k % len(scales)])
    agreement = None
    if outputs[0].ndim == 2 and outputs[0].shape[1] > 1:  # class scores
        same = found[0].argmax(1) == outputs[0].argmax(1)
        agreement = float(same.float().mean())
    return {
        "max_abs": worst,
        "max_relative": relative,
        "top1_agreement": agreement,
        "pass": relative <= TOLERANCE,
    }


def _miss(error: str) -> dict[str, Any]:
    return {
        "max_abs": None, "max_relative": None, "top1_agreement": None,
        "pass": False, "error": error,
    }  # fmt: skip


def compare_all(bundle: Path, case: Path) -> dict[str, Any]:
    """Return the content of parity.json for the files of a bundle."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)  # threads of small networks only wait for each other
    tensors = load_file(case)
    inputs = tensors["inputs"]
    outputs = [tensors[f"output.{i}"] for i in range(len(tensors) - 1)]
    files = {}
    for name, reader in READERS.items():
        try:
            with torch.inference_mode():
                files[name] = compare(reader(bundle / name), inputs, outputs)
        except Exception as error:  # whatever a file raises is that file's fault
            text = " ".join(str(error).split())[:300]
            files[name] = _miss(f"it cannot be run: {type(error).__name__}: {text}")
    versions = {n: sys.modules[n].__version__ for n in ("torch", "onnxruntime", "safetensors")}
    return {
        "tolerance": TOLERANCE,
        "relative_to": "the largest absolute value of the trained network's output",
        "inputs": len(inputs),
        "batches": [1, len(inputs)],
        "largest_output": max(float(y.abs().max()) for y in outputs if y.numel()),
        "nasx_importable": importable("nasx"),
        "versions": {"python": sys.version.split()[0], **versions},
        "files": files,
    }


def main(bundle: str, case: str, result: str) -> None:
    """Hide nasx, compare, and write the result."""
    sys.meta_path.insert(0, Without())
    found = compare_all(Path(bundle), Path(case))
    Path(result).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
