"""How far a score may be from what the network is worth: replicates and the validation sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasx.results.dominance import Floats
from nasx.results.evidence import binomial_error, replicate_spread
from nasx.results.observed import Observation
from nasx.trial import Snapshot

LEVEL = 0.95


@dataclass(frozen=True)
class Noise:
    """What is known of one score's noise.

    `spread` is the pooled standard deviation of one training within replicates, of `degrees`
    degrees of freedom (0: there are none); `valid` the validation samples, where the score is a
    share of them. Training noise shrinks with replicates; that of the sample does not, since all
    are scored on the same one. The larger of both counts.
    """

    score: str
    spread: float
    degrees: int
    valid: int | None

    @property
    def known(self) -> bool:
        """Say whether anything is known."""
        return self.degrees > 0 or self.valid is not None

    def half_width(self, o: Observation) -> float | None:
        """Return half of the 95 % interval of an observation's score, or None if not known."""
        if not self.known:
            return None
        from scipy.special import ndtri, stdtrit

        upper = (1 + LEVEL) / 2
        training = 0.0
        if self.degrees:
            training = float(stdtrit(self.degrees, upper)) * self._of_training(o)
        return max(training, float(ndtri(upper)) * self._of_sample(o))

    def errors(
        self, observed: Sequence[Observation], draws: int, rng: np.random.Generator
    ) -> Floats:
        """Return standard errors (draws, n), one training's spread drawn from what it may be."""
        # s^2 * degrees / chi^2: few replicates make the spread itself doubtful, and Student's t
        # out of the normal draws that it scales.
        scale = np.ones(draws)
        if self.degrees:
            scale = np.sqrt(self.degrees / rng.chisquare(self.degrees, draws))
        training = np.array([self._of_training(o) for o in observed])
        sample = np.array([self._of_sample(o) for o in observed])
        found: Floats = np.maximum(scale[:, None] * training, sample)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return what is known as JSON values."""
        spread = self.spread if self.degrees else None
        return {"spread": spread, "degrees": self.degrees, "valid_samples": self.valid}

    def caveat(self) -> str | None:
        """Say in a sentence what an interval from this noise leaves out, or return None."""
        if self.degrees:
            return None
        more = "train the front again with final.seeds: 2 or more"
        if self.valid is None:
            return f"no interval: the noise of {self.score} is not known without replicates; {more}"
        return (
            f"no replicates: intervals hold the {self.valid:,} validation samples, not the luck of "
            f"a seed, and are too narrow; {more}"
        )

    def _of_training(self, o: Observation) -> float:
        seeds = sum(self.score in t.values for t in o.trials)
        return self.spread / math.sqrt(max(seeds, 1))

    def _of_sample(self, o: Observation) -> float:
        if self.valid is None:
            return 0.0
        # Two right and two wrong answers more (Agresti and Coull 1998): all right on a sample is
        # not right for ever.
        more = self.valid + 4
        return binomial_error((o.values[self.score] * self.valid + 200) / more, more)


def noise_of(observed: Sequence[Observation], score: str, runs: Sequence[Snapshot]) -> Noise:
    """Return the noise of a score, pooled over observations of runs on one validation split."""
    counts = [sum(score in t.values for t in o.trials) for o in observed]
    size = runs[0].provenance.get("splits", {}).get("valid") if score == "top1" else None
    degrees = sum(n - 1 for n in counts if n > 1)
    return Noise(score, replicate_spread(observed, score), degrees, size or None)
