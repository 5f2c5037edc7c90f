"""Training: runs a candidate's recipe by samples seen, scores it, can be killed and resumed.

    training = Training(candidate, task, full=12000, seed=0)
    for samples in training.run(4000):
        ...
    training.score("valid")
    training.save(folder)

Batches depend on (seed, epoch) alone and every other random number on generators that checkpoints
hold, so on a CPU a resumed training equals the uninterrupted one bit for bit.

While a measurement needs the device alone (`nasx.cost.lease`), a training rests between two steps.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from nasx import checkpoint
from nasx.boundstep import BoundStep, NotFinite
from nasx.cost.lease import Presence, devices_of
from nasx.curve import Curve
from nasx.errors import NasxError
from nasx.order import Order
from nasx.randomness import OwnRandomness, derive, seeded
from nasx.readback import deployed_network, load_deployed, load_trained
from nasx.recalibrate import OnDevice, moved, recalibrate
from nasx.recipe import Cycle, Hook, Phase, State
from nasx.space import Space
from nasx.tasks.base import Batch, Split, Task, demand_view
from nasx.weights import misfit

__all__ = ["NotFinite", "Training", "deployed_network", "load_deployed", "load_trained"]


class Training:
    """Train one candidate on one task with one seed, up to exactly `full` samples.

    Phases end exactly at their share of `full`: the last two batches of a phase split what is
    left. A phase with samples begins at its first batch; with its last batch it ends, and the
    events after it run. Raises NasxError where the recipe cannot be run.
    """

    def __init__(
        self,
        candidate: Space,
        task: Task,
        *,
        full: int,
        seed: int,
        device: str = "cpu",
        assets: Mapping[str, nn.Module] = {},
    ) -> None:
        self.candidate, self.task, self.full, self.seed = candidate, task, full, seed
        self.device = torch.device(device)
        self.recipe = candidate.recipe(task.shape)
        for phase in self.recipe.phases:
            demand_view(task, phase.view)
        self.input = candidate.input_shape(task.shape)
        self.key = candidate.key(task.shape)
        self.samples = 0
        self.phase = 0
        self.begun = False  # whether this phase's begin hook has run
        self.batches = 0  # seen in this phase
        self.order = Order(task, self.input, seed, self.recipe.augment)
        self.random = OwnRandomness(derive(seed, "training"), self.device)
        self.steps: list[BoundStep] = []
        self.losses = Curve(full)
        self.presence = Presence(devices_of(self.device))
        self._ends = self._phase_ends()
        self._deployed: nn.Module | None = None
        self._nothing = Batch(torch.empty(0, *self.input, device=self.device))
        with self.random:
            self.state = State(
                model=self.placed(candidate.build(task.shape)),
                task=task,
                input=self.input,
                batch=self._nothing,
                generator=torch.Generator(self.device).manual_seed(derive(seed, "steps")),
                assets={name: self.placed(asset).eval() for name, asset in assets.items()},
            )
            self.make_companions()

    @property
    def model(self) -> nn.Module:
        """Return the network in training."""
        return self.state.model

    @property
    def curve(self) -> list[dict[str, float]]:
        """Return the rows of curve.csv: samples, loss, lr, notes."""
        return self.losses.rows

    # -- running ----------------------------------------------------------------------------

    def run(self, until: int) -> Iterator[int]:
        """Train until `until` samples were seen (at most `full`); yield that number per batch.

        It is yielded while the training rests, too, so that a caller can end it then. Raises
        NotFinite, naming phase, step and samples, before a bad loss reaches a weight.
        """
        until = min(until, self.full)
        try:
            while self.samples < until:
                if self.presence.may_go():
                    with self.random:
                        self._settle()
                        if not self.begun:
                            self._begin()
                        self._train_batch()
                        self._settle()
                yield self.samples
        finally:
            self.presence.leave()

    def _settle(self) -> None:
        """End the phase whose samples are used up, and run the events that follow."""
        while self.phase < len(self._ends):
            start, end = self._span()
            if not self.begun:
                if start < end:
                    return  # it begins with its first batch
                self._begin()
            if self.samples < end:
                return
            self._call(self._phase.end, 1.0)
            self.phase, self.begun, self.batches = self.phase + 1, False, 0
            self.steps, self.losses.sums = [], {}

    def _begin(self) -> None:
        self.state.model.train()
        self._call(self._phase.begin, 0.0)
        self.begun = True
        self.bind_steps()

    def _call(self, hook: Hook | None, phase_progress: float) -> None:
        """Run a hook, take over the network it returns, and hold it to `rebuild`."""
        if hook is None:
            return
        state = self.state
        state.batch = self._nothing
        state.progress, state.phase_progress = self.samples / self.full, phase_progress
        returned = hook(state)
        state.model = self.placed(state.model if returned is None else returned)
        self._deployed = None
        state.decisions = checkpoint.plain(state.decisions)  # as a resumed training would read them
        with seeded(0, self.device):
            rebuilt = self.candidate.rebuild(self.task.shape, state.decisions).state_dict()
        faults = misfit(state.model.state_dict(), rebuilt)
        if faults:
            raise NasxError(
                f"{self._where()}: rebuild(shape, decisions) does not give the network that the "
                f"hook left ({faults}); note structural choices in state.decisions"
            )

    def _train_batch(self) -> None:
        state, (start, end) = self.state, self._span()
        batch = self.order.next(self._phase.view, self._size(end - self.samples))
        state.batch = moved(batch, self.device)
        state.progress = self.samples / self.full
        state.phase_progress = (self.samples - start) / (end - start)
        self._deployed = None
        due = self._due()
        try:
            losses = {step.number: step.update(state) for step in due}
        except NotFinite as error:
            raise NotFinite(
                f"{self._where()}: {error}; lower its learning rate or clip its gradient"
            ) from error
        before, self.samples = self.samples, min(self.samples + len(batch.inputs), end)
        self.batches += 1
        rate = due[-1].rate if due else 0.0
        self.losses.add(before, self.samples, losses, rate, state.notes)

    # -- what is scored ---------------------------------------------------------------------

    def deployed(self) -> nn.Module:
        """Return the network that would be deployed: decided, recalibrated, in eval mode.

        A copy: the network in training stays as it is. Raises NotFinite for a bad weight.
        """
        if self._deployed is None:
            with seeded(derive(self.seed, "deploy"), self.device):
                decided = self.candidate.decide(copy.deepcopy(self.model))
                self._deployed = self.recalibrated(decided)
        return copy.deepcopy(self._deployed)

    def recalibrated(self, model: nn.Module) -> nn.Module:
        """Return `model` placed, in eval mode, with the statistics of unaugmented samples."""
        model = self.placed(model)
        recalibrate(
            model, self.task, self.input, self.recipe.batch, derive(self.seed, "statistics")
        )
        for name, value in model.named_parameters():
            if not torch.isfinite(value).all():
                raise NotFinite(f"{self.candidate.name} {self.key}: '{name}' is not finite")
        return model

    def score(self, split: Split = "valid") -> dict[str, float]:
        """Return the task's scores of the deployed network on a split."""
        while not self.presence.may_go():
            pass  # it rests
        try:
            model: nn.Module = self.deployed()
            if self.device.type != "cpu":
                model = OnDevice(model, self.device)
            return self.task.score(model, split, self.input)
        finally:
            self.presence.leave()

    # -- keeping ----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Replace `folder` by a checkpoint of this moment; a full disk is an OSError."""
        checkpoint.save(self, folder)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint; NasxError if it belongs to another key, seed or `full`."""
        checkpoint.load(self, folder)
        self._deployed = None

    # -- parts ------------------------------------------------------------------------------

    def make_companions(self) -> None:
        """Make the networks used in training only, as the decisions taken so far have them."""
        made = self.recipe.companions(self.state) if self.recipe.companions else {}
        self.state.companions = {name: self.placed(network) for name, network in made.items()}

    def bind_steps(self) -> None:
        """Bind the steps of the current phase, with new optimizers, to the current network."""
        steps, (start, end) = self._phase.steps, self._span()
        every = (*steps.first, *steps.second) if isinstance(steps, Cycle) else steps
        if start == end:
            every = ()  # an event, or a share of less than one sample
        try:
            self.steps = [BoundStep(number, step, self.state) for number, step in enumerate(every)]
        except ValueError as error:
            raise NasxError(f"{self._where()}: {error}") from error

    def _due(self) -> list[BoundStep]:
        """Return the steps of this batch."""
        steps = self._phase.steps
        if not isinstance(steps, Cycle):
            return self.steps
        half = len(steps.first)
        return self.steps[half:] if self.batches // steps.times % 2 else self.steps[:half]

    def placed(self, network: nn.Module) -> nn.Module:
        """Return a network on this training's device, in the memory format of its inputs."""
        network = network.to(self.device)
        if len(self.input) == 3:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    @property
    def _phase(self) -> Phase:
        return self.recipe.phases[self.phase]

    def _phase_ends(self) -> list[int]:
        """Return the samples seen at the end of every phase."""
        shares = [phase.share for phase in self.recipe.phases]
        if min(shares, default=-1) < 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            name = self.candidate.name
            raise NasxError(f"the shares of the phases of {name}, {shares}, must add up to 1")
        return [round(sum(shares[: i + 1]) * self.full) for i in range(len(shares))]

    def _span(self) -> tuple[int, int]:
        """Return the samples seen at the begin and the end of the current phase."""
        return (self._ends[self.phase - 1] if self.phase else 0), self._ends[self.phase]

    def _size(self, left: int) -> int:
        """Return the size of the next batch with `left` samples to go in the phase."""
        size = min(self.recipe.batch, self.task.size("train"))
        if left >= 2 * size or left == size:
            return size
        return left if left < size else (left + 1) // 2

    def _where(self) -> str:
        name, phase = self.candidate.name, self._phase.name
        return f"{name} {self.key}, phase '{phase}', {self.samples} samples seen"
