"""What a study would take, before it is run: size, feasible share, duplicates, time.

Candidates are drawn and priced, three are trained for a few timed steps and thrown away.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasx import registry
from nasx.errors import NasxError, NothingFeasible
from nasx.search.gate import Gate
from nasx.search.trained import Trained
from nasx.space import Space
from nasx.study import Study

DRAWN = 200  # candidates of each space
PRICED_FOR = 8.0  # seconds of pricing, all spaces together
STEPS = 20  # timed training steps of each of three candidates
WARM = 3  # steps before the timed ones
STATISTICS = 2048  # training samples that each score recalibrates on, at most


@dataclass(frozen=True)
class SpacePlan:
    """One space of a study: `size` is None where a real field makes it endless."""

    space: str
    size: float | None
    drawn: int
    priced: int
    duplicates: float  # share of the drawn that are a network drawn before
    feasible: float  # share of the priced that keep the static constraints
    refused: dict[str, int]  # by constraint
    macs: tuple[int, int, int]  # least, median and most of the feasible


@dataclass(frozen=True)
class Plan:
    """The estimate for a whole study; seconds are this machine's."""

    study: str
    spaces: list[SpacePlan]
    trials: int
    rungs: tuple[int, ...]
    samples_per_trial: float  # mean, with the share 1 / factor promoted at each rung
    seconds_per_trial: float
    slots: int
    seconds: float  # the whole search on these slots
    limit_hours: float | None
    timed: list[dict[str, float]] = field(default_factory=list)  # macs and seconds a sample
    again: int = 0  # trainings of each front member after the search: replicates, controls
    seconds_again: float = 0.0  # of one of them

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Return the plan as a few lines."""
        lines = [f"{self.study}: {self.trials} trials, rungs at {_list(self.rungs)} samples"]
        for s in self.spaces:
            size = "endless (real fields)" if s.size is None else f"{s.size:,.0f} candidates"
            refused = ", ".join(f"{name} {n}" for name, n in s.refused.items())
            lines += [
                f"  space {s.space}: {size}; {s.duplicates:.0%} of {s.drawn} drawn are duplicates",
                f"  feasible: {s.feasible:.0%} of {s.priced} priced"
                + (f" (refused by {refused})" if refused else ""),
                f"  MACs of the feasible: {_list(s.macs)} (least, median, most)",
            ]
        lines += [
            f"  a trial: {self.samples_per_trial:,.0f} samples, {_time(self.seconds_per_trial)}"
            " of training and scoring on average",
            f"  the search: about {_time(self.seconds)} on {self.slots} "
            f"slot{'s' if self.slots > 1 else ''} of this machine",
        ]
        if self.again:
            more = f"{self.again} more full training{'s' if self.again > 1 else ''}"
            lines.append(
                f"  then, not in this time: {more} of each front member (final.seeds, "
                f"final.controls), about {_time(self.seconds_again)} each"
            )
        if self.limit_hours is not None and self.seconds > 3600 * self.limit_hours:
            lines.append(f"  search.hours = {self.limit_hours:g} will end it earlier")
        return "\n".join(lines)


def plan(
    study: Study, *, drawn: int = DRAWN, seconds: float = PRICED_FOR, steps: int = STEPS
) -> Plan:
    """Return the estimate for a study; a study with nothing feasible raises NothingFeasible.

    Of each space `drawn` candidates are drawn and priced for at most `seconds` in all; three are
    trained for `steps` timed steps.
    """
    trained = Trained(study, Path("runs") / study.name, Path.cwd())
    found, feasible = [], []
    for reference in study.spaces:
        one, members = _survey(study, trained, reference, drawn, seconds / len(study.spaces))
        found.append(one)
        feasible += members
    if not feasible:
        told = "; ".join(f"{s.space}: {s.priced} priced, refused by {s.refused}" for s in found)
        raise NothingFeasible(f"{study.name}: no drawn candidate is feasible ({told}): relax one")
    feasible.sort(key=lambda m: m[1])
    three = [feasible[0], feasible[len(feasible) // 2], feasible[-1]]
    timed = _timed(study, trained, three, steps)
    speed = statistics.fmean(_seconds(timed, macs) for _, macs in feasible)
    budgets, factor = study.fidelity.budgets(), study.fidelity.factor
    samples, scored = 0.0, 0.0
    for rung, budget in enumerate(budgets):
        share = factor**-rung
        samples += share * (budget - (budgets[rung - 1] if rung else 0))
        scored += share * (trained.task.size("valid") + min(STATISTICS, trained.task.size("train")))
    per_trial = speed * (samples + scored / 3)  # a forward pass is about a third of a step
    slots = count_slots(study)
    return Plan(
        study=study.name,
        spaces=found,
        trials=study.search.trials,
        rungs=budgets,
        samples_per_trial=samples,
        seconds_per_trial=per_trial,
        slots=slots,
        seconds=per_trial * study.search.trials / slots,
        limit_hours=study.search.hours,
        timed=timed,
        again=study.final.again(),
        seconds_again=speed * (budgets[-1] + trained.task.size("valid") / 3),
    )


def count_slots(study: Study) -> int:
    """Return how many trials this machine runs at once."""
    if study.resources.executor == "inline":
        return 1
    slots = int(len(os.sched_getaffinity(0)) // study.resources.cpu)
    if study.resources.gpu > 0:
        slots = min(slots, int(torch.cuda.device_count() // study.resources.gpu))
    if slots < 1:
        raise NasxError(
            f"{study.name}: a trial asks for {study.resources.cpu:g} CPU and "
            f"{study.resources.gpu:g} GPU, more than this machine has: lower resources"
        )
    return slots


def _survey(
    study: Study, trained: Trained, reference: str, count: int, seconds: float
) -> tuple[SpacePlan, list[tuple[Space, int]]]:
    """Draw and price candidates of one space; return the feasible ones with their MACs."""
    cls = registry.space(reference)
    domains = registry.study_domains(study, cls)
    shape = trained.task.shape
    static = {k: v for k, v in study.constraints.items() if k != "latency_ms"}
    gate = Gate(study.model_copy(update={"constraints": static}), trained)
    rng = np.random.default_rng(study.search.seed)
    drawn: dict[str, Space] = {}
    for _ in range(count):
        candidate = cls.from_flat({name: d.sample(rng) for name, d in domains.items()})
        drawn.setdefault(candidate.key(shape), candidate)
    refused: dict[str, int] = {}
    feasible: list[tuple[Space, int]] = []
    start, priced = time.monotonic(), 0
    for candidate in drawn.values():
        if time.monotonic() - start > seconds and priced >= 3:
            break
        priced += 1
        price = gate.price(candidate)
        broken = gate.broken(price)
        if broken and (repaired := candidate.repair(shape, gate.upper_limits)) is not None:
            candidate, price = repaired, gate.price(repaired)  # as the search does
            broken = gate.broken(price)
        if price.fault:
            said = price.fault.partition(":")[0]
            broken = (said if said == "latency" else "build", 0, 0)
        if broken:
            refused[broken[0]] = refused.get(broken[0], 0) + 1
        elif price.card is not None:
            feasible.append((candidate, price.card.macs_max))
    size = math.prod(d.size for d in domains.values())
    macs = sorted(m for _, m in feasible) or [0]
    one = SpacePlan(
        space=cls.name,
        size=size if math.isfinite(size) else None,
        drawn=count,
        priced=priced,
        duplicates=1 - len(drawn) / count,
        feasible=len(feasible) / priced,
        refused=refused,
        macs=(macs[0], macs[len(macs) // 2], macs[-1]),
    )
    return one, feasible


def _timed(
    study: Study, trained: Trained, members: list[tuple[Space, int]], steps: int
) -> list[dict[str, float]]:
    """Train candidates for a few steps, one thread per CPU of a slot, and throw them away."""
    from nasx.training import Training

    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(study.resources.cpu)))
    device = "cuda" if study.resources.gpu > 0 else "cpu"
    rows = []
    try:
        for candidate, macs in {id(c): (c, m) for c, m in members}.values():
            # What it starts from takes no part in how long a step takes: an untrained one will do.
            needs = candidate.needs(trained.task.shape).items()
            stand_ins = {name: asset.candidate.build(trained.task.shape) for name, asset in needs}
            training = Training(
                candidate, trained.task, full=study.fidelity.full, seed=0, device=device,
                assets=stand_ins,
            )  # fmt: skip
            start, since = 0.0, 0  # moments of work: pauses do not count
            for step, samples in enumerate(training.run(study.fidelity.full)):
                if step < WARM:
                    start, since = time.perf_counter() - training.presence.paused, samples
                if step >= WARM + steps - 1:
                    break
            spent = time.perf_counter() - training.presence.paused - start
            rows.append({"macs": float(macs), "seconds": spent / max(1, training.samples - since)})
    finally:
        torch.set_num_threads(threads)
    return rows


def _seconds(timed: list[dict[str, float]], macs: int) -> float:
    """Return the seconds a sample of a network takes, between the timed ones by their MACs."""
    x, y = [row["macs"] for row in timed], [row["seconds"] for row in timed]
    return float(np.interp(macs, x, y))


def _time(seconds: float) -> str:
    return (
        f"{seconds:.2g} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
    )


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(f"{n:,}" for n in numbers)
