"""A run folder for reading: its trials as plain values, whether it runs, ended or was copied."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.files import read_json, read_json_lines
from nasx.rows import trial_of
from nasx.storage import StudyStore, open_store
from nasx.study import Study
from nasx.trial import Final, Rejection, Snapshot, State


def study_of(folder: Path) -> Study:
    """Return the study that a run folder was made for; refuse a file that is damaged."""
    import yaml

    file = folder / "resolved.yaml"
    try:
        return Study.model_validate(yaml.safe_load(file.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise NasxError(
            f"{file} cannot be read ({why}); put a copy of study.yaml of that folder in its place"
        ) from error


class Run:
    """A run folder, for reading: works on running, finished and copied runs."""

    def __init__(self, path: str | Path, storage: str | None = None) -> None:
        self.path, self.storage = Path(path), storage
        if not (self.path / "resolved.yaml").is_file():
            inside = sorted(f.parent for f in self.path.glob("*/resolved.yaml"))
            see = f"there are in {', '.join(map(str, inside))}" if inside else "see `nasx search`"
            raise NasxError(f"{self.path}: no run here (there is no resolved.yaml); {see}")

    @property
    def study(self) -> Study:
        """Return the study as it was run."""
        return study_of(self.path)

    def folder(self, number: int) -> Path:
        """Return the folder of one trial, trials/t0007."""
        return self.path / "trials" / f"t{number:04d}"

    def snapshot(self) -> Snapshot:
        """Read the run as plain values."""
        study = self.study
        provenance = read_json(self.path / "provenance.json") or {}
        with self._store(study, provenance.get("identity", "")) as store:
            rows = store.rows()
            duplicates = int(store.attribute("duplicates", 0))
        trials = tuple(trial_of(row) for row in rows if "nasx" in row.user_attrs)
        finals = {}
        for trial in trials:
            kept = read_json(self.folder(trial.number) / "final.json")
            if kept:
                finals[trial.number] = Final(**kept)
        rejected = read_json_lines(self.path / "rejected.jsonl")
        return Snapshot(
            name=study.name,
            path=self.path,
            study=study,
            trials=trials,
            rejections=tuple(Rejection(**r) for r in rejected),
            finals=finals,
            provenance=provenance,
            duplicates=duplicates,
        )

    @contextlib.contextmanager
    def _store(self, study: Study, identity: str) -> Iterator[StudyStore]:
        if self.storage is None and not (self.path / "record.sqlite3").is_file():
            raise NasxError(
                f"{self.path}: the record is not here (no record.sqlite3); "
                "give --storage if it is on a database server"
            )
        store = open_store(self.path, study, identity, self.storage, create=False)
        try:
            yield store
        finally:
            store.close()


def snapshot_of(run: Run | Snapshot | str | Path) -> Snapshot:
    """Return the plain values of a run given in any form."""
    if isinstance(run, Snapshot):
        return run
    return (run if isinstance(run, Run) else Run(run)).snapshot()


def status(run: Run | Snapshot | str | Path) -> dict[str, Any]:
    """Return counts by state and by refused constraint, free of clock values."""
    snapshot = snapshot_of(run)
    states = {s.value: 0 for s in State if s is not State.INFEASIBLE}
    for trial in snapshot.trials:
        states[trial.state.value] += 1
    rejected: dict[str, int] = {}
    for rejection in snapshot.rejections:
        rejected[rejection.constraint] = rejected.get(rejection.constraint, 0) + 1
    return {
        "study": snapshot.name,
        "identity": snapshot.provenance.get("identity", ""),
        "states": states,
        "rejected": rejected,
    }
