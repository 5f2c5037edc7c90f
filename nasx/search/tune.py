"""The Ray Tune executor: Tune places and runs tickets; the engine decides, our record remembers.

One Tune trial is one ticket: a segment of a nasx trial up to its next rung. A promoted trial is a
new ticket that starts from its checkpoint, the path that a kill needs anyway, so there is nothing
for a Tune scheduler to do. A fresh Tuner each time; Tune's own state is never restored (it is a
pickle, and forgets finished trials).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nasx.errors import NasxError
from nasx.search.cluster import name_process, tune, watched
from nasx.search.engine import Engine
from nasx.search.evaluate import Evaluator, Outcome, Ticket, run_ticket
from nasx.search.signals import stop_on_signal

Searcher = tune.search.Searcher
OWN = "ray"  # Tune's folder inside a run: nobody reads it, and it goes when the search ends


def run_on_tune(engine: Engine, evaluator: Evaluator, stop: Path) -> None:
    """Run tickets on Tune until the engine has none left."""
    folder = engine.record.path.resolve()
    resources = engine.study.resources
    asked: dict[str, float] = {"cpu": resources.cpu}
    if resources.gpu:
        asked["gpu"] = resources.gpu
    with stop_on_signal(engine, stop), watched():
        while not engine.finished:
            searcher = Tickets(engine, stop)
            tuner = tune.Tuner(
                tune.with_resources(_trainable(evaluator, folder.name, str(stop.resolve())), asked),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    max_concurrent_trials=engine.slots,
                    reuse_actors=True,
                    trial_name_creator=_trial_name,
                    trial_dirname_creator=_trial_name,
                ),
                run_config=tune.RunConfig(
                    name=OWN,
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
    shutil.rmtree(folder / OWN, ignore_errors=True)


def died(ticket: Ticket, reason: str) -> Outcome:
    """Return the outcome of a ticket whose worker is gone."""
    return Outcome(ticket.number, ticket.key, ticket.attempt, ticket.rung, "died", reason=reason)


def _trial_name(trial: Any) -> str:
    ticket = json.loads(trial.config["ticket"])
    return _ticket_name(ticket["number"], ticket["rung"])


def _ticket_name(number: int, rung: int) -> str:
    return f"nasx-t{number:04d}-rung{rung}"


class Tickets(Searcher):
    """Ray asks for trials; the engine answers with tickets."""

    def __init__(self, engine: Engine, stop: Path) -> None:
        super().__init__(metric=None, mode=None)
        self.engine, self.stop = engine, stop
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
        if self.engine.trouble is not None:
            self.stop.touch()  # what still runs saves and comes back
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

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the record remembers."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: Ray's state is never restored."""
        raise NasxError("a nasx run continues from its record, never from Ray's state")


def _trainable(evaluator: Evaluator, run: str, stop: str) -> Any:
    class NasxTrial(tune.Trainable):
        """Runs tickets one after the other; stays alive between them (`reuse_actors`)."""

        def setup(self, config: dict[str, Any]) -> None:
            import warnings

            warnings.simplefilter("ignore")
            evaluator.prepare()
            self.ticket = Ticket(**json.loads(config["ticket"]))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.ticket = Ticket(**json.loads(new_config["ticket"]))
            return True

        def __repr__(self) -> str:
            return f"nasx-{run}"  # on Ray's Actors page, where the first name stays for ever

        def step(self) -> dict[str, Any]:
            name_process(_ticket_name(self.ticket.number, self.ticket.rung))
            outcome = run_ticket(evaluator, self.ticket, Path(stop))
            return {"outcome": json.dumps(asdict(outcome)), "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Keep nothing: our own checkpoints lie with the trial."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Read nothing."""

    return NasxTrial
