"""A claim: arms, a task, seeds that pair them, a score, and what would make it invalid."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nasx.study import NAME, Bound, Fidelity, FinalPass, Resources, Search, Strict, Study

ONLY = "all"  # the condition of a claim that names none


class Budget(Strict):
    """How much training a score uses: every arm the same."""

    unit: Literal["samples"] = "samples"
    full: int = Field(12000, gt=0)


class Change(Strict):
    """What an arm changes of its space's recipe; None leaves it as it is."""

    batch: int | None = Field(None, gt=0)
    augment: bool | None = None

    def changed(self) -> dict[str, Any]:
        """Return what is changed, by the names of `nasx.recipe.Recipe`."""
        return {k: v for k, v in self.model_dump().items() if v is not None}


class Condition(Strict):
    """A circumstance that every arm runs under: fields of all arms, budgets of MACs and training.

    `share` is in MACs of the space's baseline, for arms by rule. `samples` is the training of all
    arms here; None takes the claim's `fidelity.full`.
    """

    candidate: dict[str, Any] = Field(default_factory=dict)
    share: float | None = Field(None, gt=0)
    samples: int | None = Field(None, gt=0)


class Arm(Strict):
    """One side of a comparison: fields of the space, in all conditions and `at` single ones.

    `rule` "fields" takes the fields as they are; "axes" solves the network at these values of the
    space's axes for a MAC budget (`Space.from_axes`), "customary" takes the customary rule's
    (`Space.null_from_macs`). The budget is the condition's share, or what the arm `meet` counts.
    `checks` bounds means of this arm alone: of scores, costs, or what its space diagnoses.
    """

    candidate: dict[str, Any] = Field(default_factory=dict)
    at: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rule: Literal["fields", "axes", "customary"] = "fields"
    meet: str | None = None
    recipe: Change = Change()
    checks: dict[str, Bound] = Field(default_factory=dict)


class Claim(Strict):
    """One sentence to be held to its own protocol: `compare[0]` scores above `compare[1]`.

    `matched` bounds how far the two arms' measured costs may lie apart (relative), `checks` what
    every arm's mean must keep, `differ` names all that may differ between the two. `also` names
    further pairs, `tell` further values of every arm (scores, costs, what the space diagnoses):
    both are told beside the claim and are no part of its verdict.
    """

    name: Annotated[str, Field(pattern=NAME.pattern)]
    desc: str = Field(min_length=1)
    hypothesis: str = Field(min_length=1)
    space: str
    task: str | dict[str, Any]
    arms: dict[str, Arm]
    conditions: dict[str, Condition] = Field(default_factory=lambda: {ONLY: Condition()})
    compare: tuple[str, ...]
    also: tuple[tuple[str, ...], ...] = ()
    tell: tuple[str, ...] = ()
    differ: tuple[str, ...]
    seeds: tuple[int, ...]
    fidelity: Budget = Budget()
    primary: str
    split: Literal["valid", "test"] = "test"
    matched: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    checks: dict[str, Bound] = Field(default_factory=dict)
    hours: float = Field(gt=0)
    resources: Resources = Resources()

    def resolved(self) -> dict[str, Any]:
        """Return the claim as plain JSON values, defaults written out.

        Keys that came after the first claims are left out where the file does not use them: a
        claim that says nothing new keeps the hash of its protocol.
        """
        whole = self.model_dump(mode="json")
        for condition in whole["conditions"].values():
            if condition["samples"] is None:
                del condition["samples"]
        for arm in whole["arms"].values():
            if not arm["checks"]:
                del arm["checks"]
        for name in ("also", "tell"):
            if not whole[name]:
                del whole[name]
        return whole

    def samples(self, condition: str) -> int:
        """Return the samples of training under a condition."""
        return self.conditions[condition].samples or self.fidelity.full

    @property
    def full(self) -> int:
        """Return the samples of the longest training."""
        return max(self.samples(condition) for condition in self.conditions)

    def limits(self, arm: str) -> dict[str, tuple[str, float]]:
        """Return the checks of an arm, all arms' and its own, as (operator, number) by quantity."""
        checks = {**self.checks, **self.arms[arm].checks}
        pairs = {axis: text.strip() for axis, text in checks.items()}
        return {axis: (text[:2], float(text[2:])) for axis, text in pairs.items()}

    def study(self, trials: int = 1) -> Study:
        """Return the study whose record holds the trials of this claim."""
        return Study(
            name=self.name,
            desc=self.desc,
            space=self.space,
            task=self.task,
            objectives={self.primary: "maximize", **dict.fromkeys(self.matched, "minimize")},
            fidelity=Fidelity(full=self.full, rungs=1),
            search=Search(trials=trials, trial_minutes=None, seed=self.seeds[0], start=()),
            final=FinalPass(neighbours=0),
            resources=self.resources,
        )
