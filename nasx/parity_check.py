"""Check an export bundle in a process that knows torch, safetensors and onnxruntime, not nasx.

Run as a script with the bundle's folder: reads expected.npz (inputs and the outputs of the network
that was scored), runs every file of the bundle, prints one JSON object. Standard tools only.
"""

import json
import sys
from pathlib import Path
from typing import Any


class _NoNasx:
    """Refuse to import nasx, so that what is checked is what a user without nasx has."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("nasx", "search_spaces"):
            raise ImportError(f"{name} is not here")


def _differences(expected: Any, found: Any, single: Any) -> dict[str, Any]:
    import numpy as np

    worst = max(np.abs(expected - found).max(), np.abs(expected[:1] - single).max())
    scale = float(np.abs(expected).max()) or 1.0
    same = float((expected.argmax(1) == found.argmax(1)).mean()) if expected.ndim == 2 else None
    return {"max_abs": float(worst), "max_relative": float(worst) / scale, "top1_agreement": same}


def main(folder: Path) -> None:
    """Print the differences of every file of the bundle."""
    sys.meta_path.insert(0, _NoNasx())
    import numpy as np
    import onnxruntime
    import torch

    data = np.load(folder / "expected.npz", allow_pickle=False)
    inputs, expected = data["inputs"], data["outputs"]
    whole, one = torch.from_numpy(inputs), torch.from_numpy(inputs[:1])
    found: dict[str, Any] = {}
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    found["model.onnx"] = _differences(
        expected, session.run(None, {name: inputs})[0], session.run(None, {name: inputs[:1]})[0]
    )
    sys.path.insert(0, str(folder))
    with torch.inference_mode():
        program = torch.export.load(str(folder / "model.pt2")).module()
        found["model.pt2"] = _differences(expected, program(whole).numpy(), program(one).numpy())
        from model import Model  # type: ignore[import-not-found]

        model = Model().eval()
        found["model.py"] = _differences(expected, model(whole).numpy(), model(one).numpy())
    found["nasx_importable"] = "nasx" in sys.modules
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
