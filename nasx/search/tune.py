"""The Ray Tune executor: Tune places and runs tickets; the engine decides, our record remembers.

One Tune trial is one ticket: a segment of a nasx trial up to its next rung. A promoted trial is a
new ticket that starts from its checkpoint, the path that a kill needs anyway, so there is nothing
for a Tune scheduler to do. A fresh Tuner each time; Tune's own state is never restored (it is a
pickle, and forgets finished trials).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.search.engine import Engine
from nasx.search.evaluate import Evaluator, Outcome, Ticket, run_ticket
from nasx.search.signals import stop_on_signal

QUIET = {  # before the first import of ray
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_usage_stats_enabled": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # snapshots are never read, and cost 30 ms each
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


if "ray" not in sys.modules:  # settings that Ray's parts read at different times would disagree
    for _name, _value in QUIET.items():
        os.environ.setdefault(_name, _value)

import ray  # noqa: E402 - after the settings that keep it quiet
from ray import tune  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402


def ray_runs() -> bool:
    """Return whether this process has started or joined Ray already."""
    return bool(ray.is_initialized())


def leave_ray() -> None:
    """Leave the cluster; a local one ends."""
    ray.shutdown()


def _init(address: str | None, options: dict[str, Any]) -> None:
    """Start or join Ray; a busy machine may miss Ray's own start-up deadline, so try twice."""
    for last in (False, True):
        try:
            ray.init(**options)
            return
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            ray.shutdown()
            if last or address is not None:
                where = f"the Ray cluster at {address}" if address else "Ray on this machine"
                reason = str(error).strip().splitlines()[0]
                raise NasxError(f"cannot start {where}: {reason}") from error


def start_ray(address: str | None, cpu: float, gpu: float, dashboard: bool) -> int:
    """Start or join Ray; return the slots. NasxError where the cluster lacks what a trial asks.

    Tune waits for ever, silently, for resources that no node has: so nodes are looked at first.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not ray.is_initialized():
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            options |= {"address": "local", "include_dashboard": dashboard}
            options |= {"object_store_memory": 200 * 2**20}
            options |= {"_temp_dir": str(Path(tempfile.gettempdir()) / f"nasx-ray-{os.getuid()}")}
        else:
            options |= {"address": address}
        _init(address, options)
    # On a worker's death Ray prints a paragraph on stdout, which would break --json.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    nodes = [
        n["Resources"]
        for n in ray.nodes()  # type: ignore[no-untyped-call]
        if n["Alive"]
    ]
    slots = 0
    for node in nodes:
        fits = node.get("CPU", 0) / cpu
        slots += int(min(fits, node.get("GPU", 0) / gpu) if gpu else fits)
    if slots < 1:
        best = max((n.get("CPU", 0) for n in nodes), default=0)
        gpus = max((n.get("GPU", 0) for n in nodes), default=0)
        raise NasxError(
            f"a trial asks for {cpu:g} CPU and {gpu:g} GPU, but the largest of {len(nodes)} "
            f"node(s) has {best:g} CPU and {gpus:g} GPU; lower `resources` in the study"
        )
    return slots


def run_on_tune(engine: Engine, evaluator: Evaluator, stop: Path) -> None:
    """Run tickets on Tune until the engine has none left."""
    folder = engine.record.path.resolve()
    resources = engine.study.resources
    asked: dict[str, float] = {"cpu": resources.cpu}
    if resources.gpu:
        asked["gpu"] = resources.gpu
    with stop_on_signal(engine, stop):
        while not engine.finished:
            searcher = Tickets(engine)
            tuner = tune.Tuner(
                tune.with_resources(_trainable(evaluator, str(stop.resolve())), asked),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    max_concurrent_trials=engine.slots,
                    reuse_actors=True,
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=_trial_name,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(folder),
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
                ),
            )
            try:
                tuner.fit()
            except RuntimeError as error:
                if "low on memory" not in str(error):
                    raise
                # Ray's memory monitor ends the whole fit(); the record does not.
                for ticket in list(engine.live.values()):
                    engine.done(died(ticket, "its worker was killed when memory ran out"))


def died(ticket: Ticket, reason: str) -> Outcome:
    """Return the outcome of a ticket whose worker is gone."""
    return Outcome(ticket.number, ticket.key, ticket.attempt, ticket.rung, "died", reason=reason)


def _trial_name(trial: Any) -> str:
    ticket = json.loads(trial.config["ticket"])
    return f"nasx-t{ticket['number']:04d}-rung{ticket['rung']}"


class Tickets(Searcher):
    """Ray asks for trials; the engine answers with tickets."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(metric=None, mode=None)
        self.engine = engine
        self.tickets: dict[str, Ticket] = {}
        self.outcomes: dict[str, Outcome] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Travel empty: the Tuner pickles its searcher, and a storage password with it."""
        return {}

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Accept what Tune says of metrics: the engine has its own."""
        return True

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Accept Tune's limit: the engine counts its slots itself."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the next ticket as a Tune configuration."""
        if self.engine.finished:
            return Searcher.FINISHED  # for ever: only when nothing can come back
        free = self.engine.slots - len(self.engine.live)
        if free < 1:
            return None
        # None with two or more free slots makes Ray kill idle actors, so wait for a draw then.
        ticket = self.engine.next(wait=free >= 2)
        if ticket is None:
            return Searcher.FINISHED if self.engine.finished else None
        self.tickets[trial_id] = ticket
        return {"ticket": json.dumps(asdict(ticket))}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Keep what a worker returned."""
        if "outcome" in result:
            self.outcomes[trial_id] = Outcome(**json.loads(result["outcome"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Hand an outcome to the engine; no outcome means that the worker died."""
        ticket = self.tickets.pop(trial_id, None)
        if ticket is None:
            return
        if result and "outcome" in result:
            self.outcomes[trial_id] = Outcome(**json.loads(result["outcome"]))
        outcome = self.outcomes.pop(trial_id, None)
        self.engine.done(outcome or died(ticket, "the worker process died"))
        self.engine.record.store.beat()

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the record remembers."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: Ray's state is never restored."""
        raise NasxError("a nasx run continues from its record, never from Ray's state")


def _trainable(evaluator: Evaluator, stop: str) -> Any:
    class Worker(tune.Trainable):
        """Runs tickets one after the other; stays alive between them (`reuse_actors`)."""

        def setup(self, config: dict[str, Any]) -> None:
            import warnings

            warnings.simplefilter("ignore")
            evaluator.prepare()
            self.ticket = Ticket(**json.loads(config["ticket"]))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.ticket = Ticket(**json.loads(new_config["ticket"]))
            return True

        def step(self) -> dict[str, Any]:
            outcome = run_ticket(evaluator, self.ticket, Path(stop))
            return {"outcome": json.dumps(asdict(outcome)), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Keep nothing: our own checkpoints lie with the trial."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Read nothing."""

    return Worker
