"""The database under the record: Optuna's schema on SQLite (one folder) or on a server."""

from __future__ import annotations

import os
import socket
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.trial import State

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from nasx.study import Study

HEARTBEAT = 15.0  # seconds between a driver's signs of life on a server
SILENT = 60.0  # seconds after which a driver on a server counts as dead


class StudyStore:
    """One study's rows and attributes in a database."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int, server: bool) -> None:
        self._storage, self._study_id, self._server = storage, study_id, server
        self._token = uuid.uuid4().hex
        self._beaten = 0.0

    def rows(self) -> list[FrozenTrial]:
        """Return every row of the study by number."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return a study attribute."""
        return self._storage.get_study_user_attrs(self._study_id).get(name, default)

    def set_attribute(self, name: str, value: Any) -> None:
        """Write a study attribute."""
        self._storage.set_study_user_attr(self._study_id, name, value)

    def create(
        self,
        params: Mapping[str, Any],
        domains: Mapping[str, BaseDistribution],
        constraints: Mapping[str, float],
        attributes: Mapping[str, Any],
    ) -> int:
        """Insert a RUNNING row in one transaction; return its id."""
        import optuna

        row = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=dict(params),
            distributions=dict(domains),
            user_attrs=dict(attributes),
            constraints=dict(constraints) or None,
        )
        return self._storage.create_new_trial(self._study_id, template_trial=row)

    def set_progress(self, trial_id: int, progress: Mapping[str, Any]) -> None:
        """Rewrite the changing part of a row."""
        self._storage.set_trial_user_attr(trial_id, "progress", dict(progress))

    def finish(
        self,
        trial_id: int,
        progress: Mapping[str, Any],
        constraints: Mapping[str, float],
        state: State,
        values: Sequence[float] | None,
    ) -> None:
        """Write a row's last progress, the constraints not known before, and its final state."""
        import optuna

        self.set_progress(trial_id, progress)
        for name, excess in constraints.items():
            self._storage.set_trial_system_attr(trial_id, f"constraints:{name}", excess)
        told = {
            State.COMPLETE: optuna.trial.TrialState.COMPLETE,
            State.STOPPED: optuna.trial.TrialState.PRUNED,
            State.FAILED: optuna.trial.TrialState.FAIL,
        }[state]
        self._storage.set_trial_state_values(trial_id, told, values)

    def claim(self) -> None:
        """Take the study for this driver; refuse while another one gives signs of life."""
        if not self._server:
            return
        holder = self.attribute("driver")
        if holder and time.time() - holder["time"] < SILENT and not _gone(holder):
            raise NasxError(
                f"the record is in use by another nasx search on {holder['host']} "
                f"(process {holder['pid']}); wait for it or stop it"
            )
        self.beat(force=True)
        time.sleep(0.2)  # two drivers that claim at once: the later write wins, the other sees it
        if self.attribute("driver", {}).get("token") != self._token:
            raise NasxError("the record was taken by another nasx search just now; try again")

    def beat(self, force: bool = False) -> None:
        """Give a sign of life where several machines could take the record."""
        now = time.time()
        if self._server and (force or now - self._beaten > HEARTBEAT):
            self._beaten = now
            who = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
            self.set_attribute("driver", {**who, "time": now})

    def close(self, release: bool = False) -> None:
        """Let go of the database; a driver also gives the record back."""
        if release and self._server:
            self.set_attribute("driver", None)
        self._storage.remove_session()
        self._storage.engine.dispose()


def _gone(holder: Mapping[str, Any]) -> bool:
    """Return whether a driver of this very machine is known to be dead."""
    return holder["host"] == socket.gethostname() and not Path(f"/proc/{holder['pid']}").exists()


def open_store(
    folder: Path, study: Study, identity: str, url: str | None, *, create: bool
) -> StudyStore:
    """Open the study's record; `url` None means record.sqlite3 in the run folder.

    Raises NasxError when the database cannot be reached, or holds no such study.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = url is not None and not url.startswith("sqlite")
    place = url or f"sqlite:///{folder.resolve()}/record.sqlite3"
    options: dict[str, Any] = {} if server else {"connect_args": {"timeout": 60}}
    try:
        storage = optuna.storages.RDBStorage(place, engine_kwargs=options)
        if not server:
            sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
            storage.engine.dispose()  # connections opened before lack the listener's settings
        name = f"{study.name}-{identity}"
        if create:
            made = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=list(study.objectives.values()),
                load_if_exists=True,
            )
            if not made.metric_names:
                with warnings.catch_warnings():  # marked experimental; only dashboards read it
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    made.set_metric_names(list(study.objectives))
        study_id = storage.get_study_id_from_name(name)
    except KeyError as error:
        raise NasxError(f"{folder}: the database holds no record of this run") from error
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise NasxError(f"the record cannot be opened: {_without_password(first, url)}") from error
    return StudyStore(storage, study_id, server)


def _write_ahead(connection: Any, _: Any) -> None:
    """Use the write-ahead log; result.json is fsynced, so a lost last commit is repaired."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _without_password(text: str, url: str | None) -> str:
    if url and "@" in url and ":" in url.split("@")[0].partition("://")[2]:
        secret = url.split("@")[0].rpartition(":")[2]
        return text.replace(secret, "***") if secret else text
    return text
