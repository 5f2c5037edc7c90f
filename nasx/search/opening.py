"""Open a run folder for writing: the right study, the right record, and no other driver."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from nasx.errors import NasxError
from nasx.files import read_json, write_json, write_text
from nasx.record import Record
from nasx.run import study_of
from nasx.storage import StudyStore, open_store
from nasx.study import Study, changes


def continued(folder: Path, study: Study, add_trials: int) -> Study:
    """Return the study to run in this folder; refuse a folder that holds another one."""
    resolved = folder / "resolved.yaml"
    if resolved.is_file():
        old = study_of(folder)
        differences = changes(old, study)
        if differences:
            raise NasxError(
                f"{folder} holds another study: {'; '.join(differences)}; "
                "give --out for a new run folder"
            )
        trials = max(old.search.trials, study.search.trials)
    else:
        trials = study.search.trials
    trials += add_trials
    return study.model_copy(update={"search": study.search.model_copy(update={"trials": trials})})


@contextlib.contextmanager
def opened(
    folder: Path, study: Study, data: str, splits: dict[str, int], storage: str | None
) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Open the record for writing; yield it and the run's provenance, written when it ends.

    The database comes first: a server that does not answer, or a record in use, leaves no trace.
    """
    identity = study.identity(data)
    old = read_json(folder / "provenance.json")
    if old and old["identity"] != identity:
        raise NasxError(
            f"{folder} holds another study: its data have changed; give --out for a new run folder"
        )
    _demand_same_database(folder, old, storage)
    with contextlib.closing(open_store(folder, study, identity, storage, create=True)) as store:
        store.take()
        provenance = old or _described(study, identity, data)
        if splits:
            provenance["splits"] = splits
        if storage is not None:
            _demand_same_folder(store, folder, provenance)
        record = Record(folder, study, store)
        if old:
            provenance["resumes"] += 1
            provenance.setdefault("restarts", []).append(len(record.trials))
        with _written(folder, study, provenance):
            if storage is not None:
                mine = {"run": provenance["run"], "folder": _place(folder)}
                store.set_attribute("run", mine)
            yield record, provenance


@contextlib.contextmanager
def _written(folder: Path, study: Study, provenance: dict[str, Any]) -> Iterator[None]:
    """Write the run's own files, and its working time when the search ends."""
    resolved = yaml.safe_dump(study.resolved(), sort_keys=False)
    write_text(folder / "resolved.yaml", resolved)
    if not (folder / "study.yaml").exists():
        write_text(folder / "study.yaml", resolved)
    write_json(folder / "provenance.json", provenance)
    started = time.monotonic()
    try:
        yield
    finally:
        provenance["seconds"] += time.monotonic() - started
        with contextlib.suppress(OSError):
            write_json(folder / "provenance.json", provenance)


def _described(study: Study, identity: str, data: str) -> dict[str, Any]:
    from nasx.provenance import describe

    described = describe(identity, data, _user_files(study), study.search.seed)
    return {"run": uuid.uuid4().hex, **described, "cautions": _cautions(study)}


def _cautions(study: Study) -> dict[str, list[str]]:
    """Return what each space says of its results: a report reads the record alone."""
    from nasx.registry import space

    found = [space(reference) for reference in study.spaces]
    return {cls.name: list(cls.cautions) for cls in found if cls.cautions}


def _user_files(study: Study) -> list[Path]:
    """Return the user's own files that a study executes."""
    named = [r.rpartition(":")[0] for r in study.spaces if ".py:" in r]
    return [Path(n) for n in named]


def _demand_same_database(folder: Path, old: Any, storage: str | None) -> None:
    """Refuse to begin a second record beside the one that a run already has."""
    here = (folder / "record.sqlite3").is_file()
    if storage is not None and here:
        raise NasxError(f"{folder} has its record in record.sqlite3; leave --storage out")
    if storage is None and old and not here and (folder / "trials").is_dir():
        raise NasxError(
            f"{folder}: the record is not here (no record.sqlite3); "
            "give the --storage that it was begun with"
        )


def _demand_same_folder(store: StudyStore, folder: Path, provenance: dict[str, Any]) -> None:
    """Refuse a record whose trials lie in another run folder: checkpoints would be missing."""
    known = store.attribute("run")
    if known and known["run"] != provenance.get("run") and store.rows():
        raise NasxError(
            f"{folder}: the database already holds this study, with its trials in "
            f"{known['folder']}; continue there (--out), or change search.seed for a new search"
        )


def _place(folder: Path) -> str:
    return f"{socket.gethostname()}:{folder.resolve()}"
