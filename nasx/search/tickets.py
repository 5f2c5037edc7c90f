"""From a proposal to a trial, and from a trial to a ticket: one segment for a worker."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from nasx.search.evaluate import Ticket
from nasx.trial import State, Trial

if TYPE_CHECKING:
    from nasx.search.proposals import Proposal
    from nasx.study import Study


def trial_for(proposal: Proposal) -> Trial:
    """Return the trial of a proposal, not numbered yet; its card without the layers."""
    card = proposal.priced.card
    return Trial(
        number=-1,
        space=proposal.space,
        candidate=proposal.candidate.in_effect(),
        key=proposal.key,
        state=State.RUNNING,
        seed=proposal.seed,
        card={} if card is None else {**card.to_json(), "by_layer": []},
        origin=proposal.origin,
        first_rung=proposal.priced.first_rung,
        full=proposal.full,
    )


def ticket_for(
    trial: Trial, rung: int, study: Study, folder: Path, known: dict[str, float] | None = None
) -> Ticket:
    """Return the ticket that takes a trial to a rung, with a fresh attempt token."""
    own = {} if trial.full is None else {"full": trial.full}
    budgets = study.fidelity.model_copy(update=own).budgets()
    return Ticket(
        number=trial.number,
        space=trial.space,
        candidate=trial.candidate,
        key=trial.key,
        seed=trial.seed,
        rung=rung,
        until=budgets[rung],
        full=budgets[-1],
        folder=str(folder.resolve()),
        attempt=uuid.uuid4().hex[:8],
        known=known_costs(trial) if known is None else known,
        minutes=study.search.trial_minutes,
        spent=trial.seconds,
        memory=memory_bytes(study.resources.memory),
    )


def known_costs(trial: Trial) -> dict[str, float]:
    """Return what was known of a trial before its next segment: costs and earlier latency."""
    from nasx.axes import AXES
    from nasx.cost.card import CostCard

    known = {}
    if trial.card:
        card = CostCard.from_json(trial.card)
        for name, axis in AXES.items():
            value = card.axis(name) if axis.kind == "static" else None
            if value is not None:
                known[name] = value
    if "latency_ms" in trial.values:
        known["latency_ms"] = trial.values["latency_ms"]
    return known


def memory_bytes(asked: int | str | None) -> int | None:
    """Return bytes from 2147483648, "2 GiB" or "2GB"."""
    if asked is None or isinstance(asked, int):
        return asked
    units = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
    text = asked.strip().upper()
    for unit, size in units.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    return int(text)
