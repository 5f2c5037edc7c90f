"""The control of a front member: the technique switched off, at the same counted cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasx.cost.matched import unmatched
from nasx.search.evaluate import one_line

if TYPE_CHECKING:
    from nasx.search.evaluate import Evaluator
    from nasx.space import Space
    from nasx.study import Study
    from nasx.trial import Trial


@dataclass(frozen=True)
class Control:
    """A candidate to compare with, its key and cost card; `fault` is why it cannot be trained."""

    candidate: dict[str, Any]
    key: str = ""
    card: dict[str, Any] | None = None
    fault: str | None = None


class Controls:
    """Makes and prices the controls of one run, each once.

    `without` holds, by member, why it has no control where that is no fault: not every technique
    can be switched off.
    """

    def __init__(self, study: Study, evaluator: Evaluator) -> None:
        self.study, self.evaluator = study, evaluator
        self.without: dict[str, str] = {}
        self._known: dict[int, Control | None] = {}

    def of(self, member: Trial) -> Control | None:
        """Return a member's control, or None where it has none (see `without`)."""
        if member.number not in self._known:
            self._known[member.number] = self._of(member)
        return self._known[member.number]

    def _of(self, member: Trial) -> Control | None:
        from nasx.registry import space

        cls = space(member.space)
        candidate, shape = cls.from_json(member.candidate), self.evaluator.shape
        try:
            control: Space | None = candidate.control(shape)
            if control is None:
                self.without[member.name] = f"space '{cls.name}' has no control"
                return None
            if not isinstance(control, cls):
                kind = type(control).__name__
                return Control({}, fault=f"control: a {kind}; return a {cls.__name__} or None")
            key = control.key(shape)
            if key == member.key:
                self.without[member.name] = "its technique is off already: it is its own control"
                return None
            card = self.evaluator.price(control).to_json()
        except Exception as error:
            return Control({}, fault=f"control: {one_line(error)}")
        fault = unmatched(member.card, card, member.name)
        return Control(control.in_effect(), key, card, fault and f"control: {fault}")
