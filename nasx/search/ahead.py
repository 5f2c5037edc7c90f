"""Draw ahead: candidates are proposed in one thread while the workers work.

A slow sampler must not stand in the executor's event loop (a Gaussian process there cost a third
of two-second trials). A proposal drawn ahead is not committed, so a kill loses nothing. Where
training itself runs in this process, nothing is drawn beside it: both use torch's global generator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from nasx.search.proposals import Proposal
from nasx.search.view import View

Propose = Callable[[View], Proposal | None]
Look = Callable[[tuple[Proposal, ...]], View]


class Ahead:
    """Keeps up to `depth` proposals drawn; `look` gives the view a draw may use.

    `beside` draws in a thread of its own, otherwise a draw is made when it is asked for.
    """

    def __init__(self, propose: Propose, look: Look, depth: int, *, beside: bool = True) -> None:
        self._propose, self._look, self._depth = propose, look, depth
        self._thread = ThreadPoolExecutor(1, "nasx-proposals") if beside else None
        self._drawing: deque[Future[Proposal | None]] = deque()
        self._drawn: tuple[Proposal, ...] = ()

    def fill(self, wanted: int) -> None:
        """Start drawing until min(depth, wanted) proposals are drawn or on their way."""
        while len(self._drawing) < min(self._depth, wanted):
            self._drawing.append(self._thread.submit(self._draw) if self._thread else self._now())

    def take(self, wait: bool) -> tuple[bool, Proposal | None]:
        """Return (True, proposal), or (False, None) where none is ready and `wait` is off."""
        if not self._drawing:
            return True, None
        if not wait and not self._drawing[0].done():
            return False, None
        proposal = self._drawing.popleft().result()
        self._drawn = tuple(p for p in self._drawn if p is not proposal)
        return True, proposal

    def close(self) -> None:
        """End the thread; what is drawn is dropped."""
        for future in self._drawing:
            future.cancel()
        if self._thread:
            self._thread.shutdown(wait=True, cancel_futures=True)

    def _now(self) -> Future[Proposal | None]:
        future: Future[Proposal | None] = Future()
        try:
            future.set_result(self._draw())
        except Exception as error:
            future.set_exception(error)
        return future

    def _draw(self) -> Proposal | None:
        proposal = self._propose(self._look(self._drawn))
        if proposal is not None:
            self._drawn = (*self._drawn, proposal)
        return proposal
