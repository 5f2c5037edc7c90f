"""Write the bundle of one deployed network: every file checked against it, or none is left."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx import parity
from nasx.errors import NasxError, ParityError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from nasx.modelcard import About

ARCHITECTURE, CARD, PARITY, SUMS = "architecture.json", "card.md", "parity.json", "SHA256SUMS"
WEIGHTS, ONNX, PROGRAM, SOURCE = "weights.safetensors", "model.onnx", "model.pt2", "model.py"
FILES = (ARCHITECTURE, WEIGHTS, ONNX, PROGRAM, SOURCE, CARD, PARITY, SUMS)
MINUTES = 10  # that the check may take


def bundle(deployed: nn.Module, about: About, out: Path, inputs: Tensor) -> Path:
    """Write the bundle of a network to the folder `out`; return it.

    `inputs` (N, ...) are real samples to check the files on. The network is left as it is. A
    bundle that lies at `out` is replaced, only once the new one is whole and checked; any other
    content of `out` is refused. Raises ParityError where a file computes something else, and
    NasxError where the network cannot be exported or the folder not be written.
    """
    from nasx.modelcard import architecture, card

    out = out.expanduser()
    demand_replaceable(out)
    network = copy.deepcopy(deployed).cpu().eval()
    outputs = _outputs(network, inputs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            folder = Path(scratch) / "new"
            folder.mkdir()
            constants = _write_networks(network, about, folder, inputs)
            found = check(folder, Path(scratch), inputs, outputs)
            _write_json(folder / ARCHITECTURE, architecture(about, inputs, constants))
            _write_json(folder / PARITY, found)
            (folder / CARD).write_text(card(about, found, inputs), encoding="utf-8")
            _write_sums(folder)
            _replace(folder, out, Path(scratch) / "old")
    except OSError as error:
        raise NasxError(
            f"{out}: the bundle cannot be written ({error.strerror or error}); "
            "free the disk or name another folder with --out"
        ) from error
    return out


def demand_replaceable(out: Path) -> None:
    """Refuse a destination that holds anything but a bundle."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise NasxError(f"{out}: is not a folder; name another one with --out")
    foreign = sorted({f.name for f in out.iterdir()} - {*FILES, "__pycache__"})
    if foreign:
        raise NasxError(
            f"{out}: holds '{foreign[0]}', which is not part of a bundle; "
            "name a new folder with --out"
        )


def check(folder: Path, scratch: Path, inputs: Tensor, outputs: list[Tensor]) -> dict[str, Any]:
    """Run `nasx.parity` on the files of `folder` in a fresh process; return its result.

    Raises ParityError, naming every file that does not compute `outputs` from `inputs`.
    """
    from safetensors.torch import save_file

    folder, scratch = folder.resolve(), scratch.resolve()  # the check runs elsewhere
    case, result = scratch / "case.safetensors", scratch / "result.json"
    answers = {f"output.{i}": y.contiguous().clone() for i, y in enumerate(outputs)}
    save_file({"inputs": inputs.contiguous().clone(), **answers}, case)
    script = Path(parity.__file__).resolve()
    # Isolated: no user site, no PYTHONPATH, neither the script's folder nor the working one.
    command = [sys.executable, "-I", "-B", str(script), *map(str, (folder, case, result))]
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ParityError(f"the exported files did not answer within {MINUTES} minutes") from error
    if done.returncode or not result.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise ParityError(f"the exported files cannot be checked in a process of their own: {last}")
    found: dict[str, Any] = json.loads(result.read_text())
    if found["nasx_importable"]:
        raise ParityError("the check of the exported files could import nasx, so it proves nothing")
    misses = [_told(name, row) for name, row in found["files"].items() if not row["pass"]]
    if misses:
        raise ParityError(
            f"{'; '.join(misses)}; nothing was exported: take another trial, or mend the forward "
            "pass of its network"
        )
    return found


def _told(name: str, row: dict[str, Any]) -> str:
    if row["max_abs"] is None:
        return f"{name} does not compute what was scored: {row['error']}"
    return (
        f"{name} does not compute what was scored: it differs by {row['max_abs']:.3g}, "
        f"{row['max_relative']:.2g} of the largest output ({parity.TOLERANCE:g} is allowed)"
    )


def _outputs(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    import torch
    from torch.utils._pytree import tree_leaves

    with torch.no_grad():
        outputs = list(tree_leaves(network(inputs)))
    for y in outputs:
        if not isinstance(y, torch.Tensor):
            raise NasxError(f"the network answers a {type(y).__name__}; export takes tensors only")
        if not bool(y.isfinite().all()):
            raise NasxError("the trained network's outputs are not finite; export another trial")
    return outputs


def _write_networks(network: nn.Module, about: About, folder: Path, inputs: Tensor) -> list[str]:
    """Write the four files that hold the network; return the names of its constants."""
    import torch
    from safetensors.torch import save

    from nasx.cost.onnxfile import write_onnx
    from nasx.modelfile import model_source, stored_tensors

    with _silence():
        program = exported(network, inputs)
        tensors = stored_tensors(program)
        title = f"{about.trial} of study {about.study}: a network of the space {about.space}"
        references = {k: v for m in network.modules() for k, v in _references(m).items()}
        source = model_source(program, title, WEIGHTS, references)
        torch.export.save(program, folder / PROGRAM)
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
    except Exception as error:  # torch.export raises errors of many kinds
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        raise NasxError(
            f"{type(network).__name__}: torch.export cannot follow its forward pass: {why}; "
            "write it without branches on values and for any batch size"
        ) from error


def _references(module: nn.Module) -> dict[str, str]:
    """Return a layer's own operators as plain torch source (see `modelfile.model_source`)."""
    found = getattr(module, "references", None)
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _write_sums(folder: Path) -> None:
    names = sorted(f.name for f in folder.iterdir())
    sums = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def _replace(new: Path, out: Path, old: Path) -> None:
    """Put the folder `new` at `out`; what lay there goes to `old`, and comes back on a failure."""
    if not out.exists():
        new.rename(out)
        return
    out.rename(old)
    try:
        new.rename(out)
    except OSError:
        old.rename(out)
        raise


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporters' warnings and logs from the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
