"""Check the files of a bundle against their network, in a process of its own without nasx.

    python -I paritycheck.py BUNDLE RESULT.json SCRATCH...

Each SCRATCH is a folder with `case.safetensors`, and with a folder `twins` where layers round their
input (see `parity.py`, which lies beside this file): one for each head of the network.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

OURS = ("nasx", "search_spaces", "studies", "dashboards")
OF_HEADS = ("inputs", "batches", "alone", "other_size", "largest_output", "decisions")


class Without:
    """An import finder that hides nasx where it is installed: a user may not have it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse our packages; leave every other name to the finders behind."""
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"{name} is hidden from this process", name=name)


def importable(name: str) -> bool:
    """Return whether a module can be imported here."""
    with contextlib.suppress(ImportError):
        return bool(__import__(name))
    return False


def beside(name: str) -> Any:
    """Return a source file that lies beside this one, as a module: nasx cannot be imported."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare_tiles(parity: Any, path: Path, case: Any) -> dict[str, Any]:
    """Return how far `restore` of model.py is from the network on an image of another size."""
    import torch

    image, wanted = case.image
    try:
        found = parity.loaded(path).restore(image)
    except Exception as error:  # whatever a file raises is that file's fault
        return {"pass": False, "error": f"restore cannot be run: {error}", "max_abs": None}
    if found.shape != wanted.shape or not bool(torch.isfinite(found).all()):
        said = f"restore gives {tuple(found.shape)}, not finite {tuple(wanted.shape)}"
        return {"pass": False, "error": said, "max_abs": None}
    relative = float((found.double() - wanted.double()).abs().max() / wanted.abs().max())
    size = list(image.shape[1:])
    row = {"tiled": {"size": size, "max_relative": relative}}
    return row if relative <= parity.TOLERANCE else {**row, "pass": False}


def together(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the content of parity.json for several heads: all files, and what differs by head."""
    first = next(iter(found.values()))
    heads = {h: {k: v for k, v in one.items() if k in OF_HEADS} for h, one in found.items()}
    files = {name: row for one in found.values() for name, row in one["files"].items()}
    shared = {k: v for k, v in first.items() if k not in OF_HEADS and k != "files"}
    return {**shared, "heads": heads, "files": files}


def main(bundle: str, result: str, *scratches: str) -> None:
    """Hide nasx, compare, and write the result."""
    parity = beside("parity")
    sys.meta_path.insert(0, Without())
    found = {}
    for scratch in map(Path, scratches):
        case, twins = scratch / "case.safetensors", scratch / "twins"
        one = parity.compare_all(Path(bundle), case, twins if twins.is_dir() else None)
        held = parity.Case(case)
        name = held.named("model.py")
        if held.image and "error" not in one["files"][name]:
            one["files"][name] |= compare_tiles(parity, Path(bundle) / name, held)
        found[held.head] = one
    content = one if len(found) == 1 else together(found)
    content["nasx_importable"] = importable("nasx")
    Path(result).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
