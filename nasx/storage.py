"""The database under the record: Optuna's schema on SQLite (one folder) or on a server."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.database import connection_options, demand_url, is_server, refusal
from nasx.errors import NasxError
from nasx.tenure import Tenure
from nasx.trial import State

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from nasx.study import Study


class StudyStore:
    """One study's rows and attributes in a database."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int, server: bool) -> None:
        self._storage, self._study_id = storage, study_id
        self._tenure = Tenure(self) if server else None

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

    def take(self) -> None:
        """Take the study for this driver; refuse while another one gives signs of life."""
        if self._tenure is not None:
            self._tenure.take()

    def demand_tenure(self) -> None:
        """Refuse to write on where another driver has taken the study."""
        if self._tenure is not None:
            self._tenure.demand()

    def clock(self) -> float:
        """Return the database's time in seconds."""
        import sqlalchemy

        with self._storage.engine.connect() as connection:
            now = connection.execute(sqlalchemy.select(sqlalchemy.func.now())).scalar_one()
        return float(now.replace(tzinfo=now.tzinfo or UTC).timestamp())

    def leave(self) -> None:
        """Give back this thread's connection."""
        self._storage.remove_session()

    def close(self) -> None:
        """Let go of the database; a driver also gives the record back."""
        if self._tenure is not None:
            self._tenure.release()
        self._storage.remove_session()
        self._storage.engine.dispose()


def open_store(
    folder: Path, study: Study, identity: str, url: str | None, *, create: bool
) -> StudyStore:
    """Open the study's record; `url` None means record.sqlite3 in the run folder.

    Raises NasxError when the database cannot be reached, or holds no such study.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    server = is_server(url)
    place = url or f"sqlite:///{folder.resolve()}/record.sqlite3"
    if url is not None:
        demand_url(url)
    options = connection_options(place) if server else {"connect_args": {"timeout": 60}}
    try:
        storage = optuna.storages.RDBStorage(place, engine_kwargs=options)
        if server:
            sqlalchemy.event.listen(storage.engine, "handle_error", _lost(place))
        else:
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
        raise refusal(error, url) from error
    return StudyStore(storage, study_id, server)


def _lost(url: str) -> Callable[[Any], None]:
    """Return the listener that turns a database gone in mid-search into one line."""

    def listener(context: Any) -> None:
        import sqlalchemy

        failure = context.sqlalchemy_exception
        if context.is_pre_ping or not isinstance(failure, sqlalchemy.exc.OperationalError):
            return  # a stale connection is replaced by itself; anything else is a fault of ours
        raise NasxError(
            f"{refusal(failure, url)}; nothing finished is lost: the same command continues"
        ) from failure

    return listener


def _write_ahead(connection: Any, _: Any) -> None:
    """Use the write-ahead log; result.json is fsynced, so a lost last commit is repaired."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
