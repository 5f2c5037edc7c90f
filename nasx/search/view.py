"""What a proposal may look at, and the in-memory study a sampler gets to see."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nasx.axes import AXES
from nasx.domain import Choice, Domain, Integer, Real
from nasx.trial import Rejection, State, Trial

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

    from nasx.space import Space
    from nasx.study import Study

RECENT = 40  # refused candidates a sampler is told of
LAG = 8  # under `order: strict` proposal n sees the first-rung scores of trials up to n - LAG


@dataclass(frozen=True)
class Drawn:
    """A proposal that is drawn and not yet committed."""

    space: str
    key: str
    candidate: dict[str, Any]
    origin: str


@dataclass(frozen=True)
class View:
    """The trials and refusals a proposal may look at, and the proposals drawn before it."""

    trials: tuple[Trial, ...]
    rejections: tuple[Rejection, ...]
    drawn: tuple[Drawn, ...] = ()

    def of(self, space: str) -> View:
        """Return the view of one space's own trials."""
        return View(
            tuple(t for t in self.trials if t.space == space),
            tuple(r for r in self.rejections if r.space == space),
            tuple(d for d in self.drawn if d.space == space),
        )

    @property
    def index(self) -> int:
        """Return how many proposals were made before this one."""
        return len(self.trials) + len(self.drawn)

    @cached_property
    def keys(self) -> frozenset[str]:
        """Return the keys of every candidate seen."""
        known = [t.key for t in self.trials] + [r.key for r in self.rejections]
        return frozenset(known + [d.key for d in self.drawn])

    @cached_property
    def origins(self) -> frozenset[str]:
        """Return how the candidates so far were proposed, refused ones too."""
        named = [t.origin.removesuffix(", repaired") for t in self.trials]
        return frozenset(named + [d.origin.removesuffix(", repaired") for d in self.drawn])

    @property
    def seconds(self) -> float | None:
        """Return the median seconds of a scored trial, or None while none is."""
        times = [t.seconds for t in self.trials if t.rungs and t.seconds > 0]
        return float(np.median(times)) if len(times) >= 3 else None

    def scored(self) -> list[Trial]:
        """Return the trials with a score."""
        return [t for t in self.trials if t.rungs]


def strict_view(view: View, objectives: Mapping[str, str]) -> View:
    """Return what a proposal sees under `order: strict`: nothing that depends on timing."""
    kept = []
    for trial in view.trials:
        old = trial.number <= view.index - LAG
        first = tuple(r for r in trial.rungs if r.rung == 0) if old else ()
        still = tuple(
            replace(r, values={k: v for k, v in r.values.items() if AXES[k].kind != "measured"})
            for r in first
        )
        kept.append(replace(trial, rungs=still, seconds=0.0))
    return replace(view, trials=tuple(kept))


def strict_ready(view: View) -> bool:
    """Return whether every score that a strict proposal must see is in."""
    return all(
        t.rungs or t.state is State.FAILED for t in view.trials if t.number <= view.index - LAG
    )


