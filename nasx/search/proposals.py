"""Proposals: what the sampler sees, and how its answer becomes a feasible, unseen candidate.

What the sampler sees is not the record. Optuna's GP learns nothing from pruned or failed trials,
so each proposal gets a fresh in-memory study (`sampler_view`) in which every trial scored at the
training rung stands as COMPLETE with its values there, refused candidates stand with the median
score and their constraint values, and running ones as RUNNING.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nasx.errors import NothingFeasible
from nasx.search.gate import SPACE, Gate, Priced
from nasx.search.view import View, distribution, sampler_view
from nasx.trial import Rejection

if TYPE_CHECKING:
    from nasx.domain import Domain
    from nasx.search.evaluate import Evaluator
    from nasx.space import Space
    from nasx.study import Study

MOST_DUPLICATES = 20  # in a row, before a random unseen candidate is drawn
MOST_REFUSALS = 300  # in a row, before the study is called infeasible
GP_TRIALS = 150  # the largest study the Gaussian process serves
PATIENCE = 10.0  # a trial must take this many times the model's thought, per slot
START = "start:"  # how the origin of what a study begins with opens
STARTUP = 10  # evenly spread candidates before a model is fitted


@dataclass(frozen=True)
class Proposal:
    """A feasible candidate not seen before, with its cost, and what was passed over for it.

    `full` is the samples of its training where these are not the study's.
    """

    space: str
    candidate: Space
    key: str
    params: dict[str, Any]
    priced: Priced
    origin: str
    rejections: tuple[Rejection, ...] = ()
    duplicates: int = 0
    seed: int = 0
    full: int | None = None


@dataclass
class Passed:
    """What one proposal passed over on its way."""

    rejections: list[Rejection] = field(default_factory=list)
    duplicates: int = 0
    in_a_row: int = 0


class Proposer:
    """Proposes candidates of one space."""

    def __init__(
        self,
        reference: str,
        space: type[Space],
        domains: Mapping[str, Domain],
        study: Study,
        evaluator: Evaluator,
        slots: int = 1,
    ) -> None:
        self.reference, self.space, self.study = reference, space, study
        self.shape = evaluator.shape
        self.domains = {name: d for name, d in domains.items() if d.size > 1}
        self.fixed = {name: d.default for name, d in domains.items() if d.size <= 1}
        self.cheap, self.slots = evaluator.cheap, slots
        self.thought = 0.5  # seconds the model took for its last proposal, at first a guess
        self.gate = Gate(study, evaluator)

    def start(self) -> Iterator[tuple[str, Space]]:
        """Yield the candidates a study begins with: its baseline and published points."""
        for name in self.study.search.start:
            if name == "baseline":
                yield f"{START}baseline", self.space.from_flat(self._defaults())
            for point in self.space.published:
                if point.name == name:
                    yield f"{START}{name}", self.space.from_json(point.candidate)

    def _defaults(self) -> dict[str, Any]:
        return {**self.fixed, **{name: d.default for name, d in self.domains.items()}}

    def propose(self, view: View) -> Proposal | None:
        """Return the next candidate, or None when every one was seen.

        Raises NothingFeasible when no candidate meets the constraints.
        """
        passed = Passed()
        for origin, candidate in self.start():
            if origin not in view.origins and candidate.key(self.shape) not in view.keys:
                found = self._admit(candidate, origin, view, passed)
                if found:
                    return found
        repeats: list[tuple[str, dict[str, Any]]] = []
        for attempt in range(MOST_DUPLICATES + MOST_REFUSALS):
            origin, params = self._draw(view, attempt, repeats, passed)
            candidate = self.space.from_flat({**self.fixed, **params})
            refused = len(passed.rejections)
            found = self._admit(candidate, origin, view, passed)
            if found:
                return found
            if len(passed.rejections) == refused:
                repeats.append((candidate.key(self.shape), params))
            if len(passed.rejections) >= MOST_REFUSALS and not view.trials:
                raise NothingFeasible(self._hopeless(passed.rejections))
        return self._leftover(view, passed)

    def _draw(
        self, view: View, attempt: int, seen: list[tuple[str, dict[str, Any]]], passed: Passed
    ) -> tuple[str, dict[str, Any]]:
        """Ask the sampler, or draw at random while it repeats itself."""
        rng = np.random.default_rng([self.study.search.seed, view.index, attempt])
        name = self.sampler_name(view)
        refused_now = passed.rejections
        if name == "random" or len(seen) >= MOST_DUPLICATES or len(refused_now) >= MOST_DUPLICATES:
            return "random", {n: d.sample(rng) for n, d in self.domains.items()}
        if len(view.scored()) < STARTUP:
            return "even", self._even(view.index + attempt * MOST_REFUSALS)
        lie = name == "gp"  # its batch criterion for running trials costs three times as much
        study = sampler_view(view, self.study, self.space, self.domains, seen, refused_now, lie)
        study.sampler = self._sampler(name, int(rng.integers(2**31)))
        started = time.monotonic()
        asked = study.ask({n: distribution(d) for n, d in self.domains.items()})
        if name == "gp":
            self.thought = time.monotonic() - started
        return name, dict(asked.params)

    def _even(self, index: int) -> dict[str, Any]:
        """Return a point of a Halton sequence shifted by the seed: no corner is left out."""
        shift = np.random.default_rng(self.study.search.seed).random(len(self.domains))
        bases = primes(len(self.domains))
        return {
            name: domain.at((radical_inverse(index + 1, base) + float(by)) % 1.0)
            for (name, domain), base, by in zip(self.domains.items(), bases, shift, strict=True)
        }

    def sampler_name(self, view: View) -> str:
        """Return the sampler that `auto` stands for now (docs/decisions/002-samplers.md)."""
        asked = self.study.search.sampler
        if asked != "auto":
            return asked
        if all(type(d).__name__ == "Choice" for d in self.domains.values()):
            return "tpe"  # every value is a neighbour of every other: no neighbourhood to walk
        if self.cheap or self.study.search.trials > GP_TRIALS:
            return "local"
        # A model that thinks longer than the workers work would starve them.
        affordable = view.seconds is None or view.seconds / self.slots > PATIENCE * self.thought
        return "gp" if affordable else "local"

    def _sampler(self, name: str, seed: int) -> Any:
        import optuna

        if name == "gp":
            import torch

            torch.set_num_threads(1)  # of this thread; two threads double its processor time
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0)
        from nasx.search.local import FrontSampler

        return FrontSampler(self.domains, seed, STARTUP)

    def _admit(self, candidate: Space, origin: str, view: View, passed: Passed) -> Proposal | None:
        """Return a proposal if the candidate is unseen and feasible, repaired where it can be."""
        key = candidate.key(self.shape)
        if key in view.keys:
            passed.duplicates += 1
            return None
        priced = self.gate.price(candidate)
        broken = self.gate.broken(priced)
        if broken:
            repaired = candidate.repair(self.shape, self.gate.upper_limits)
            if repaired is not None and self._open(repaired, view):
                again = self.gate.price(repaired)
                if not self.gate.broken(again):
                    key = repaired.key(self.shape)
                    return self._proposal(repaired, key, again, f"{origin}, repaired", passed)
            axis, limit, value = broken
            passed.rejections.append(
                Rejection(
                    space=self.reference,
                    candidate=candidate.values(),
                    key="" if axis == SPACE else key,  # a clamped net may have a legal twin
                    constraint=axis,
                    limit=limit,
                    value=value,
                    after=view.index,
                    values=priced.values,
                )
            )
            return None
        return self._proposal(candidate, key, priced, origin, passed)

    def _open(self, candidate: Space, view: View) -> bool:
        """Return whether a repaired candidate is unseen and lies in the study's domains."""
        flat = candidate.flat()
        inside = not any(d.fault(flat[name]) for name, d in self.domains.items())
        return inside and candidate.key(self.shape) not in view.keys

    def _proposal(
        self, candidate: Space, key: str, priced: Priced, origin: str, passed: Passed
    ) -> Proposal:
        flat = candidate.flat()
        return Proposal(
            space=self.reference,
            candidate=candidate,
            key=key,
            params={n: flat[n] for n, d in self.domains.items() if not d.fault(flat[n])},
            priced=priced,
            origin=origin,
            rejections=tuple(passed.rejections),
            duplicates=passed.duplicates,
            seed=self.study.search.seed,
        )

    def _leftover(self, view: View, passed: Passed) -> Proposal | None:
        """Walk a small space to its last unseen candidate; None when there is none."""
        size = float(np.prod([d.size for d in self.domains.values()]))
        if size > 100_000:
            return None
        frontier = [self.space.from_flat(self._defaults())]
        met = {repr(frontier[0].flat())}
        while frontier:
            candidate = frontier.pop()
            found = self._admit(candidate, "leftover", view, passed)
            if found:
                return found
            for near in candidate.neighbours(self.domains):
                spelled = repr(near.flat())
                if spelled not in met:
                    met.add(spelled)
                    frontier.append(near)
        return None

    def _hopeless(self, rejections: list[Rejection]) -> str:
        if all(r.constraint == SPACE for r in rejections):
            last = self.space.from_json(rejections[-1].candidate)
            return (
                f"{self.reference} itself refuses {len(rejections)} proposals of this study, "
                f"the last for: {last.refusal(self.shape)}; widen the domains"
            )
        rejections = [r for r in rejections if r.constraint != SPACE]
        near = {
            abs(r.value - (r.limit or 0.0)) / (abs(r.limit or 0.0) or 1.0): r
            for r in rejections
            if r.value is not None
        }
        if not near:
            unknown = rejections[-1].constraint
            return (
                f"{unknown} of no candidate of {self.reference} is known ({len(rejections)} "
                f"proposals refused); leave it out of the study, or widen the domains"
            )
        nearest = near[min(near)]
        bound = self.study.constraints.get(nearest.constraint, "")
        return (
            f"no candidate of {self.reference} meets the constraints: {len(rejections)} proposals "
            f"refused; the nearest has {nearest.constraint} = {nearest.value:g} where the study "
            f"wants {bound}; loosen it or widen the domains"
        )


def radical_inverse(index: int, base: int) -> float:
    """Return the digits of `index` in `base` mirrored behind the point (van der Corput)."""
    value, place = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * place
        place /= base
    return value


def primes(count: int) -> list[int]:
    """Return the first `count` primes."""
    found: list[int] = []
    number = 2
    while len(found) < count:
        if all(number % p for p in found):
            found.append(number)
        number += 1
    return found
