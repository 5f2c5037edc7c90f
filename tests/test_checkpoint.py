"""Checkpoints: a resumed training is the uninterrupted one, and a kill leaves one to load."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nasx import checkpoint
from nasx.errors import NasxError
from nasx.recipe import Phase, Recipe, Step
from nasx.training import Training, deployed_network, load_deployed, load_trained
from rich_recipe import Rich
from tiny import Net, Tiny, TinyDigits, finish

torch.set_num_threads(1)
TASK = TinyDigits()


def training(candidate: Tiny | None = None, full: int = 500, seed: int = 0) -> Training:
    return Training(candidate or Rich(), TASK, full=full, seed=seed)


def same(a: Any, b: Any) -> bool:
    """Compare nested values, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def everything(it: Training) -> list[Any]:
    """Return all that two equal trainings have in common."""
    return [
        dict(it.model.state_dict()),
        dict(it.state.companions["teacher"].state_dict()) if it.state.companions else {},
        it.curve,
        it.losses.sums,
        it.state.decisions,
        it.state.notes,
        it.state.generator.get_state(),
        it.random.state,
        [step.optimizer.state_dict() for step in it.steps],
        [m.training for m in it.model.modules()],
        [p.requires_grad for p in it.model.parameters()],
        it.order.where(),
        it.score(),
    ]


# In a cycle's first half, at its end, at a phase's end before an event, in a phase's middle, at
# the smaller last batches, at the end.
@pytest.mark.parametrize("cut", [32, 64, 200, 264, 460, 500])
def test_a_killed_and_resumed_training_is_the_uninterrupted_one(cut: int, tmp_path: Path) -> None:
    whole, first = finish(training()), finish(training(), cut)
    before = copy.deepcopy(everything(first))
    first.save(tmp_path / "c")
    assert same(everything(first), before)
    torch.manual_seed(cut)
    resumed = training()
    resumed.load(tmp_path / "c")
    assert resumed.samples == first.samples >= cut
    assert same(everything(resumed), before)
    assert same(everything(finish(resumed)), everything(whole))


def test_an_epoch_is_gone_on_with_where_it_stood(tmp_path: Path) -> None:
    whole, first = finish(training(Tiny(), full=3000)), finish(training(Tiny(), full=3000), 1500)
    assert first.order.where() == {"view": "train", "size": 64, "epoch": 1, "index": 6}
    first.save(tmp_path / "c")
    resumed = training(Tiny(), full=3000)
    resumed.load(tmp_path / "c")
    assert same(everything(finish(resumed)), everything(whole))


def test_a_checkpoint_has_the_files_that_others_rely_on(tmp_path: Path) -> None:
    it = finish(training(), 300)
    it.save(tmp_path / "c")
    assert {p.name for p in (tmp_path / "c").iterdir()} == {
        "weights.safetensors", "training.pt", "state.json",
    }  # fmt: skip
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    assert state["samples"] == it.samples
    assert state["decisions"] == it.state.decisions
    assert state["key"] == Rich().key(TASK.shape)
    assert state["recipe"]["phases"][0]["steps"]["times"] == 2
    assert state["recipe"]["phases"][2]["steps"][0]["loss"] == "rich_recipe.teacher_loss"
    assert same(load_file(tmp_path / "c" / "weights.safetensors"), dict(it.model.state_dict()))


def test_trained_and_deployed_networks_are_read_back(tmp_path: Path) -> None:
    half, it = finish(training(), 300), finish(training())
    half.save(tmp_path / "half")
    it.save(tmp_path / "c")
    folder = tmp_path / "c"
    trained = load_trained(Rich(), TASK.shape, folder)
    assert same(dict(trained.state_dict()), dict(it.model.state_dict()))
    deployed = load_deployed(Rich(), TASK.shape, folder)
    assert same(dict(deployed.state_dict()), dict(it.deployed().state_dict()))
    assert not any(m.training for m in deployed.modules())
    for read in (deployed, deployed_network(Rich(), TASK, folder)):
        assert TASK.score(read, "valid", it.input) == it.score()
    unfinished = deployed_network(Rich(), TASK, tmp_path / "half")
    torch.testing.assert_close(unfinished.state_dict(), half.deployed().state_dict())
    with pytest.raises(NasxError, match="not finished"):
        load_deployed(Rich(), TASK.shape, tmp_path / "half")


