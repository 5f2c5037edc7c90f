"""Write the bundle of one deployed network: every file checked against it, or none is left."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx import parity, paritycheck
from nasx.bundleparts import parts_of, write_parts
from nasx.errors import NasxError, ParityError
from nasx.networkfiles import ONNX, PROGRAM, SOURCE, WEIGHTS
from nasx.paritytext import unseen

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nasx.modelcard import About

ARCHITECTURE, CARD, PARITY, SUMS = "architecture.json", "card.md", "parity.json", "SHA256SUMS"
FILES = (ARCHITECTURE, WEIGHTS, ONNX, PROGRAM, SOURCE, CARD, PARITY, SUMS)
OF_HEAD = re.compile(r"model_\w+\.(onnx|pt2|py)")  # a file of one head of several
MINUTES = 10  # that the check may take

log = logging.getLogger("nasx")


def bundle(
    deployed: nn.Module,
    about: About,
    out: Path,
    inputs: Tensor | Mapping[str, Tensor],
    more: Iterable[Tensor] = (),
) -> Path:
    """Write the bundle of a network to the folder `out`; return it.

    `inputs` (N, ...) are real samples to check the files on, by head where the network has several:
    each head gets files of its own, beside one weights file. `more` are batches among which inputs
    are found that take every way, where the work depends on the input. The network is left as it
    is. A bundle that lies at `out` is replaced, only once the new one is whole and checked; any
    other content of `out` is refused. Raises ParityError where a file computes something else, and
    NasxError where the network cannot be exported or the folder not be written.
    """
    import torch

    from nasx.modelcard import architecture, card

    out = out.expanduser()
    demand_replaceable(out)
    # Laid out plainly, as the files are: in channels_last kernels add in another order, and where
    # layers round, a last bit is a step.
    network = copy.deepcopy(deployed).cpu().eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    heads = inputs if isinstance(inputs, Mapping) else {"": inputs}
    for head in heads:
        if head and not re.fullmatch(r"\w+", head):
            raise NasxError(f"files cannot be named by the head '{head}'; use letters and digits")
    parts = parts_of(network, heads, more)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            why = ""
            for any_size in (True, False) if takes_any_size(network, about) else (False,):
                folder = Path(scratch) / ("any" if any_size else "one") / "new"
                folder.mkdir(parents=True)
                try:
                    made = write_parts(network, parts, about, folder, any_size=any_size)
                    found = check(folder, made.cases)
                    break
                except NasxError as error:  # some networks export at one size only
                    if not any_size:
                        raise
                    why = str(error)
            if why:
                log.warning("%s takes images of one size only: %s", out, why)
                found["one_size"] = why
            for head, ways in made.ways.items():
                (found["heads"][head] if head else found)["ways"] = ways
                if ways["never"]:
                    log.warning("%s: %s", out, unseen(ways, head))
            known = replace(about, heads=made.heads)
            _write_json(folder / ARCHITECTURE, architecture(known, made.inputs, made.constants))
            _write_json(folder / PARITY, found)
            (folder / CARD).write_text(card(known, found, made.inputs), encoding="utf-8")
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
    names = {f.name for f in out.iterdir() if not OF_HEAD.fullmatch(f.name)}
    foreign = sorted(names - {*FILES, "__pycache__"})
    if foreign:
        raise NasxError(
            f"{out}: holds '{foreign[0]}', which is not part of a bundle; "
            "name a new folder with --out"
        )


def takes_any_size(network: nn.Module, about: About) -> bool:
    """Return whether images of other sizes are wanted of a network: of one that restores them."""
    from nasx.tasks.tiles import fixed_side

    return "images" in about.preprocessing and fixed_side(network) is None


def check(folder: Path, cases: list[Path]) -> dict[str, Any]:
    """Run `nasx.paritycheck` on the files of `folder` in a fresh process; return its result.

    `cases` are the folders of `write_case`. Raises ParityError, naming every file that does not
    compute what the network does.
    """
    folder, scratch = folder.resolve(), folder.resolve().parent  # the check runs elsewhere
    result = scratch / "result.json"
    script = Path(paritycheck.__file__).resolve()
    # Isolated: no user site, no PYTHONPATH, neither the script's folder nor the working one.
    paths = (script, folder, result, *(case.resolve() for case in cases))
    command = [sys.executable, "-I", "-B", *map(str, paths)]
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
    head = f"{name} does not compute what was scored: "
    if row["max_abs"] is None:
        return f"{head}{row['error']}"
    if "tiled" in row and row["max_relative"] <= parity.TOLERANCE:
        return f"{head}in tiles it differs by {row['tiled']['max_relative']:.2g} of the largest"
    told = (
        f"{head}it differs by {row['max_abs']:.3g}, "
        f"{row['max_relative']:.2g} of the largest output ({parity.TOLERANCE:g} is allowed)"
    )
    if "codes_equal" not in row:
        return told
    top1, least = row["top1_agreement"], row["least_equal"]
    answers = f"{row['rms_relative']:.2g} of the largest output off (root mean square)"
    return (
        f"{told}, and by decisions {row['codes_equal']:.4%} of the codes are equal (least in "
        f"'{least['layer']}', {least['share']:.4%}; {row['least_fresh']:.4%} of those taken after "
        "equal ones), the answers "
        f"{answers if top1 is None else f'{top1:.2%} the same'}, {row['as_witness']:.2%} as its "
        f"twin's, and those without a changed code {row['intact_max_relative']:.2g} off "
        f"({parity.SHARE:.1%} is wanted)"
    )


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
