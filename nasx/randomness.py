"""Randomness: seeds by name, and torch's global generator kept apart for one owner."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from types import TracebackType

import torch
from torch import Tensor


def derive(seed: int, *what: str | int) -> int:
    """Return a seed in [0, 2^63) that depends on `seed` and on what it is for."""
    digest = hashlib.sha256(repr((seed, *what)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside the block and put them back afterwards."""
    with OwnRandomness(seed, device):
        yield


class OwnRandomness:
    """A stream of torch's global generators that goes on from block to block.

    Torch's initialisers and dropout know only the global generators. Inside a `with` block they
    continue this stream, outside they are as if the block had not run.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._outer = self._now()
        torch.default_generator.manual_seed(seed)
        if self._cuda is not None:
            torch.cuda.manual_seed(seed)
        self.state = self._now()
        self._set(self._outer)

    def __enter__(self) -> None:
        self._outer = self._now()
        self._set(self.state)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.state = self._now()
        self._set(self._outer)

    def _now(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._cuda is not None:
            states.append(torch.cuda.get_rng_state(self._cuda))
        return states

    def _set(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._cuda is not None:
            torch.cuda.set_rng_state(states[1], self._cuda)
