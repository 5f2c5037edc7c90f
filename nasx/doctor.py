"""Look over this machine, or a run folder, and say what is amiss and how to mend it."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.files import LEAST_FREE, free_bytes

GIB = 2**30
LEAST_MEMORY = 2 * GIB
PACKAGES = {  # what is lost without them
    "torch": "nothing can be trained", "ray": "use resources.executor: inline",
    "optuna": "nothing can be searched", "onnx": "no export", "onnxscript": "no export",
    "onnxruntime": "no latency but `eager`", "plotly": "no report",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` is empty where all is well."""

    what: str
    state: str
    remedy: str = ""

    def text(self) -> str:
        """Return the finding as one line."""
        mark = "!" if self.remedy else " "
        return f"{mark} {self.what:<12} {self.state}" + (f": {self.remedy}" if self.remedy else "")

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def examine_machine() -> list[Finding]:
    """Return what this machine offers to a search."""
    from nasx.provenance import machine

    version = ".".join(map(str, sys.version_info[:3]))
    here = machine()
    old = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    flags = " ".join(f for f in ("avx2", "avx512f", "amx_tile") if f in here.get("flags", ()))
    cores = len(os.sched_getaffinity(0))
    found = [
        Finding("python", f"{version} ({sys.executable})", old),
        Finding("processor", f"{here.get('cpu', '?')} ({flags or 'no wide vectors known'})"),
        Finding("cores", f"{cores} usable, load {os.getloadavg()[0]:.1f}", _busy(cores)),
        _memory(),
        _disk(Path.cwd()),
        Finding("gpu", _gpus()),
    ]
    found += [_package(name, lost) for name, lost in PACKAGES.items()]
    found.append(_packages_of_ours())
    return found


def examine_run(path: Path, storage: str | None = None) -> list[Finding]:
    """Return the state of a run folder; a folder without a run raises NasxError."""
    from nasx.run import Run, status
    from nasx.trial import State

    run = Run(path, storage)
    found = [_lock(path), _disk(path)]
    missing = [n for n in ("provenance.json", "study.yaml") if not (path / n).is_file()]
    if missing:
        remedy = "restore them from a copy: results still read, their origin is lost"
        found.append(Finding("files", f"missing {', '.join(missing)}", remedy))
    try:
        snapshot = run.snapshot()
    except NasxError as error:
        return [*found, Finding("record", "cannot be read", str(error))]
    except Exception as error:
        said = f"cannot be read ({type(error).__name__}: {error})"
        return [*found, Finding("record", said, "restore record.sqlite3 from a copy")]
    counts = {k: n for k, n in status(snapshot)["states"].items() if n}
    said = ", ".join(f"{k.lower()} {n}" for k, n in counts.items()) or "no trial yet"
    found.append(Finding("trials", said))
    open_states = (State.RUNNING, State.INTERRUPTED)
    unfinished = [t for t in snapshot.trials if t.state in open_states]
    if unfinished and not found[0].state.startswith("held"):
        names = ", ".join(t.name for t in unfinished[:5])
        remedy = "run the same nasx search command again: it continues them"
        found.append(Finding("unfinished", f"{len(unfinished)} ({names})", remedy))
    failed = [t for t in snapshot.trials if t.state is State.FAILED]
    if failed:
        found.append(Finding("failed", f"{len(failed)}, the first: {failed[0].reason}"))
    found.append(_checkpoints(run, snapshot.trials))
    return found


def _busy(cores: int) -> str:
    if os.getloadavg()[0] > 1.5 * cores:
        return "other programs keep it busy: latencies will be marked as contended"
    return ""


def _memory() -> Finding:
    free = total = 0
    table = Path("/proc/meminfo")
    if not table.is_file():
        return Finding("memory", "unknown on this system")
    for line in table.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            total = int(rest.split()[0]) * 1024
        if name == "MemAvailable":
            free = int(rest.split()[0]) * 1024
    remedy = "close other programs, or run fewer slots" if free < LEAST_MEMORY else ""
    return Finding("memory", f"{free / GIB:.1f} of {total / GIB:.1f} GiB free", remedy)


def _disk(folder: Path) -> Finding:
    free = free_bytes(folder)
    remedy = "make room: searches pause below 0.5 GiB" if free < 2 * LEAST_FREE else ""
    return Finding("disk", f"{free / GIB:.1f} GiB free at {folder.resolve()}", remedy)


def _gpus() -> str:
    if shutil.which("nvidia-smi") is None:
        return "none"
    import torch

    n = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(i) for i in range(n)]
    return ", ".join(names) or "present, but this torch cannot use it"


def _package(name: str, lost: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "not installed", f"install nasx again; until then {lost}")


def _packages_of_ours() -> Finding:
    from nasx import registry

    try:
        names = ", ".join(registry.spaces())
    except NasxError as error:
        return Finding("spaces", "cannot be listed", str(error))
    return Finding("spaces", names or "none", "" if names else "install nasx again")


def _lock(path: Path) -> Finding:
    lock = path / "lock"
    if not lock.is_file():
        return Finding("lock", "free")
    with lock.open() as file:  # read only: a copy may stand on a read-only disk
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return Finding("lock", f"held: a search is running (process {file.read().strip()})")
    return Finding("lock", "free")


def _checkpoints(run: Any, trials: Any) -> Finding:
    from nasx.trial import State

    complete = [t for t in trials if t.state is State.COMPLETE and t.replicate_of is None]
    gone = [t.name for t in complete if not (run.folder(t.number) / "checkpoint").is_dir()]
    if gone:
        remedy = "these cannot be exported; front, rule and report still work"
        return Finding("weights", f"missing for {len(gone)} ({', '.join(gone[:5])})", remedy)
    return Finding("weights", f"present for {len(complete)} complete trials")
