"""Pareto successive halving, asynchronous: who goes on from a rung, and when.

A trial that reaches a rung waits there with a checkpoint. It goes on once it is among the best
1 / factor of all scores at that rung, ranked by non-domination of (score, objectives), then by
crowding. Nothing is decided before a rung holds `factor` scores. What the study begins with (its
baseline) always goes on, so that a front shows what the user has today.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nasx.results.dominance import crowding, nondominated_rank


class Rungs:
    """The scores at each rung and who was promoted from it."""

    def __init__(
        self, budgets: tuple[int, ...], factor: int, directions: Mapping[str, str]
    ) -> None:
        self.budgets, self.factor, self.directions = budgets, factor, dict(directions)
        self._scores: list[dict[int, tuple[float, ...]]] = [{} for _ in budgets]
        self._promoted: list[set[int]] = [set() for _ in budgets]
        self._gone: set[int] = set()
        self._kept: list[int] = []

    def add(self, rung: int, number: int, values: Mapping[str, float]) -> None:
        """Keep the score of a trial at a rung; a higher rung implies promotion from below."""
        self._scores[rung][number] = tuple(values[name] for name in self.directions)
        for below in range(rung):
            if number in self._scores[below]:  # a recipe may skip rungs
                self._promoted[below].add(number)

    def promoted(self, rung: int, number: int) -> None:
        """Note that a trial was sent on from a rung."""
        self._promoted[rung].add(number)

    def keep(self, number: int) -> None:
        """Note that a trial goes on from every rung: it is what the user has today."""
        self._kept.append(number)

    def drop(self, number: int) -> None:
        """Note that a trial can go no further (failed, or told in an earlier run)."""
        self._gone.add(number)

    def best(self, rung: int) -> list[int]:
        """Return the numbers of the best 1 / factor of a rung, best first, that can go on."""
        keep = len(self._scores[rung]) // self.factor
        stuck = self._gone - self._promoted[rung]
        return [n for n in self.order(rung) if n not in stuck][:keep]

    def order(self, rung: int) -> list[int]:
        """Return the numbers at a rung from best to worst."""
        scores = self._scores[rung]
        if not scores:
            return []
        numbers = sorted(scores)
        points = np.array([scores[n] for n in numbers], dtype=float)
        ranks = nondominated_rank(points, list(self.directions.values()))
        crowd = crowding(points, ranks)
        best = sorted(range(len(numbers)), key=lambda i: (ranks[i], -crowd[i], numbers[i]))
        return [numbers[i] for i in best]

    def next(self) -> tuple[int, int] | None:
        """Return (number, rung to run) of the trial to promote now, the highest rung first."""
        for rung in range(len(self.budgets) - 2, -1, -1):
            for number in self._kept:
                if number in self._scores[rung] and number not in self._promoted[rung] | self._gone:
                    return number, rung + 1
            if len(self._promoted[rung]) >= len(self._scores[rung]) // self.factor:
                continue  # early promotions may have been mistaken; the budget holds all the same
            for number in self.best(rung):
                if number not in self._promoted[rung] and number not in self._gone:
                    return number, rung + 1
        return None
