"""Domains: the legal values of one field, and how to move among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nasx.errors import SpaceError

if TYPE_CHECKING:
    import numpy as np

Value = int | float | str | bool | None

STEPS = 10  # a real field's neighbours are this many steps apart across its domain


class Domain:
    """The legal values of one leaf field."""

    default: Any

    def fault(self, value: Any) -> str | None:
        """Say why `value` is not legal, or return None."""
        raise NotImplementedError

    def at(self, unit: float) -> Value:
        """Return the value at a place in [0, 1) of the searched scale."""
        raise NotImplementedError

    def sample(self, rng: np.random.Generator) -> Value:
        """Draw one value, uniform in the searched scale."""
        return self.at(float(rng.random()))

    def neighbours(self, value: Any) -> list[Value]:
        """Return the values one step away from `value`."""
        raise NotImplementedError

    def narrow(self, allowed: Any, name: str) -> Domain:
        """Return this domain cut down to `allowed`; widening is refused."""
        raise NotImplementedError

    @property
    def size(self) -> float:
        """Return the number of values (infinite for a real field)."""
        raise NotImplementedError

    def leaves(self, name: str) -> dict[str, Domain]:
        """Return this domain under its flat name."""
        return {name: self}

    def gather(self, name: str, flat: Mapping[str, Value]) -> Any:
        """Take this field's value out of flat values."""
        return flat.get(name, self.default)

    def scatter(self, name: str, value: Any) -> dict[str, Value]:
        """Return this field's value under its flat name."""
        return {name: value}

    def _outside(self, allowed: Any, name: str, whole: str) -> SpaceError:
        return SpaceError(
            f"domain of '{name}': {allowed} reaches outside {whole}; "
            "a study may narrow a domain, never widen it"
        )


