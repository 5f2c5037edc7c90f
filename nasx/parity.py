"""Compare the files of a bundle with the network they were made from, in a process without nasx.

Run by `paritycheck.py`. Stands alone: torch, safetensors, onnxruntime and numpy are all it knows,
as on a user's machine. CASE holds `inputs` (N, ...) and the network's outputs, `output.0` and so
on; `wider.0` may be one of another size, its outputs behind it; `image` and `restored` are what
goes through model.py in tiles. What is found is each file's largest difference from them.

Where layers round their input, a last bit flips a code, and outputs then differ by more than
rounding does. For such networks TWINS holds each file once more with the codes as further outputs
(`nasx.decisions`), CASE the network's own (`codes.0`, ...), and a file whose outputs differ passes
where it takes the same decisions and gives the same answers (`decided_alike`).
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
BATCH = 64  # samples run together
ALONE = 8  # samples also run in a batch of their own, where the case does not say
SHARE = 0.999  # of decisions, and of answers, that must be the same
BLURRED = 0.01  # root mean square error, of the largest output, of answers that are no classes


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
    return _leaves(loaded(path).Model().eval())


def loaded(path: Path) -> Any:
    """Return a source file as a module."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READERS: dict[str, Callable[[Path], Network]] = {
    "model.onnx": onnx_network,
    "model.pt2": program_network,
    "model.py": source_network,
}


def _leaves(network: Callable[[Tensor], Any]) -> Network:
    from torch.utils._pytree import tree_leaves

    return lambda x: list(tree_leaves(network(x)))


