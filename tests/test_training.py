"""The trainer: phases, steps, hooks, schedules, and what is scored."""

import copy
import math
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch import nn

from nasx.errors import NasxError
from nasx.recipe import Cycle, Phase, Recipe, State, Step, adamw, sgd, task_loss
from nasx.training import NotFinite, Training
from rich_recipe import Rich
from tiny import Net, Tiny, TinyDigits, finish

torch.set_num_threads(1)
TASK = TinyDigits()


def training(candidate: Tiny | None = None, full: int = 1000, seed: int = 0) -> Training:
    return Training(candidate or Tiny(), TASK, full=full, seed=seed)


def equal(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(v, two[k]) for k, v in one.items())


def space(phases: tuple[Phase, ...], batch: int = 50, **recipe) -> Tiny:
    """Return a tiny candidate with these phases."""

    class Given(Tiny):
        name = "given"

        def recipe(self, shape) -> Recipe:
            return Recipe(phases, batch=batch, **recipe)

    return Given()


def test_it_learns_and_scores_on_valid() -> None:
    it = training(Tiny(rate=0.02), full=6000)
    before = it.score()["top1"]
    finish(it)
    assert it.samples == 6000
    assert before < 40
    assert it.score()["top1"] > 60
    assert it.curve[-1]["loss"] < it.curve[0]["loss"] - 0.5


def test_the_last_batches_of_a_phase_split_what_is_left() -> None:
    it = training(full=1000)
    steps = [0, *it.run(1000)]
    sizes = [b - a for a, b in pairwise(steps)]
    assert sizes == [64] * 14 + [52, 52]
    assert training(full=65).order.size == 0
    assert list(training(full=65).run(65)) == [33, 65]
    assert list(training(full=20).run(99)) == [20]


def test_run_stops_at_the_first_batch_past_until_and_goes_on() -> None:
    it = training(full=1000)
    assert list(it.run(100)) == [64, 128]
    assert list(it.run(100)) == []
    assert next(it.run(1000)) == 192


def test_a_training_cut_into_segments_is_the_same() -> None:
    whole, cut = finish(training()), training()
    for until in (1, 300, 301, 1000):
        finish(cut, until)
        torch.rand(3)  # others may draw from torch's global generator
        cut.score()
    assert equal(whole.model, cut.model)
    assert whole.curve == cut.curve


def test_the_seed_alone_decides_weights_and_batches() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = finish(training(seed=3), 200)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal(one.model, finish(training(seed=3), 200).model)
    assert not equal(one.model, finish(training(seed=4), 200).model)


def test_progress_and_rates_are_set_before_every_step() -> None:
    seen: list[tuple[str, float, float]] = []

    def note(name: str):
        def loss(state: State):
            seen.append((name, state.progress, state.phase_progress))
            return task_loss(state)

        return loss

    steps = (Step(note("a"), factor=lambda p: 1 + p), Step(note("b")))
    it = training(space((Phase("x", 0.2, steps[:1]), Phase("y", 0.8, steps))))
    rates = [it.steps[0].rate for _ in it.run(1000) if it.steps]
    names = [name for name, _, _ in seen]
    assert names == ["a"] * 4 + ["a", "b"] * 16
    assert seen[1] == ("a", 0.05, 0.25)
    assert seen[-1] == ("b", 0.95, pytest.approx(750 / 800))
    assert rates[:3] == pytest.approx([3e-3, 3e-3 * 1.25, 3e-3 * 1.5])


def test_a_cycle_alternates_and_each_step_moves_only_its_own() -> None:
    body = Step(parameters=lambda s: s.model.features.parameters(), optimizer=sgd(0.1))
    head = Step(parameters=lambda s: s.model.head.parameters(), optimizer=sgd(0.1))
    it = training(space((Phase("x", 1.0, Cycle((body,), (head,), times=2)),)))
    moved, last = [], copy.deepcopy(it.model)
    for _ in it.run(400):
        parts = ("features.0", "head")
        moved.append([not equal(it.model.get_submodule(p), last.get_submodule(p)) for p in parts])
        last = copy.deepcopy(it.model)
    assert (
        moved
        == [[True, False]] * 2 + [[False, True]] * 2 + [[True, False]] * 2 + [[False, True]] * 2
    )


def test_an_event_may_return_another_network_and_the_next_phase_trains_it() -> None:
    it = training(Rich(), full=500)
    finish(it, 200)
    assert it.state.decisions["kept"] == sorted(it.state.decisions["kept"])
    assert it.model.head.in_features == 4
    before = copy.deepcopy(it.model)
    teacher = copy.deepcopy(it.state.companions["teacher"])
    finish(it)
    assert it.samples == 500
    assert not equal(it.model, before)
    assert not equal(it.state.companions["teacher"], teacher)
    assert it.model.head.weight.abs().max() <= 0.2
    assert {"samples", "loss", "lr", "loss.0", "loss.1", "distance"} == set(it.curve[-1])


