"""A claim's trials for the ordinary engine: a list where a search has a sampler."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from nasx.claims.model import Claim
from nasx.claims.plan import Planned, altered
from nasx.search.evaluate import Evaluator, Ticket
from nasx.search.proposals import Proposal, Proposer
from nasx.search.trained import Trained
from nasx.search.view import View
from nasx.space import Space
from nasx.study import Study
from nasx.trial import Trial

Listing = list[tuple[Planned, int]]


def listing(planned: Sequence[Planned], seeds: Sequence[int]) -> Listing:
    """Return every network with every seed, a seed's after the other; equal ones once.

    Two arms that are one network share its trials (and the verdict says so).
    """
    found: dict[tuple[str, int], tuple[Planned, int]] = {}
    for seed in seeds:
        for one in planned:
            found.setdefault((one.key, seed), (one, seed))
    return list(found.values())


class Listed(Proposer):
    """Proposes what a claim lists and the record lacks, in order."""

    def __init__(
        self,
        claim: Claim,
        space: type[Space],
        listing: Listing,
        study: Study,
        evaluator: Evaluator,
        done: Iterable[Trial],
    ) -> None:
        super().__init__(claim.space, space, {}, study, evaluator)
        begun = {(t.key, t.seed) for t in done}
        self.waiting = [(p, seed) for p, seed in listing if (p.key, seed) not in begun]

    def propose(self, view: View) -> Proposal | None:
        """Return the next of the list, whatever the others scored; None at its end."""
        if not self.waiting:
            return None
        planned, seed = self.waiting.pop(0)
        return Proposal(
            space=self.reference,
            candidate=planned.candidate,
            key=planned.key,
            params={},
            priced=self.gate.price(planned.candidate),
            origin=f"arm:{planned.arm}/{planned.condition}",
            seed=seed,
            full=planned.samples,
        )


class Armed(Trained):
    """Trains the arms of a claim: each with its recipe's changes, scored on the claim's split."""

    def __init__(
        self, study: Study, run: Path, base: Path, split: Literal["valid", "test"]
    ) -> None:
        super().__init__(study, run, base)
        self.split = split
        self.arms: Mapping[str, Planned] = {}

    def into(self, study: Study, run: Path, planned: Iterable[Planned]) -> Armed:
        """Return this evaluator, its data included, for a run of these networks."""
        made = copy.copy(self)
        made.study, made.run_folder = study, run
        made.arms = {p.key: p for p in planned}
        return made

    def candidate(self, ticket: Ticket) -> Space:
        """Return the ticket's candidate with its arm's recipe and budget."""
        arm = self.arms[ticket.key]
        return altered(super().candidate(ticket), arm.changes, arm.samples)