class Case:
    """What the files are held against: inputs, the network's outputs, and the codes by layer."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        file: Any = safe_open(str(path), framework="pt")
        names = list(file.keys())
        self.inputs = file.get_tensor("inputs")
        count = sum(n.startswith("output.") for n in names)
        self.outputs = [file.get_tensor(f"output.{i}") for i in range(count)]
        self.wider = [file.get_tensor(n) for n in sorted(names) if n.startswith("wider.")]
        said = {"layers": "[]", "alone": ALONE, "head": "", **(file.metadata() or {})}
        self.layers: list[str] = json.loads(said["layers"])
        self.alone = min(int(said["alone"]), len(self.inputs))
        self.head = str(said["head"])  # that the files are of, where there are several
        self.image = [file.get_tensor(n) for n in ("image", "restored") if n in names]
        self._slices = [file.get_slice(f"codes.{i}") for i in range(len(self.layers))]
        self.scales = [_scale(y) for y in self.outputs]

    def named(self, file: str) -> str:
        """Return the name of a file of this case's head: "model_x2.py" for "model.py"."""
        return file.replace(".", f"_{self.head}.") if self.head else file

    def batches(self) -> list[slice]:
        """Return the batches that the inputs are run in."""
        n = len(self.inputs)
        return [slice(i, min(i + BATCH, n)) for i in range(0, n, BATCH)]

    def codes(self, rows: slice) -> list[Tensor]:
        """Return the codes of some inputs, by layer: all may be larger than the network."""
        return [some[rows.start : rows.stop] for some in self._slices]

    def away(self, found: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Return how far outputs are off for each input, in parts of the largest output."""
        import torch

        worst = torch.zeros(len(found[0]), dtype=torch.float64)
        for y, z, scale in zip(found, wanted, self.scales, strict=True):
            if y.numel():
                far = ((y.double() - z.double()).abs() / scale).reshape(len(y), -1).amax(1)
                worst = torch.maximum(worst, far)
        return worst


def _scale(y: Tensor) -> Tensor:
    """Return what differences from an output are parts of: its largest value, broadcastable.

    Every output has a scale of its own, and so has every number that a place (N, places, numbers)
    answers: boxes in pixels must not excuse wrong class scores.
    """
    if not y.numel():
        return y.new_ones(1)
    most = y.abs().amax((0, 1)) if y.ndim == 3 else y.abs().max()
    return most.double().clamp(min=1e-12)


def answers(network: Network, case: Case) -> list[Tensor]:
    """Return a network's outputs for all inputs, run in batches."""
    import torch

    parts = [network(case.inputs[rows]) for rows in case.batches()]
    return [torch.cat(one) for one in zip(*parts, strict=True)]


def compare(network: Network, case: Case, found: list[Tensor]) -> dict[str, Any]:
    """Return how far a network is from the case's outputs: max_abs, max_relative, top1_agreement.

    `found` are its outputs on all inputs.
    """
    outputs = case.outputs
    if [y.shape for y in found] != [y.shape for y in outputs]:
        shapes = [tuple(y.shape) for y in found]
        return _miss(f"its outputs have shapes {shapes}, not {[tuple(y.shape) for y in outputs]}")
    pairs = list(zip(found, outputs, strict=True))
    for i in range(case.alone):
        one = network(case.inputs[i : i + 1])
        pairs += [(y, whole[i : i + 1]) for y, whole in zip(one, outputs, strict=True)]
    pairs += zip(network(case.wider[0]), case.wider[1:], strict=True) if case.wider else ()
    if any(y.shape != wanted.shape for y, wanted in pairs):
        return _miss("its outputs have other shapes in a batch of 1, or at another size")
    if any(not bool(y.isfinite().all()) for y in found):
        return _miss("its outputs are not finite")
    worst = relative = 0.0
    for k, (y, wanted) in enumerate(pairs):
        away = (y.double() - wanted.double()).abs() if y.numel() else y.new_zeros(1)
        if bool(away.isnan().any()):
            return _miss("its outputs are not finite in a batch of 1")
        worst = max(worst, float(away.max()))
        relative = max(relative, float((away / case.scales[k % len(outputs)]).max()))
    agreement = None
    if outputs[0].ndim == 2 and outputs[0].shape[1] > 1:  # class scores
        agreement = float((found[0].argmax(1) == outputs[0].argmax(1)).float().mean())
    return {
        "max_abs": worst,
        "max_relative": relative,
        "top1_agreement": agreement,
        "rule": "outputs",
        "pass": relative <= TOLERANCE,
    }


def compare_decisions(witness: Network, case: Case, found: list[Tensor]) -> dict[str, Any]:
    """Return how many decisions a file took as the network did.

    `witness` is the file's twin that answers the codes of every deciding layer behind the outputs;
    `found` are the outputs of the file itself. What this shows: up to every decision the twin's
    arithmetic is the network's (`codes_equal`); where it took all of them alike, so is the rest
    (`intact`, `intact_max_relative`); and the file answers as its twin does (`as_witness`). What
    it does not show: the codes inside the file itself, which no format lets out.
    """
    import torch

    layers, outputs = case.layers, len(case.outputs)
    equal, every, first, asked = torch.zeros(4, len(layers), dtype=torch.float64)
    intact, alike, far = 0, 0, 0.0
    for rows in case.batches():
        answered = witness(case.inputs[rows])
        own, codes = answered[:outputs], answered[outputs:]
        whole = torch.ones(len(case.inputs[rows]), dtype=torch.bool)
        for i, (code, wanted) in enumerate(zip(codes, case.codes(rows), strict=True)):
            same = (code.long() == wanted.long()).reshape(len(whole), -1)
            equal[i] += same.sum()
            every[i] += same.numel()
            first[i] += same[whole].sum()
            asked[i] += same[whole].numel()
            whole &= same.all(1)
        away = case.away(own, [y[rows] for y in case.outputs])[whole]
        intact += int(whole.sum())
        far = max([far, *away.tolist()])
        alike += int((case.away([y[rows] for y in found], own) <= TOLERANCE).sum())
    shares = equal / every.clamp(min=1)
    fresh = first / asked.clamp(min=1)  # 0 where a layer was never reached by equal codes
    least = int(shares.argmin())
    pairs = zip(found, case.outputs, case.scales, strict=True)
    squares = sum(float(((y - z).double() / s).square().mean()) for y, z, s in pairs)
    return {
        "codes": int(every.sum()),
        "codes_equal": float(equal.sum() / every.sum().clamp(min=1)),
        "least_fresh": float(fresh.min()),
        "least_equal": {"layer": layers[least], "share": float(shares[least])},
        "intact": intact,
        "intact_max_relative": far,
        "as_witness": alike / len(case.inputs),
        "rms_relative": math.sqrt(squares / outputs),
    }


def decided_alike(row: dict[str, Any]) -> bool:
    """Return whether a file passes by its decisions: the same ones, and the same answers.

    In deep networks one flip brings others behind it. There the decisions taken after equal ones
    count (`least_fresh`, of all layers), if answers stay close; so they must if none is `intact`.
    """
    top1, close = row["top1_agreement"], row["rms_relative"] <= BLURRED
    alike = row["codes_equal"] >= SHARE and (close or row["intact"] > 0)
    return bool(
        (alike or (row["least_fresh"] >= SHARE and close))
        and row["as_witness"] >= SHARE
        and row["intact_max_relative"] <= TOLERANCE
        and (close if top1 is None else top1 >= SHARE)
    )


def _miss(error: str) -> dict[str, Any]:
    unknown = ("max_abs", "max_relative", "top1_agreement", "rule")
    return {**dict.fromkeys(unknown), "pass": False, "error": error}


def judged(name: str, bundle: Path, case: Case, twins: Path | None) -> dict[str, Any]:
    """Return the row of one file, by its outputs or, where it differs there, by its decisions."""
    file = case.named(name)
    network = READERS[name](bundle / file)
    found = answers(network, case)
    row = compare(network, case, found)
    if twins is None or "error" in row:
        return row
    row |= compare_decisions(READERS[name](twins / file), case, found)
    if not row["pass"]:
        row |= {"rule": "decisions", "pass": decided_alike(row)}
    return row


def compare_all(bundle: Path, path: Path, twins: Path | None) -> dict[str, Any]:
    """Return the content of parity.json for the files of a bundle."""
    import torch

    torch.set_num_threads(1)  # threads of small networks only wait for each other
    case = Case(path)
    files = {}
    for name in READERS:
        try:
            with torch.inference_mode():
                files[case.named(name)] = judged(name, bundle, case, twins)
        except Exception as error:  # whatever a file raises is that file's fault
            text = " ".join(str(error).split())[:300]
            files[case.named(name)] = _miss(f"it cannot be run: {type(error).__name__}: {text}")
    versions = {n: sys.modules[n].__version__ for n in ("torch", "onnxruntime", "safetensors")}
    return {
        "tolerance": TOLERANCE,
        "relative_to": "the largest absolute value of the trained network's output; where "
        "places answer several numbers (samples, places, numbers), of each number",
        **({"decisions": {"share": SHARE, "layers": case.layers}} if twins else {}),
        "inputs": len(case.inputs),
        "batches": [1, min(BATCH, len(case.inputs))],
        "alone": case.alone,
        "other_size": list(case.wider[0].shape[2:]) if case.wider else None,
        "largest_output": max(float(y.abs().max()) for y in case.outputs if y.numel()),
        "versions": {"python": sys.version.split()[0], **versions},
        "files": files,
    }