def distribution(domain: Domain) -> BaseDistribution:
    """Return a domain in Optuna's terms."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(domain, Integer):
        top = domain.lo + (domain.hi - domain.lo) // domain.step * domain.step
        return IntDistribution(domain.lo, top, step=domain.step)
    if isinstance(domain, Real):
        return FloatDistribution(domain.lo, domain.hi, log=domain.log)
    assert isinstance(domain, Choice)
    return CategoricalDistribution(domain.values)


def training_rung(trials: Sequence[Trial], fields: int) -> int:
    """Return the highest rung with at least max(10, 2 x fields) scores, else the lowest."""
    counts: dict[int, int] = {}
    for trial in trials:
        for score in trial.rungs:
            counts[score.rung] = counts.get(score.rung, 0) + 1
    enough = [rung for rung, n in counts.items() if n >= max(10, 2 * fields)]
    return max(enough, default=min(counts, default=0))


def sampler_view(
    view: View,
    study: Study,
    space: type[Space],
    domains: Mapping[str, Domain],
    seen: Sequence[tuple[str, Mapping[str, Any]]] = (),
    refused: Sequence[Rejection] = (),
    lie: bool = False,
) -> optuna.study.Study:
    """Build the in-memory study that a sampler learns from.

    Costs are given as logarithms (dominance is the same, the model fits better). `seen` are
    the duplicate proposals of this very draw (key, values), `refused` its refusals. With `lie`
    running trials stand as COMPLETE with the median (a constant lie) instead of as RUNNING.
    """
    import optuna

    told = {n: distribution(d) for n, d in domains.items()}
    names = [a for a in study.objectives if _visible(a, view)]
    memory = optuna.create_study(directions=[study.objectives[a] for a in names])
    rung = training_rung(view.trials, len(domains))
    scores = {t.number: r.values for t in view.trials for r in t.rungs if r.rung == rung}
    rows: list[Any] = []

    def row(candidate: Mapping[str, Any], **more: Any) -> None:
        flat = space.from_json(candidate).flat()
        params = {n: flat[n] for n in told if not domains[n].fault(flat[n])}
        if len(params) == len(told):
            rows.append(optuna.trial.create_trial(params=params, distributions=dict(told), **more))

    state = optuna.trial.TrialState
    # A model of the constraints wants every row to carry the same ones, in the same order.
    limits = {a: limit for a, limit in study.limits().items() if _visible(a, view)}
    median = {
        a: float(np.median([v[a] for v in scores.values()])) for a in {*names, *limits} if scores
    }
    running: dict[str, Any] = {"state": state.RUNNING}
    if lie and median:
        running = {
            "state": state.COMPLETE,
            "values": [_scale(a, median[a]) for a in names],
            "constraints": _excesses(limits, median) or None,
        }
    for trial in view.trials:
        if trial.number in scores and all(a in scores[trial.number] for a in names):
            values = scores[trial.number]
            row(
                trial.candidate,
                state=state.COMPLETE,
                values=[_scale(a, values[a]) for a in names],
                constraints=_excesses(limits, values) or None,
            )
        elif trial.state in (State.RUNNING, State.INTERRUPTED) and not trial.rungs:
            row(trial.candidate, **running)
    for proposal in view.drawn:
        row(proposal.candidate, **running)
    if rows and scores:
        for refusal in [*view.rejections, *refused][-RECENT:]:
            known = {**median, **refusal.values}
            excess = _excesses(limits, known)
            if refusal.constraint in excess:
                excess[refusal.constraint] = _excess(refusal)
            row(
                refusal.candidate,
                state=state.COMPLETE,
                values=[_scale(a, known[a]) for a in names],
                constraints=excess or None,
            )
        stored = {t.key: scores[t.number] for t in view.trials if t.number in scores}
        rows.extend(  # a network already known, spelled anew: its stored result stands for it
            optuna.trial.create_trial(
                state=state.COMPLETE,
                params=dict(params),
                distributions=dict(told),
                values=[_scale(a, stored.get(key, median)[a]) for a in names],
                constraints=_excesses(limits, stored.get(key, median)) or None,
            )
            for key, params in seen
        )
    memory.add_trials(rows)
    return memory


def _visible(axis: str, view: View) -> bool:
    """Return whether every score carries an axis (measured ones are hidden by strict order)."""
    return all(axis in r.values for t in view.trials for r in t.rungs)


def _scale(axis: str, value: float) -> float:
    return math.log(value) if AXES[axis].kind != "score" and value > 0 else value


def _excess(refusal: Rejection) -> float:
    """Return how far a refused candidate is past its limit; an unknown cost counts as twice it."""
    limit = refusal.limit or 0.0
    return abs(limit) or 1.0 if refusal.value is None else abs(refusal.value - limit)


def _excesses(
    limits: Mapping[str, tuple[str, float]], values: Mapping[str, float]
) -> dict[str, float]:
    return {
        axis: (values[axis] - limit if operator == "<=" else limit - values[axis])
        for axis, (operator, limit) in limits.items()
    }
