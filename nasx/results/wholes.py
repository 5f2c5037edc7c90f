"""The networks that a front's members were cut from, to be timed beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nasx.results.quiet import Note
from nasx.results.scan import Network, candidate_of, untrained
from nasx.results.steps import against
from nasx.trial import Snapshot, Trial

if TYPE_CHECKING:
    from nasx.cost.latency import Latency
    from nasx.shape import TaskShape


class Wholes:
    """The whole networks of some trials, each built once, named by their keys."""

    def __init__(
        self, snapshot: Snapshot, numbers: Iterable[int], shape: TaskShape, note: Note
    ) -> None:
        self.networks: dict[str, Network] = {}
        self.of: dict[int, str] = {}  # the name of its whole network, by trial number
        for number in numbers:
            try:
                self._add(snapshot.trial(number), shape)
            except Exception as error:  # a hook of the space's: an extra, which may cost no result
                from nasx.search.evaluate import one_line

                note(f"t{number:04d}: its whole network is not timed: {one_line(error)}")

    def _add(self, trial: Trial, shape: TaskShape) -> None:
        candidate = candidate_of(trial)
        whole = candidate.whole(shape)
        if whole is None or whole.key(shape) == candidate.key(shape):
            return
        name = f"whole {whole.key(shape)}"
        if name not in self.networks:
            self.networks[name] = untrained(whole, shape)
        self.of[trial.number] = name

    def beside(self, number: int, latencies: Mapping[str, Latency]) -> dict[str, Any]:
        """Return {"whole": ...} for a trial timed beside its whole network, else nothing.

        The whole network's "macs" and "ms", and how the trial stands to it (`steps.against`).
        """
        mine, name = latencies.get(f"t{number:04d}"), self.of.get(number, "")
        whole = latencies.get(name)
        if mine is None or whole is None:
            return {}
        stands = against(mine.by_pass, whole.by_pass)
        known = {"macs": self.networks[name].macs, "ms": whole.median_ms}
        return {"whole": {**known, **stands}}