@dataclass(frozen=True)
class Integer(Domain):
    """Whole numbers lo, lo + step, ..., hi."""

    lo: int
    hi: int
    step: int
    default: int

    def fault(self, value: Any) -> str | None:
        """Say why `value` is not one of the numbers, with the nearest that is."""
        if isinstance(value, bool) or not isinstance(value, int):
            return "is not a whole number"
        if self.lo <= value <= self.hi and (value - self.lo) % self.step == 0:
            return None
        steps = round((min(max(value, self.lo), self.hi) - self.lo) / self.step)
        near = self.lo + self.step * min(steps, (self.hi - self.lo) // self.step)
        by = f" in steps of {self.step}" if self.step > 1 else ""
        return f"is outside {self.lo} to {self.hi}{by} (nearest: {near})"

    def at(self, unit: float) -> int:
        """Return the number at a place in [0, 1), all alike."""
        return self.lo + self.step * int(unit * ((self.hi - self.lo) // self.step + 1))

    def neighbours(self, value: Any) -> list[Value]:
        """Return the numbers one step below and above."""
        return [v for v in (value - self.step, value + self.step) if self.lo <= v <= self.hi]

    def narrow(self, allowed: Any, name: str) -> Integer:
        """Cut to [lo, hi] given as two numbers."""
        lo, hi = _pair(allowed, name)
        if lo != int(lo) or hi != int(hi):
            raise SpaceError(f"domain of '{name}': {allowed} must be two whole numbers")
        if lo < self.lo or hi > self.hi or lo > hi:
            raise self._outside(allowed, name, f"[{self.lo}, {self.hi}]")
        lo = self.lo + math.ceil((lo - self.lo) / self.step) * self.step
        hi = self.lo + math.floor((hi - self.lo) / self.step) * self.step
        if lo > hi:
            raise SpaceError(f"domain of '{name}': {allowed} holds no value (steps of {self.step})")
        return replace(self, lo=int(lo), hi=int(hi), default=int(min(max(self.default, lo), hi)))

    @property
    def size(self) -> float:
        """Return how many numbers there are."""
        return (self.hi - self.lo) // self.step + 1


@dataclass(frozen=True)
class Real(Domain):
    """Real numbers in [lo, hi], searched by their logarithm if `log`."""

    lo: float
    hi: float
    log: bool
    default: float

    def fault(self, value: Any) -> str | None:
        """Say why `value` is outside."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "is not a number"
        if self.lo <= value <= self.hi:
            return None
        return f"is outside {self.lo} to {self.hi} (nearest: {min(max(value, self.lo), self.hi)})"

    def _unit(self, value: float) -> float:
        if self.hi == self.lo:
            return 0.0
        if self.log:
            return math.log(value / self.lo) / math.log(self.hi / self.lo)
        return (value - self.lo) / (self.hi - self.lo)

    def _value(self, unit: float) -> float:
        unit = min(max(unit, 0.0), 1.0)
        value = (
            self.lo * (self.hi / self.lo) ** unit
            if self.log
            else self.lo + unit * (self.hi - self.lo)
        )
        return min(max(value, self.lo), self.hi)

    def at(self, unit: float) -> float:
        """Return the number at a place in [0, 1) of the searched scale."""
        return self._value(unit)

    def neighbours(self, value: Any) -> list[Value]:
        """Return the numbers a tenth of the domain below and above."""
        here = self._unit(value)
        moved = (self._value(here - 1 / STEPS), self._value(here + 1 / STEPS))
        return [v for v in dict.fromkeys(moved) if v != value]

    def narrow(self, allowed: Any, name: str) -> Real:
        """Cut to [lo, hi] given as two numbers."""
        lo, hi = _pair(allowed, name)
        if lo < self.lo or hi > self.hi or lo > hi:
            raise self._outside(allowed, name, f"[{self.lo}, {self.hi}]")
        return replace(
            self, lo=float(lo), hi=float(hi), default=float(min(max(self.default, lo), hi))
        )

    @property
    def size(self) -> float:
        """Return infinity, or 1 where the domain is one point."""
        return 1.0 if self.lo == self.hi else math.inf


@dataclass(frozen=True)
class Choice(Domain):
    """One of a few named values."""

    values: tuple[Value, ...]
    default: Value

    def fault(self, value: Any) -> str | None:
        """Say that `value` is not among the values."""
        if any(value == v and type(value) is type(v) for v in self.values):
            return None
        return f"is not one of {', '.join(map(repr, self.values))}"

    def at(self, unit: float) -> Value:
        """Return the value at a place in [0, 1), all alike."""
        return self.values[int(unit * len(self.values))]

    def neighbours(self, value: Any) -> list[Value]:
        """Return every other value."""
        return [v for v in self.values if v != value]

    def narrow(self, allowed: Any, name: str) -> Choice:
        """Cut to the listed values."""
        values = tuple(allowed) if isinstance(allowed, list | tuple) else (allowed,)
        if not values or any(self.fault(v) for v in values):
            raise self._outside(allowed, name, str(list(self.values)))
        return Choice(values, self.default if self.default in values else values[0])

    @property
    def size(self) -> float:
        """Return how many values there are."""
        return len(self.values)


@dataclass(frozen=True)
class Each:
    """n values of one leaf domain, kept as a tuple."""

    n: int
    domain: Domain

    @property
    def default(self) -> tuple[Value, ...]:
        """Return the leaf's default n times."""
        return (self.domain.default,) * self.n

    def fault(self, value: Any) -> str | None:
        """Say which of the values is not legal."""
        if not isinstance(value, tuple) or len(value) != self.n:
            return f"needs {self.n} values"
        for i, v in enumerate(value):
            fault = self.domain.fault(v)
            if fault:
                return f"[{i}] {fault}"
        return None

    def leaves(self, name: str) -> dict[str, Domain]:
        """Return the leaf under `name.0`, `name.1`, ..."""
        return {f"{name}.{i}": self.domain for i in range(self.n)}

    def gather(self, name: str, flat: Mapping[str, Value]) -> Any:
        """Take the n values out of flat values."""
        return tuple(self.domain.gather(leaf, flat) for leaf in self.leaves(name))

    def scatter(self, name: str, value: Any) -> dict[str, Value]:
        """Return the n values under their flat names."""
        return dict(zip(self.leaves(name), value, strict=True))


@dataclass(frozen=True)
class When:
    """A field that is active only while field `name` has one of `values`."""

    name: str
    values: tuple[Value, ...]
    domain: Domain | Each

    @property
    def default(self) -> Any:
        """Return the inner default."""
        return self.domain.default

    def fault(self, value: Any) -> str | None:
        """Say why the inner domain refuses `value`."""
        return self.domain.fault(value)

    def leaves(self, name: str) -> dict[str, Domain]:
        """Return the inner leaves: all fields are always asked."""
        return self.domain.leaves(name)

    def gather(self, name: str, flat: Mapping[str, Value]) -> Any:
        """Take the inner value out of flat values."""
        return self.domain.gather(name, flat)

    def scatter(self, name: str, value: Any) -> dict[str, Value]:
        """Return the inner value under its flat names."""
        return self.domain.scatter(name, value)


def _pair(allowed: Any, name: str) -> tuple[float, float]:
    if not isinstance(allowed, list | tuple):
        allowed = (allowed, allowed)
    if len(allowed) != 2 or any(
        isinstance(v, bool) or not isinstance(v, int | float) for v in allowed
    ):
        raise SpaceError(f"domain of '{name}': {allowed!r} must be two numbers [low, high]")
    return allowed[0], allowed[1]