def test_tied_weights_are_kept(tmp_path: Path) -> None:
    class TwoHeads(Net):
        def __init__(self) -> None:
            super().__init__(8)
            self.other = nn.Linear(8, 10)
            self.other.weight = self.head.weight

    class Tied(Tiny):
        name = "tied"

        def build(self, shape) -> nn.Module:
            return TwoHeads()

    it = finish(training(Tied(), 200), 128)
    it.save(tmp_path / "c")
    resumed = training(Tied(), 200)
    resumed.load(tmp_path / "c")
    assert resumed.model.other.weight is resumed.model.head.weight
    assert same(everything(finish(resumed)), everything(finish(it)))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: training(Rich(width=16)), "has key"),
        (lambda: training(seed=1), "has seed 0, the training 1"),
        (lambda: training(full=600), "has full 500, the training 600"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    other: Callable[[], Training], words: str, tmp_path: Path
) -> None:
    training().save(tmp_path / "c")
    with pytest.raises(NasxError, match=words):
        other().load(tmp_path / "c")


def test_a_checkpoint_of_another_candidate_is_not_read_back(tmp_path: Path) -> None:
    training().save(tmp_path / "c")
    with pytest.raises(NasxError, match="has key"):
        load_trained(Rich(width=16), TASK.shape, tmp_path / "c")


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "state.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    training().save(tmp_path / "c")
    (tmp_path / "c" / name).write_bytes(b"x" * 100)
    with pytest.raises(NasxError, match="cannot be read"):
        training().load(tmp_path / "c")


def test_a_recipe_that_changed_under_a_checkpoint_is_named(tmp_path: Path) -> None:
    class Changing(Tiny):
        name = "changing"
        steps = (Step(), Step())

        def recipe(self, shape) -> Recipe:
            return Recipe((Phase("x", 1.0, self.steps),))

    finish(training(Changing()), 64).save(tmp_path / "c")
    Changing.steps = (Step(),)
    with pytest.raises(NasxError, match="the recipe has other steps"):
        training(Changing()).load(tmp_path / "c")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(NasxError, match="there is no checkpoint here"):
        training().load(tmp_path / "c")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    training().save(tmp_path / "c")
    torch.save({"flags": Bomb()}, tmp_path / "c" / "training.pt")
    with pytest.raises(NasxError, match="cannot be read"):
        training().load(tmp_path / "c")
    assert not (tmp_path / "boom").exists()


def test_a_companion_that_the_recipe_does_not_make_is_named(tmp_path: Path) -> None:
    def add(state) -> None:
        state.companions["extra"] = Net(4)

    class Adding(Tiny):
        name = "adding"

        def recipe(self, shape) -> Recipe:
            return Recipe((Phase("x", 1.0, (Step(),), begin=add),))

    it = finish(training(Adding()), 64)
    it.save(tmp_path / "c")
    with pytest.raises(NasxError, match=r"\['extra'\]; let Recipe\.companions make"):
        training(Adding()).load(tmp_path / "c")


class Killed(BaseException):
    """Ends a save in the middle, as a kill does: nothing is cleaned up."""


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Raise before the file operation number `moment`."""
    count = [0]

    def watched(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] > moment:
                raise Killed
            return real(*args, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (os, "fsync"),
        (Path, "open"),
        (Path, "rename"),
        (Path, "mkdir"),
        (shutil, "rmtree"),
    ):
        watched(owner, name)


def test_a_kill_at_any_moment_of_a_save_leaves_a_checkpoint(tmp_path: Path) -> None:
    folder, old, new = tmp_path / "c", {"state.json": b"old"}, {"state.json": b"new"}
    seen, moment = [], 0
    while "done" not in seen:
        for place in tmp_path.iterdir():
            shutil.rmtree(place)
        checkpoint.replace_folder(folder, old)
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at(monkeypatch, moment)
            try:
                checkpoint.replace_folder(folder, new)
                seen.append("done")
            except Killed:
                pass
        seen.append((checkpoint.find(folder) / "state.json").read_text())
        checkpoint.replace_folder(folder, {"state.json": b"next"})  # whatever the kill left
        assert (checkpoint.find(folder) / "state.json").read_text() == "next"
        assert [p.name for p in tmp_path.iterdir()] == ["c"]
        moment += 1
    assert moment > 8
    order = [s for s in seen if s != "done"]
    assert order == sorted(order, reverse=True)  # the old one, from some moment on the new one
    assert {"old", "new"} == set(order)


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = training()
    it.save(tmp_path / "c")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        finish(it, 32).save(tmp_path / "c")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    resumed = training()
    resumed.load(tmp_path / "c")
    assert resumed.samples == 0
