"""What a claim's arms become: networks, recipes, pairs; and what the shipped arms stand on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from made_record import study, trial
from nasx import registry
from nasx.claims.differences import differing, recipe_facts
from nasx.claims.front import followed
from nasx.claims.plan import altered, plan
from nasx.claims.reading import load
from nasx.errors import NasxError
from nasx.recipe import Phase, Recipe, Step, adamw, standard
from nasx.results.forms import gp
from nasx.results.verdict import cost_gap
from nasx.shape import TaskShape
from nasx.training import Training
from nasx.trial import Snapshot
from tiny import Tiny, TinyDigits


def test_an_arm_changes_its_recipe_under_a_key_of_its_own():
    shape = TaskShape("classify", (1, 8, 8), 10)
    plain = Tiny(width=4)
    changed = altered(plain, {"batch": 16, "augment": False})
    assert changed.recipe(shape).batch == 16
    assert changed.recipe(shape).augment is False
    assert plain.recipe(shape).batch == 64
    assert changed.key(shape) != plain.key(shape)
    assert altered(plain, {"batch": 16, "augment": False}).key(shape) == changed.key(shape)
    assert altered(plain, {}) is plain


def test_a_changed_candidate_travels_and_changes_again() -> None:
    import dataclasses

    from ray import cloudpickle

    shape = TaskShape("classify", (1, 8, 8), 10)
    changed = altered(Tiny(width=8), {"batch": 16}, 3200)
    twin = cloudpickle.loads(cloudpickle.dumps(changed))
    assert (twin.values(), twin.key(shape)) == (changed.values(), changed.key(shape))
    assert twin.recipe(shape).batch == 16
    fields = type(changed).__dataclass_fields__.values()
    assert all(field.default_factory is dataclasses.MISSING for field in fields)
    assert altered(changed, {"batch": 16}, 3200).key(shape) == changed.key(shape)


def test_a_seed_gives_both_arms_the_same_order_and_initial_weights():
    def begun(seed: int, changes: dict[str, object]) -> tuple[Tensor, Tensor]:
        arm = altered(Tiny(width=4), changes)
        training = Training(arm, TinyDigits(), full=256, seed=seed)
        weight = training.model.head.weight.detach().clone()
        next(iter(training.run(256)))
        return weight, training.state.batch.targets["label"]

    ours, theirs, other = begun(3, {}), begun(3, {"augment": False}), begun(4, {})
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert not torch.equal(ours[0], other[0])
    assert not torch.equal(ours[1], other[1])


def test_a_recipe_is_compared_down_to_what_its_functions_hold():
    a = recipe_facts(standard(lr=0.1))
    b = recipe_facts(standard(lr=0.2))
    assert {k for k in a if a[k] != b[k]} == {"optimizer.lr"}
    assert a == recipe_facts(standard(lr=0.1))
    two = Recipe((Phase("x", 0.5, (Step(),)), Phase("y", 0.5, (Step(optimizer=adamw(1.0)),))))
    assert recipe_facts(two)["y.optimizer.lr"] == 1.0


def test_values_hidden_in_objects_methods_and_defaults_are_compared_too():
    class Rate:
        def __init__(self, lr):
            self.lr = lr

        def __call__(self, parameters):
            return torch.optim.SGD(parameters, self.lr)

        def made(self, parameters):
            return self(parameters)

    def default(rate):
        return lambda parameters, lr=rate: torch.optim.SGD(parameters, lr)

    for made in (Rate, lambda lr: Rate(lr).made, default):
        facts = [recipe_facts(replaced(standard(lr=1.0), made(lr))) for lr in (0.1, 0.2)]
        unlike = {k for k in facts[0] if facts[0][k] != facts[1][k]}
        assert unlike
        assert all(name.endswith("lr") for name in unlike)


def replaced(recipe, optimizer):
    phase = recipe.phases[0]
    steps = tuple(replace(step, optimizer=optimizer) for step in phase.steps)
    return replace(recipe, phases=(replace(phase, steps=steps),))


def test_the_tiny_arm_is_the_tiny_formula_through_the_published_nets():
    points = registry.space("tinynet").published
    b0 = points[0].macs
    x = np.log([p.macs / b0 for p in points[1:]])
    for name in ("tinynet", "tinynet_cifar"):
        arm = load(name, ["task=digits-in-photos"]).arms["tiny"]
        for axis in ("r", "d"):
            fit = gp(x, np.array([p.candidate[axis] for p in points[1:]]))
            formula = fit.predict(np.log([0.06, 0.12, 0.25])).mean
            written = [arm.at[c][axis] for c in ("c06", "c12", "c25")]
            assert written == pytest.approx(formula, abs=6e-4), (name, axis)


@pytest.mark.parametrize(("name", "side"), [("tinynet", 64), ("tinynet_cifar", 32)])
def test_the_first_claims_are_matched_and_declare_all(name, side):
    claim = load(name, ["task=digits-in-photos"])
    shape = TaskShape("classify", (3, side, side), 10)
    planned = plan(claim, shape, lambda c: c.macs(shape))
    base = planned[0].candidate.base
    for first, second in zip(planned[::2], planned[1::2], strict=True):
        assert (first.arm, second.arm) == ("tiny", "compound")
        a, b = first.candidate.macs(shape), second.candidate.macs(shape)
        assert cost_gap(a, b) <= 0.03
        assert set(differing(first, second, shape)) <= set(claim.differ)
        assert first.candidate.base == second.candidate.base == base
    assert claim.hours <= 3


def test_what_a_front_says_of_the_axes(tmp_path):
    asked = study(objectives={"top1": "maximize", "macs": "minimize"}, constraints={})
    trials = tuple(
        trial(i, 50.0 + 5 * i, 1e5 * 2**i, candidate={"r": 0.5 + 0.1 * i, "d": 1.5 - 0.1 * i})
        for i in range(6)
    )
    found = followed(Snapshot("made", tmp_path, asked, trials))
    assert (found["points"], found["run"]) == (6, str(tmp_path))
    assert found["correlations"]["r"]["rho"] == pytest.approx(1.0)
    assert found["correlations"]["d"]["rho"] == pytest.approx(-1.0)
    with pytest.raises(NasxError, match="its front has 3 points, too few for a correlation"):
        followed(Snapshot("made", tmp_path, asked, trials[:3]))