def test_events_run_once_and_in_order_at_both_ends() -> None:
    called: list[str] = []

    def call(name: str):
        return lambda state: called.append(f"{name} {state.progress:g} {len(state.batch.inputs)}")

    phases = (
        Phase("first", 0.0, begin=call("begin 1"), end=call("end 1")),
        Phase("train", 1.0, (Step(),), begin=call("begin 2"), end=call("end 2")),
        Phase("last", 0.0, begin=call("begin 3"), end=call("end 3")),
    )
    it = training(space(phases), full=100)
    assert called == []
    finish(it)
    finish(it)
    assert called == [
        "begin 1 0 0", "end 1 0 0", "begin 2 0 0", "end 2 1 0", "begin 3 1 0", "end 3 1 0",
    ]  # fmt: skip


def test_a_phase_whose_share_is_less_than_a_sample_only_calls_its_hooks() -> None:
    called: list[str] = []
    phases = (
        Phase("short", 0.001, (Step(),), begin=lambda s: called.append("begin")),
        Phase("long", 0.999, (Step(),)),
    )
    finish(training(space(phases), full=100))
    assert called == ["begin"]


def test_the_gradient_is_clipped() -> None:
    norms = []

    def after(state: State) -> None:
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in state.model.parameters())))

    it = training(space((Phase("x", 1.0, (Step(clip=0.01, after=after),)),)))
    finish(it, 200)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_bad_loss_is_named_before_it_reaches_a_weight() -> None:
    def loss(state: State):
        return task_loss(state) * (math.nan if state.progress >= 0.2 else 1)

    phases = (Phase("warm", 0.1, (Step(),)), Phase("main", 0.9, (Step(), Step(loss))))
    it = training(space(phases))
    with pytest.raises(NotFinite, match=r"phase 'main', 200 samples seen: .*step 1 is nan"):
        finish(it)
    assert all(torch.isfinite(p).all() for p in it.model.parameters())


def test_a_training_that_diverges_is_refused() -> None:
    with pytest.raises(NotFinite):
        finish(training(Tiny(rate=1e9), full=5000)).score()


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ((Phase("x", 0.5, (Step(),)),), r"\[0.5\], must add up to 1"),
        ((Phase("x", 1.5, (Step(),)), Phase("y", -0.5)), "must add up to 1"),
        ((), "must add up to 1"),
        ((Phase("x", 1.0, (Step(parameters=lambda s: []),)),), "step 0 has no parameters"),
        ((Phase("x", 0.0, begin=lambda s: Net(4)), Phase("y", 1.0)), "note structural choices"),
        (
            (Phase("x", 0.0, begin=lambda s: s.decisions.update(a=Net)), Phase("y", 1.0)),
            "must be numbers, text",
        ),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused(phases: tuple[Phase, ...], words: str) -> None:
    with pytest.raises(NasxError, match=words):
        finish(training(space(phases)), 100)


def test_a_batch_larger_than_the_data_is_cut_and_no_data_is_named() -> None:
    it = training(space((Phase("x", 1.0, (Step(),)),), batch=5000), full=3000)
    assert next(it.run(3000)) == 1197

    class Empty(TinyDigits):
        spans: ClassVar = {"train": (0, 0)}

    with pytest.raises(NasxError, match="has no batch of 0 in 'train'"):
        finish(Training(Tiny(), Empty(), full=100, seed=0))


def test_the_curve_has_at_most_200_rows() -> None:
    it = finish(training(space((Phase("x", 1.0, (Step(),)),), batch=2), full=450))
    samples = [row["samples"] for row in it.curve]
    assert 150 < len(samples) <= 200
    assert samples[-1] == 450


def test_every_sample_comes_once_per_epoch() -> None:
    seen: list[int] = []

    def loss(state: State):
        seen.extend(state.batch.inputs.flatten(1).sum(1).mul(8).long().tolist())
        return task_loss(state)

    it = training(space((Phase("x", 1.0, (Step(loss),)),), batch=57, augment=False), full=2394)
    finish(it)
    epoch = len(seen) // 2
    assert epoch == 1197
    assert sorted(seen[:epoch]) == sorted(seen[epoch:])
    assert seen[:epoch] != seen[epoch:]


def test_parameter_groups_keep_their_own_rates() -> None:
    groups = [{"params": None, "lr": 0.5}, {"params": None}]

    def parameters(state: State):
        body, head = state.model.features.parameters(), state.model.head.parameters()
        return [{**groups[0], "params": list(body)}, {**groups[1], "params": list(head)}]

    step = Step(parameters=parameters, optimizer=adamw(0.01), factor=lambda p: 0.1)
    it = finish(training(space((Phase("x", 1.0, (step,)),))), 50)
    assert [g["lr"] for g in it.steps[0].optimizer.param_groups] == pytest.approx([0.05, 0.001])
