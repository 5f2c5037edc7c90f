"""A study: one question, one YAML file, checked whole before anything runs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nasx.axes import AXES, Direction

NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")
# On continuation; controls come after the search and change nothing in it.
MAY_CHANGE = ("search.trials", "search.hours", "final.controls", "resources", "desc")

Bound = Annotated[str, Field(pattern=r"^\s*(<=|>=)\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$")]


class Strict(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Fidelity(Strict):
    """How much training a score uses: rungs at full / factor^k samples."""

    unit: Literal["samples"] = "samples"
    full: int = Field(12000, gt=0)
    factor: int = Field(3, ge=2)
    rungs: int = Field(3, ge=1, le=8)

    def budgets(self) -> tuple[int, ...]:
        """Return the samples seen at each rung, the full budget last."""
        steps = range(self.rungs - 1, -1, -1)
        return tuple(max(1, self.full // self.factor**k) for k in steps)


class Search(Strict):
    """How many trials, proposed how, for how long."""

    trials: int = Field(48, gt=0, le=100_000)
    hours: float | None = Field(None, gt=0)
    trial_minutes: float | None = Field(10, gt=0)
    sampler: Literal["auto", "gp", "local", "tpe", "random"] = "auto"
    seed: int = Field(0, ge=0)
    start: tuple[str, ...] = ("baseline",)
    order: Literal["free", "strict"] = "free"


class FinalPass(Strict):
    """What happens after the search: replicates, controls, neighbours in the quiet pass."""

    seeds: int = Field(1, ge=1)
    controls: Literal["none", "front"] = "none"
    neighbours: int = Field(3, ge=0)

    def again(self) -> int:
        """Return how many trainings each front member gets after the search."""
        return self.seeds - 1 + (self.seeds if self.controls == "front" else 0)


class Measure(Strict):
    """Where and how latency is measured, and by which model energy: one setting for every arm."""

    runtime: Literal["onnxruntime", "aot", "eager", "compile", "cuda"] = "onnxruntime"
    device: str = "cpu"
    batch: int = Field(1, gt=0)
    threads: int = Field(1, gt=0)
    via: str | None = None
    energy: Literal["arith", "arith+mem"] = "arith"


class Resources(Strict):
    """What one trial takes, and who runs it."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)
    memory: int | str | None = None  # bytes, or "2 GiB"
    executor: Literal["ray", "inline"] = "ray"


class Study(Strict):
    """One question. `space` and `task` are kept as the file names them (see nasx.registry)."""

    name: Annotated[str, Field(pattern=NAME.pattern)]
    desc: str = Field(min_length=1)
    space: str | tuple[str, ...]
    fix: dict[str, Any] = {}
    domains: dict[str, Any] = {}
    task: str | dict[str, Any]
    objectives: dict[str, Direction] = Field(min_length=1)
    constraints: dict[str, Bound] = {}
    fidelity: Fidelity = Fidelity()
    search: Search = Search()
    final: FinalPass = FinalPass()
    measure: Measure = Measure()
    resources: Resources = Resources()
    assets: dict[str, str] = {}

    @field_validator("objectives", "constraints")
    @classmethod
    def _known_axes(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name not in AXES:
                raise ValueError(f"unknown axis '{name}'")
        return value

    @property
    def spaces(self) -> tuple[str, ...]:
        """Return the space references, always as a tuple."""
        return (self.space,) if isinstance(self.space, str) else self.space

    def limits(self) -> dict[str, tuple[str, float]]:
        """Return the constraints as (operator, number) by axis."""
        found = {}
        for axis, text in self.constraints.items():
            operator = text.strip()[:2]
            found[axis] = (operator, float(text.strip()[2:]))
        return found

    def resolved(self) -> dict[str, Any]:
        """Return the study as plain JSON values, defaults written out."""
        return self.model_dump(mode="json")

    def identity(self, data: str = "") -> str:
        """Return 12 hex digits over what makes two runs one study; `data` is the data's hash."""
        kept = ("space", "fix", "domains", "task", "objectives", "constraints", "fidelity")
        whole = self.resolved()
        what = {k: whole[k] for k in kept}
        what["space"] = [Path(s).name for s in self.spaces]  # a folder that moves stays one study
        what["seeds"] = [self.search.seed, self.final.seeds]
        what["data"] = data
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def changes(old: Study, new: Study) -> list[str]:
    """Return 'key: old -> new' for every difference that makes `new` another study."""

    def flat(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict) and value:
            merged: dict[str, Any] = {}
            for k, v in value.items():
                merged.update(flat(v, f"{path}.{k}" if path else k))
            return merged
        return {path: value}

    a, b = flat(old.resolved(), ""), flat(new.resolved(), "")
    return [
        f"{k}: {a.get(k)!r} -> {b.get(k)!r}"
        for k in sorted({*a, *b})
        if a.get(k) != b.get(k) and not k.startswith(MAY_CHANGE)
    ]
