"""The space: a frozen dataclass whose class is the search space and whose instance is a candidate.

    class Adder(Space):
        name, paper, tasks = "adder", "arXiv:2009.13044", ("classify",)
        width: int = integer(8, 64, step=8, default=16)

        def build(self, shape: TaskShape) -> nn.Module: ...

`build` is the only method a technique must write; every other one has a default here.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, dataclass_transform

from nasx.domain import Choice, Domain, Each, Integer, Real, Value, When
from nasx.errors import SpaceError
from nasx.shape import Shape, TaskShape

if TYPE_CHECKING:
    from torch import nn

    from nasx.assets import Asset
    from nasx.recipe import Recipe
    from nasx.tasks.base import Task


def integer(lo: int, hi: int, *, step: int = 1, default: int) -> Any:
    """Declare a whole-number field on lo, lo + step, ..., hi."""
    return _field(Integer(lo, hi, step, default))


def real(lo: float, hi: float, *, log: bool = False, default: float) -> Any:
    """Declare a real field on [lo, hi]; `log` searches its logarithm."""
    return _field(Real(lo, hi, log, default))


def choice(*values: Value, default: Value) -> Any:
    """Declare a field that takes one of the named values."""
    return _field(Choice(values, default))


def each(n: int, field: Any) -> Any:
    """Declare n values of one field, one per layer or stage (padded to the maximum)."""
    return _field(Each(n, _domain_of(field)))


def when(name: str, values: tuple[Value, ...], field: Any) -> Any:
    """Declare a field that is active only while field `name` has one of `values`."""
    return _field(When(name, values, _domain_of(field)))


def _field(domain: Domain | Each | When) -> Any:
    return dataclasses.field(default=domain.default, metadata={"domain": domain})


def _domain_of(field: Any) -> Any:
    return field.metadata["domain"]


@dataclasses.dataclass(frozen=True)
class Published:
    """A paper's own point: its candidate, the task shape it was counted on, and its numbers.

    `counted` says which network the numbers describe: the deployed one or the one in training.
    `tolerance` is relative (0 = exact).
    """

    name: str
    candidate: Mapping[str, Any]
    shape: TaskShape
    params: int | None
    macs: int | None
    adds: int | None = None
    tolerance: float = 0.0
    source: str = ""
    counted: str = "deployed"


class Part(NamedTuple):
    """A part of a network whose channels may be changed alone: now, and all it could have.

    `widths` rise and hold `width`.
    """

    width: int
    widths: Sequence[int]


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(integer, real, choice, each, when)
)
class Space:
    """One technique: its fields, and how a candidate becomes a network.

    A subclass is a frozen, keyword-only dataclass. All fields are always asked; a field that is
    not active (see `when`) is set to its default before the key is taken.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    tasks: ClassVar[tuple[str, ...]] = ("classify",)
    published: ClassVar[tuple[Published, ...]] = ()
    training: ClassVar[tuple[str, ...]] = ()  # fields that change the recipe, not the network
    axes: ClassVar[tuple[str, ...]] = ()  # fields a scaling rule speaks of, e.g. ("r", "d")
    cautions: ClassVar[tuple[str, ...]] = ()  # sentences that whoever reads its results must know

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        faults = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            domain: Domain | Each | When = field.metadata["domain"]
            value = getattr(self, field.name)
            if isinstance(value, list):  # JSON and YAML know no tuples
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            fault = domain.fault(value)
            if fault:
                faults.append(f"{type(self).__name__}.{field.name} = {value!r} {fault}")
        if faults:
            raise SpaceError("; ".join(faults))

    # -- what a technique writes ------------------------------------------------------------

    def build(self, shape: TaskShape) -> nn.Module:
        """Return the untrained network for `shape`; the one method a technique must write."""
        raise SpaceError(
            f"{type(self).__name__} does not say how to build its network: write build(shape)"
        )

    def rebuild(self, shape: TaskShape, decisions: Mapping[str, Any]) -> nn.Module:
        """Return the network after the structural choices that training took (default: build)."""
        return self.build(shape)

    def input_shape(self, shape: TaskShape) -> Shape:
        """Return the shape of one sample as this network takes it (default: the task's own)."""
        own: Shape = shape.input
        return own

    def canonical(self, shape: TaskShape) -> dict[str, Any]:
        """Return what decides the network and its input; equal networks give equal values."""
        return {k: v for k, v in self.active().items() if k not in self.training}

    def recipe(self, shape: TaskShape) -> Recipe:
        """Return how this candidate is trained (default: AdamW on the task's loss)."""
        from nasx.recipe import standard

        return standard()

    def needs(self, shape: TaskShape) -> dict[str, Asset]:
        """Return the trained networks that this candidate starts from, by name."""
        return {}

    def refusal(self, shape: TaskShape) -> str | None:
        """Say why this candidate cannot be what its fields ask on `shape`, or return None.

        For fields that exclude each other only once costs are counted. A refused candidate is
        passed over before it is priced.
        """
        return None

    def repair(self, shape: TaskShape, limits: Mapping[str, float]) -> Self | None:
        """Return the nearest candidate that keeps the upper limits on static costs, or None."""
        return None

    def decide(self, model: nn.Module) -> nn.Module:
        """Return the network that would be deployed (choices taken, scaffolding dropped)."""
        return model

    def control(self, shape: TaskShape) -> Self | None:
        """Return this candidate with the technique switched off, MACs within 2 %."""
        return None

    def diagnose(self, model: nn.Module, task: Task) -> dict[str, float]:
        """Return numbers for the report about what the technique did."""
        return {}

    def parts(self, shape: TaskShape) -> dict[str, Part]:
        """Return the parts whose widths may be changed one by one, by name, or nothing.

        Widths around a candidate's own are timed for steps of latency (see `results.steps`).
        """
        return {}

    def resized(self, widths: Mapping[str, int], shape: TaskShape) -> Self:
        """Return this candidate with these channels in the parts named, all else as it is."""
        raise SpaceError(f"{type(self).__name__} names parts: write resized(widths, shape) too")

    def whole(self, shape: TaskShape) -> Self | None:
        """Return the network that this one was cut from, or None where it was cut from none.

        Who measures slower than that is told so.
        """
        return None

    @classmethod
    def from_axes(cls, values: Mapping[str, float], macs: int, shape: TaskShape) -> Self:
        """Return the candidate at `values` of the axes whose counted MACs meet `macs`."""
        raise SpaceError(f"{cls.__name__} declares no axes: it has no scaling rule")

    @classmethod
    def null_from_macs(cls, macs: int, shape: TaskShape) -> Self:
        """Return the candidate that the customary rule gives for `macs` (the null of a rule)."""
        raise SpaceError(f"{cls.__name__} has no customary scaling rule to compare with")

    # -- what every space has ---------------------------------------------------------------

    @classmethod
    def domains(cls) -> dict[str, Domain]:
        """Return the leaf domains by flat name (`each` fields as `name.0`, `name.1`, ...)."""
        leaves: dict[str, Domain] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            leaves.update(field.metadata["domain"].leaves(field.name))
        return leaves

    @classmethod
    def from_flat(cls, flat: Mapping[str, Value]) -> Self:
        """Return the candidate with these flat values; fields not named keep their default."""
        known = cls.domains()
        for name in flat:
            if name not in known:
                raise SpaceError(unknown_field(cls, name))
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            values[field.name] = field.metadata["domain"].gather(field.name, flat)
        return cls(**values)

    @classmethod
    def from_json(cls, candidate: Mapping[str, Any]) -> Self:
        """Return the candidate written as JSON by `values`; unknown names are refused."""
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for name in candidate:
            if name not in names:
                raise SpaceError(unknown_field(cls, name))
        return cls(**candidate)

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON values (tuples as lists)."""
        raw = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in raw.items()}

    def flat(self) -> dict[str, Value]:
        """Return the leaf values by flat name."""
        leaves: dict[str, Value] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            leaves.update(field.metadata["domain"].scatter(field.name, getattr(self, field.name)))
        return leaves

    def in_effect(self) -> dict[str, Any]:
        """Return `values` without the fields that are not active: what a reader should see."""
        values = self.values()
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            domain = field.metadata["domain"]
            if isinstance(domain, When) and getattr(self, domain.name) not in domain.values:
                del values[field.name]
        return values

    def active(self) -> dict[str, Any]:
        """Return `values` with every inactive field at its default."""
        return type(self).from_json(self.in_effect()).values()

    def key(self, shape: TaskShape) -> str:
        """Return 12 hex digits, equal exactly for equal network, input and recipe."""
        active = self.active()
        what = {
            "space": self.name,
            "canonical": self.canonical(shape),
            "training": {k: active[k] for k in self.training},
        }
        text = json.dumps(what, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def neighbours(self, domains: Mapping[str, Domain]) -> Iterator[Self]:
        """Yield the candidates one step away in one field of `domains`."""
        flat = self.flat()
        for name, domain in domains.items():
            for value in domain.neighbours(flat[name]):
                yield type(self).from_flat({**flat, name: value})


def unknown_field(space: type[Space], name: str) -> str:
    """Say that `space` has no field `name`, with the nearest one."""
    names = list(space.domains())
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names)}"
    return f"space '{space.name}' has no field '{name}'; {hint}"


def _plain(value: Any) -> Any:
    """Write tuples and numpy scalars as JSON."""
    return value.item() if hasattr(value, "item") else list(value)
