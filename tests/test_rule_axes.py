"""Rules over any numeric axes: whole numbers, a single one, one value of several."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboards import scaling_rule
from nasx.errors import SpaceError
from nasx.results.rule import rule
from nasx.results.ruletext import sentences
from nasx.results.scale import scale
from nasx.shape import TaskShape
from nasx.space import Space, choice, each, integer, real
from nasx.study import Fidelity, Study
from nasx.trial import RungScore, Snapshot, State, Trial

SHAPE = TaskShape("classify", (3, 32, 32), 10)
BASE = 10_000_000


class Whole(Space):
    """Both axes are whole numbers, one in steps of two; the width is solved."""

    name = "whole"
    axes = ("depth", "heads")
    depth: int = integer(1, 16, default=8)
    heads: int = integer(2, 24, step=2, default=10)
    width: float = real(0.05, 8.0, default=1.0)

    @classmethod
    def from_axes(cls, values, macs, shape):
        made = cls.from_flat({name: values[name] for name in cls.axes})
        return replace(made, width=math.sqrt(macs / macs_of(made, shape)))

    @classmethod
    def null_from_macs(cls, macs, shape):
        return replace(cls(), width=math.sqrt(macs / BASE))


class Single(Whole):
    name = "single"
    axes = ("depth",)


class Staged(Space):
    name = "staged"
    axes = ("stages.1",)
    stages: tuple[int, ...] = each(3, integer(1, 16, default=8))
    width: float = real(0.05, 8.0, default=1.0)

    @classmethod
    def from_axes(cls, values, macs, shape):
        made = cls(stages=(8, values["stages.1"], 8))
        return replace(made, width=math.sqrt(macs / macs_of(made, shape)))

    @classmethod
    def null_from_macs(cls, macs, shape):
        return replace(cls(), width=math.sqrt(macs / BASE))


class Ten:
    name, shape, metrics = "ten", SHAPE, ("top1",)

    def size(self, split):
        return 1500


PLANTED = {
    "depth": lambda c: 11 * c**0.35,
    "stages.1": lambda c: 11 * c**0.35,
    "heads": lambda c: 14 * c**0.25,
}


def macs_of(candidate, shape):
    flat = candidate.flat()
    size = flat["stages.1"] / 8 if "stages.1" in flat else flat["depth"] * flat["heads"] / 80
    return round(BASE * size * flat["width"] ** 2)


def run_of(space, n=120, seed=1, path=Path("runs/any")):
    rng, trials = np.random.default_rng(seed), []
    while len(trials) < n:
        flat = {name: d.sample(rng) for name, d in space.domains().items() if name != "width"}
        c = math.exp(rng.uniform(math.log(0.05), 0))
        made = space.from_flat(flat)
        width = math.sqrt(c * BASE / macs_of(made, SHAPE))
        made = replace(made, width=width)
        lost = sum(20 * math.log(flat[a] / PLANTED[a](c)) ** 2 for a in space.axes)
        top1 = rng.binomial(1500, max(0.02, (88 + 8 * math.log10(c) - lost) / 100)) / 15
        values = {"top1": top1, "macs": macs_of(made, SHAPE)}
        trials.append(
            Trial(
                number=len(trials),
                space=space.name,
                candidate=made.values(),
                key=made.key(SHAPE),
                state=State.COMPLETE,
                rungs=(RungScore(0, 900, values),),
                card={"macs": values["macs"], "unpriced": []},
            )
        )
    study = Study(
        name="any",
        desc="A test.",
        space=space.name,
        task="ten",
        objectives={"top1": "maximize", "macs": "minimize"},
        fidelity=Fidelity(full=900, rungs=1),
    )
    return Snapshot("any", path, study, tuple(trials))


@pytest.mark.parametrize("space", [Whole, Single, Staged])
def test_a_rule_over_other_axes_works_from_record_to_figure(space, tmp_path):
    run = run_of(space, path=tmp_path)
    found = rule(run, space, Ten(), macs_of)
    assert found.refused is None
    at = found.predict(0.4 * BASE)
    for axis in space.axes:
        assert at[axis]["low"] <= PLANTED[axis](0.4) <= at[axis]["high"]
    for row in scale(found, [1_500_000, 4_000_000, 8_000_000]):
        made = space.from_json(row["candidate"])
        assert macs_of(made, SHAPE) == pytest.approx(row["budget"], rel=0.03)
        for axis in space.axes:
            taken = made.flat()[axis]
            assert type(taken) is int
            assert taken == row["axes"][axis]["taken"]
            assert row["null"]["axes"][axis] == space().flat()[axis]
    (tmp_path / "rule.json").write_text(json.dumps(found.to_json(), allow_nan=False))
    info = scaling_rule.collect(run)
    assert [p.name for p in info.panels][: len(space.axes)] == list(space.axes)
    assert info.panels[0].curves[0].name == "best score"
    assert "held out: smallest third" in info.panels[0].says
    assert scaling_rule.figure(run, run.study).data
    told = sentences(found)
    assert "held out, smallest third of the points" in told
    assert "resamples of architectures" in told


def test_the_figure_draws_the_very_interval_that_is_stated(tmp_path):
    run = run_of(Single, path=tmp_path)
    found = rule(run, Single, Ten(), macs_of)
    (tmp_path / "rule.json").write_text(json.dumps(found.to_json()))
    drawn = scaling_rule.collect(run).panels[0].curves[0]
    for c, mean, low, high in zip(drawn.c, drawn.mean, drawn.low, drawn.high, strict=True):
        if found.fault(c * BASE) is None:
            stated = found.predict(c * BASE)["depth"]
            assert (mean, low, high) == pytest.approx(
                (stated["value"], stated["low"], stated["high"])
            )


def test_an_axis_that_the_study_fixes_keeps_its_value():
    run = run_of(Single)  # its scores go by depth alone
    run = replace(run, study=run.study.model_copy(update={"fix": {"heads": 10}}))
    kept = tuple(replace(t, candidate={**t.candidate, "heads": 10}) for t in run.trials)
    found = rule(replace(run, trials=kept), Whole, Ten(), macs_of)
    at = found.predict(0.4 * BASE)["heads"]
    assert at == {"value": 10, "low": 10, "high": 10}
    assert scale(found, [4_000_000])[0]["candidate"]["heads"] == 10


def test_an_axis_that_is_no_number_is_refused_in_one_line():
    class Worded(Space):
        name = "worded"
        axes = ("act",)
        act: str = choice("relu", "silu", default="relu")
        width: float = real(0.05, 8.0, default=1.0)

    class Several(Staged):
        name = "several"
        axes = ("stages",)

    with pytest.raises(SpaceError, match="axis 'act' of space 'worded' is no number: name integer"):
        rule(run_of(Single), Worded, Ten(), lambda candidate, shape: BASE)
    with pytest.raises(SpaceError, match=r"no single field .* such as 'stages\.0'"):
        rule(run_of(Single), Several, Ten(), lambda candidate, shape: BASE)


def test_too_few_trials_for_the_axes_are_refused_with_the_number_needed():
    found = rule(run_of(Whole, n=19), Whole, Ten(), macs_of)
    assert "19 trials are at full fidelity, and a rule over 2 axes needs 20" in found.refused


def test_held_out_budgets_are_predicted_without_any_trial_from_there():
    run = run_of(Single)
    found = rule(run, Single, Ten(), macs_of)
    held = found.fits["depth"]["crest"].held_out
    assert set(held) == {
        "smallest tenth", "largest tenth", "smallest third", "largest third",
    }  # fmt: skip
    third = held["smallest third"]
    assert third["points"] == len(found.points) // 3
    assert third["low"] == found.points[0].c
    # The same prediction from a record that never had those trials.
    later = [t for t in run.trials if t.card["macs"] / BASE > third["high"] * (1 + 1e-9)]
    alone = rule(replace(run, trials=tuple(later)), Single, Ten(), macs_of)
    points = found.points[: int(third["points"])]
    x = np.log([p.c for p in points])
    off = alone.crest.bands(x)[0].mean - [p.axes["depth"] for p in points]
    assert third["error"] == pytest.approx(math.sqrt(np.mean(np.square(off))), rel=0.05)
