"""Look over a run folder, and say what is amiss and how to mend it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from nasx.doctor import Finding, disk
from nasx.errors import NasxError


def examine_run(path: Path, storage: str | None = None) -> list[Finding]:
    """Return the state of a run folder; a folder without a run raises NasxError."""
    from nasx.results.scanned import FILE as STEPS
    from nasx.results.scanned import kept_steps
    from nasx.run import Run, status
    from nasx.trial import State

    run = Run(path, storage)
    found = [_lock(path), disk(path)]
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
    if (path / STEPS).is_file() and kept_steps(snapshot) is None:
        remedy = "delete it: the same nasx search command makes it anew, and `nasx steps` shows it"
        found.append(Finding("latency steps", f"{STEPS} cannot be read", remedy))
    return found


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

    complete = [t for t in trials if t.state is State.COMPLETE and t.searched]
    gone = [t.name for t in complete if not (run.folder(t.number) / "checkpoint").is_dir()]
    if gone:
        remedy = "these cannot be exported; front, rule and report still work"
        return Finding("weights", f"missing for {len(gone)} ({', '.join(gone[:5])})", remedy)
    return Finding("weights", f"present for {len(complete)} complete trials")
