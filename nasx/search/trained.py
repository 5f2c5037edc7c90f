"""The evaluator of a real search: build, measure, train to the rung, score on valid."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError, NoDevice
from nasx.files import write_json
from nasx.search.evaluate import Report, Ticket, one_line
from nasx.search.timing import Place, timing_nodes, try_out

if TYPE_CHECKING:
    from nasx.cost.card import CostCard
    from nasx.shape import TaskShape
    from nasx.space import Space
    from nasx.study import Study
    from nasx.tasks.base import Split, Task
    from nasx.training import Training

SAVE_EVERY = 20.0  # seconds of training between checkpoints inside a segment


class Trained:
    """Evaluate candidates of a study by training them on its task."""

    cheap = False
    split: Split = "valid"  # which one the scores are of

    def __init__(self, study: Study, run: Path, base: Path) -> None:
        self.study, self.run_folder, self.base = study, run, base
        self.place: Place | None = None  # where latency is timed; settled when a search starts
        self.timers: dict[str, Any] = {}  # by node, where this process started one
        self._task: Task | None = None
        self._training: Training | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel light: a worker loads its own task."""
        return {**self.__dict__, "timers": {}, "_task": None, "_training": None}

    @property
    def task(self) -> Task:
        """Return the study's task, loaded once per process."""
        if self._task is None:
            from nasx.registry import task

            self._task = task(self.study.task)
        return self._task

    @property
    def shape(self) -> TaskShape:
        """Return the task's shape."""
        return self.task.shape

    def fingerprint(self) -> str:
        """Return the hash of the task's data."""
        return self.task.fingerprint()

    def prepare(self) -> None:
        """Import torch, fix its threads and open the data."""
        import torch

        torch.set_num_threads(max(1, int(self.study.resources.cpu)))
        _ = self.task

    def price(self, candidate: Space) -> CostCard:
        """Count the untrained deployed network on the candidate's own input."""
        import torch

        from nasx.cost.card import card_of

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = candidate.build(self.task.shape)
        shape = candidate.input_shape(self.task.shape)
        deployed = candidate.decide(model)
        return card_of(deployed, shape, trained=model, energy=self.study.measure.energy)

    def comparable_from(self, candidate: Space) -> float:
        """Return what the candidate's recipe says."""
        return candidate.recipe(self.task.shape).comparable_from

    def latency(self, candidate: Space, raw: Path | None = None) -> float:
        """Time the untrained deployed network; provisional until the quiet pass.

        NoDevice where no network can be timed at all.
        """
        import torch

        from nasx.cost.latency import time_networks

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = candidate.decide(candidate.build(self.task.shape)).eval()
        shape = candidate.input_shape(self.task.shape)
        try:
            found = time_networks({"it": (model, shape)}, self.study.measure, passes=5, raw=raw)
        except NasxError:
            try_out(self.study.measure)  # is it this network, or would every one fail?
            raise
        return found["it"].median_ms

    def run(self, ticket: Ticket) -> Iterator[Report]:
        """Train from the checkpoint (if any) to `until`; score a decided copy on `split`."""
        candidate = self.candidate(ticket)
        folder = Path(ticket.folder)
        known = dict(ticket.known)
        if "latency_ms" not in known and wants_latency(self.study):
            known["latency_ms"] = self._provisional(candidate, ticket)
        training = self._begin(candidate, ticket)
        saved = time.monotonic()
        for samples in training.run(ticket.until):
            yield Report(samples, paused=training.presence.paused)
            if time.monotonic() - saved > SAVE_EVERY:
                training.save(folder / "checkpoint")
                saved = time.monotonic()
        scores = {**training.score(self.split), **self._of_samples(training, candidate, ticket)}
        training.save(folder / "checkpoint")
        write_curve(folder / "curve.csv", training.curve)
        diagnosis = {}
        if ticket.final:
            model = training.deployed()
            diagnosis = candidate.diagnose(model, self.task)
            shape = candidate.input_shape(self.task.shape)
            self.task.illustrate(model, shape, 8, folder / "images")
        yield Report(training.samples, {**known, **scores}, diagnosis, training.presence.paused)

    def _of_samples(self, training: Training, candidate: Space, ticket: Ticket) -> dict[str, float]:
        """Return what real samples cost on average where the work depends on them; keep the card.

        Latency is taken once more at full fidelity, where it can be timed on this machine.
        """
        from nasx.axes import AXES
        from nasx.cost.latency import time_networks
        from nasx.cost.mean import mean_cost
        from nasx.cost.samples import fed
        from nasx.varying import varies

        model = training.deployed().cpu()
        if not varies(model):
            return {}
        study, folder = self.study, Path(ticket.folder)
        card = mean_cost(model, self.task, self.price(candidate), study.measure.energy)
        write_cost(folder / "cost.json", card)
        costs = {name: card.axis(name) for name, axis in AXES.items() if axis.kind == "static"}
        found = {name: value for name, value in costs.items() if value is not None}
        if ticket.final and wants_latency(study) and not self._elsewhere(ticket):
            asked = {"it": fed(model, candidate.input_shape(self.task.shape), self.task)}
            raw = folder / "latency.jsonl"
            try:
                timed = time_networks(asked, study.measure, passes=5, raw=raw)
            except NasxError as error:
                raise NasxError(f"latency: {one_line(error)}") from error
            found["latency_ms"] = timed["it"].median_ms
        return found

    def candidate(self, ticket: Ticket) -> Space:
        """Return the candidate that a ticket names."""
        from nasx.registry import space

        return space(ticket.space, self.base).from_json(ticket.candidate)

    def _provisional(self, candidate: Space, ticket: Ticket) -> float:
        """Time a candidate before it trains, on a node that has the run's device model."""
        try:
            nodes = self._elsewhere(ticket)
            if nodes:
                from nasx.search.nodes import latency_elsewhere

                return latency_elsewhere(self, ticket, nodes)
            return self.latency(candidate, Path(ticket.folder) / "latency.jsonl")
        except NoDevice:
            raise
        except Exception as error:
            raise NasxError(f"latency: {one_line(error)}") from error

    def _elsewhere(self, ticket: Ticket) -> tuple[str, ...]:
        """Return the nodes to time on where this machine is not what the run times on."""
        from nasx.cost.device import model_here

        if self.place is None:
            return ()
        mine = model_here(self.study.measure)
        return timing_nodes(self.place, self.study.measure, mine, ticket.key)

    def pause(self, ticket: Ticket) -> None:
        """Keep the training where it stands."""
        if self._training is not None:
            self._training.save(Path(ticket.folder) / "checkpoint")

    def _begin(self, candidate: Space, ticket: Ticket) -> Training:
        from nasx.training import Training

        device = "cuda" if self.study.resources.gpu > 0 else "cpu"
        training = Training(
            candidate,
            self.task,
            full=ticket.full,
            seed=ticket.seed,
            device=device,
            assets=self._assets(candidate, ticket.seed),
        )
        checkpoint = Path(ticket.folder) / "checkpoint"
        if checkpoint.is_dir():
            training.load(checkpoint)
        self._training = training
        return training

    def _assets(self, candidate: Space, seed: int) -> dict[str, Any]:
        """Return the trained networks this candidate starts from, made on first demand."""
        needed = candidate.needs(self.task.shape)
        if not needed:
            return {}
        from nasx.assets import load_assets

        return load_assets(
            needed, self.study.assets, self.run_folder / "assets", self.task, seed=seed
        )


def wants_latency(study: Study) -> bool:
    """Return whether a study scores or limits latency."""
    return "latency_ms" in study.objectives or "latency_ms" in study.constraints


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """Write a learning curve as CSV."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)


def write_cost(path: Path, card: CostCard) -> None:
    """Write a cost card beside its trial."""
    write_json(path, card.to_json())
