"""The engine: what to run next, and what its result means; executors only carry tickets.

`next` gives the next ticket: first what a kill or a dead worker left, then promotions (highest rung
first), then a new candidate. `done` takes an outcome back, tells the record, then shows it. Nothing
here knows Ray; nothing here trains.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nasx.errors import NasxError
from nasx.files import demand_space, write_json
from nasx.record import Record
from nasx.search.ahead import Ahead
from nasx.search.evaluate import Outcome, Ticket, remembered
from nasx.search.proposals import START, Proposal, Proposer
from nasx.search.replicates import Repeats
from nasx.search.rungs import Rungs
from nasx.search.showing import Showing
from nasx.search.tickets import ticket_for, trial_for
from nasx.search.view import Drawn, View, distribution, strict_ready, strict_view
from nasx.trial import RungScore, State, Trial

MOST_DEATHS = 3  # workers a trial may take with it before it counts as failed


class Engine:
    """The search loop's state for one invocation, over one record."""

    def __init__(
        self,
        record: Record,
        proposers: Sequence[Proposer],
        repeats: Repeats,
        *,
        slots: int,
        showing: Showing,
        beside: bool = True,
    ) -> None:
        self.record, self.study = record, record.study
        self.proposers, self.slots, self.showing = list(proposers), slots, showing
        self.repeats = repeats
        self.live: dict[int, Ticket] = {}
        self.queue: list[int] = []
        self.stopping = False
        self.exhausted = False
        self.trouble: NasxError | None = None
        budgets = self.study.fidelity.budgets()
        self.rungs = Rungs(budgets, self.study.fidelity.factor, self.study.objectives)
        self.budgets = budgets
        self._deaths: dict[int, int] = {}
        hours = self.study.search.hours
        self.deadline = None if hours is None else time.monotonic() + hours * 3600
        depth = 1 if self.study.search.order == "strict" else max(1, min(slots, 4))
        self.ahead = Ahead(self._propose, self._look, depth, beside=beside)
        self._recover()

    # -- what was left by an earlier driver --------------------------------------------------

    def _recover(self) -> None:
        """Tell what finished untold, queue what did not, and fill the rungs."""
        for trial in self.record.trials:
            for score in trial.rungs if trial.searched else ():
                self.rungs.add(score.rung, trial.number, score.values)
            if trial.origin.startswith(START):
                self.rungs.keep(trial.number)
            self.record.settle(trial.number)
            if trial.number not in self.record.unfinished:
                if trial.state is not State.COMPLETE:
                    self.rungs.drop(trial.number)
                continue
            for outcome in remembered(self._folder(trial.number), trial.key):
                if outcome.rung not in {r.rung for r in trial.rungs}:
                    self._tell(outcome)
            fault = self.repeats.fault(trial)  # a kill may have come before it was told
            if fault is not None and trial.number in self.record.unfinished:
                self.record.fail(trial.number, fault)
            waiting = self.record.progress(trial.number).phase == "paused"
            if trial.number in self.record.unfinished and not waiting:
                self.queue.append(trial.number)

    def _folder(self, number: int) -> Path:
        return self.record.path / "trials" / f"t{number:04d}"

    # -- tickets out ---------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Return how many new trials may still begin."""
        begun = sum(t.searched for t in self.record.trials)
        return 0 if self.exhausted else max(0, self.study.search.trials - begun)

    @property
    def finished(self) -> bool:
        """Return whether nothing runs and nothing is left to run."""
        if self.live:
            return False
        if self.stopping or self.trouble is not None or self._late():
            return True
        waiting = self.left or self.queue or self.rungs.next()
        return not (waiting or self.repeats.next())

    def next(self, wait: bool = True) -> Ticket | None:
        """Return the next ticket, or None where there is none now (see `finished`)."""
        if self.stopping or self.trouble is not None or self._late():
            return None
        with self._ours():
            demand_space(self.record.path)
            return self._next(wait)
        return None

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        """Work on the record while it is ours; what forbids it becomes the search's trouble.

        Nothing is lost by that: results are on disk, and the next start takes up open rows.
        """
        try:
            self.record.store.demand_tenure()
            yield
        except NasxError as error:
            self.trouble = self.trouble or error

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _next(self, wait: bool) -> Ticket | None:
        if self.queue:
            number = self.queue.pop(0)
            trial = self.record.trial(number)
            rung = trial.rungs[-1].rung + 1 if trial.rungs else trial.first_rung
            return self._dispatch(number, rung)
        promotion = self.rungs.next()
        if promotion:
            number, rung = promotion
            self.rungs.promoted(rung - 1, number)
            return self._dispatch(number, rung)
        while self.left:
            strict = self.study.search.order == "strict"
            if strict and not strict_ready(self._view(())):
                return None
            self.ahead.fill(self.left)
            ready, proposal = self.ahead.take(wait or not self.live)
            if not ready:
                return None
            if proposal is None:
                self.exhausted = True
                return None
            taken = {(t.key, t.seed) for t in self.record.trials if t.searched}
            if (proposal.key, proposal.seed) in taken:
                self.record.count_duplicates(1)  # another draw beat this one to it
                continue
            ticket = self._begin(proposal)
            if not strict:
                self.ahead.fill(self.left)  # only now: the next draw must see this one
            if ticket is not None:
                return ticket
        if any(self.record.trial(n).searched for n in self.live):
            return None  # the front may still change
        return self._again()

    def _again(self) -> Ticket | None:
        """Commit what is trained again after the search, up to the first that can be trained."""
        while (found := self.repeats.next()) is not None:
            trial = self.repeats.commit(found)
            if found.fault is None:
                return self._dispatch(trial.number, trial.first_rung, found.known)
            self.showing.trial(self.record.fail(trial.number, found.fault))
        return None

    def _begin(self, proposal: Proposal) -> Ticket | None:
        """Commit a proposal as a row, then make its first ticket; None where it failed already."""
        for rejection in proposal.rejections:
            self.record.reject(rejection)
        self.record.count_duplicates(proposal.duplicates)
        priced, card = proposal.priced, proposal.priced.card
        proposer = next(p for p in self.proposers if p.reference == proposal.space)
        prefix = f"{proposer.space.name}." if len(self.proposers) > 1 else ""
        told = {n: distribution(proposer.domains[n]) for n in proposal.params}
        trial = self.record.add(
            trial_for(proposal),
            {prefix + n: v for n, v in proposal.params.items()},
            {prefix + n: d for n, d in told.items()},
            priced.values,
        )
        folder = self._folder(trial.number)
        folder.mkdir(parents=True, exist_ok=True)
        if card is not None:
            write_json(folder / "cost.json", card.to_json(), durable=False)  # can be counted again
        if priced.fault is not None:  # no worker need find out again
            self.showing.trial(self.record.fail(trial.number, priced.fault))
            return None
        if trial.origin.startswith(START):
            self.rungs.keep(trial.number)
        return self._dispatch(trial.number, trial.first_rung, dict(priced.values))

    def _dispatch(self, number: int, rung: int, known: dict[str, float] | None = None) -> Ticket:
        trial = self.record.trial(number)
        self.record.dispatched(number)
        ticket = ticket_for(trial, rung, self.study, self._folder(number), known)
        self.live[number] = ticket
        return ticket

    # -- outcomes in ---------------------------------------------------------------------------

    def done(self, outcome: Outcome) -> None:
        """Take one segment's outcome; an orphan of an earlier attempt is ignored."""
        ticket = self.live.get(outcome.number)
        if ticket is None or ticket.attempt != outcome.attempt:
            return
        del self.live[outcome.number]
        with self._ours():
            self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        if outcome.kind == "died":
            self._died(outcome)
        elif outcome.kind == "interrupted":
            self.showing.trial(self.record.mark(outcome.number, "interrupted"))
        elif outcome.kind in ("no_space", "no_device"):
            self.record.mark(outcome.number, "interrupted")
            mend = "make room" if outcome.kind == "no_space" else "mend that"
            self.trouble = NasxError(
                f"{outcome.reason}; {mend} and run the same command to continue"
            )
        else:
            self.showing.trial(self._tell(outcome))

    def _tell(self, outcome: Outcome) -> Trial:
        if outcome.kind == "failed":
            self.rungs.drop(outcome.number)
            return self.record.fail(outcome.number, outcome.reason or "no reason", outcome.seconds)
        missing = [a for a in self.study.objectives if a not in outcome.values]
        if missing:
            self.rungs.drop(outcome.number)
            return self.record.fail(outcome.number, f"no value for {', '.join(missing)}")
        score = RungScore(outcome.rung, outcome.samples, outcome.values, outcome.cpu_seconds)
        if not self.record.trial(outcome.number).searched:
            return self.record.complete(outcome.number, score, outcome.seconds, outcome.diagnosis)
        self.rungs.add(outcome.rung, outcome.number, outcome.values)
        if outcome.rung == len(self.budgets) - 1:
            return self.record.complete(outcome.number, score, outcome.seconds, outcome.diagnosis)
        return self.record.rung(outcome.number, score, outcome.seconds, "paused")

    def _died(self, outcome: Outcome) -> None:
        """Queue a trial whose worker died, unless it has taken too many with it."""
        number = outcome.number
        self._deaths[number] = self._deaths.get(number, 0) + 1
        reason = outcome.reason or "the worker process died"
        if self._deaths[number] < MOST_DEATHS:
            self.queue.append(number)
            return
        self.rungs.drop(number)
        reason = f"{reason} ({MOST_DEATHS} times)"
        self.showing.trial(self.record.fail(number, reason, outcome.seconds))

    def close(self) -> None:
        """End the search: tell what waits at a rung, mark what still runs, free the thread."""
        self.ahead.close()
        with self._ours():
            for number in self.live:
                self.record.mark(number, "interrupted")
            over = not (self.stopping or self.trouble or self.live)
            for number in list(self.record.unfinished):
                if over and self.record.progress(number).phase == "paused":
                    self.record.stop(number)

    # -- proposals -----------------------------------------------------------------------------

    def _view(self, drawn: tuple[Proposal, ...]) -> View:
        return View(
            trials=tuple(t for t in self.record.trials if t.searched),
            rejections=tuple(self.record.rejections),
            drawn=tuple(Drawn(p.space, p.key, p.candidate.values(), p.origin) for p in drawn),
        )

    def _look(self, drawn: tuple[Proposal, ...]) -> View:
        view = self._view(drawn)
        strict = self.study.search.order == "strict"
        return strict_view(view, self.study.objectives) if strict else view

    def _propose(self, view: View) -> Proposal | None:
        """Ask the spaces in turn, the one with the fewest trials first."""
        for proposer in sorted(self.proposers, key=lambda p: len(view.of(p.reference).trials)):
            proposal = proposer.propose(view.of(proposer.reference))
            if proposal is not None:
                return proposal
        return None
