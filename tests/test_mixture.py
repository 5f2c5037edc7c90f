"""Phases that mix degradations: one for each batch, by weight, alike however training is cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasx import registry
from nasx.assets import Asset, load_assets
from nasx.cli import run as command
from nasx.contract import check
from nasx.errors import NasxError
from nasx.order import Order
from nasx.recipe import Phase, Recipe, Step
from nasx.shape import TaskShape
from nasx.tasks.base import Batch, answer, demand_view, heads_of
from nasx.tasks.mixture import crops_of, mixture, weights_of
from nasx.training import Training
from tiny import finish
from tinyrestore import Kept, Mixed, Named, Unseen

PATCH = (3, 16, 16)
VIEW = mixture(Mixed.weights)


def photos(**options: Any) -> Any:
    return registry.task({"name": "photos", "patch": 16, "patches": 96, **options})


@pytest.fixture(scope="module")
def x2() -> Any:
    return photos(patches=8000)


def drawn(task: Any, view: str, seed: int, batch: int = 8) -> list[Batch]:
    return list(task.batches(view, PATCH, batch, torch.Generator().manual_seed(seed), True))


names = st.sampled_from(["x2", "x3", "x4", "denoise", "denoise10", "denoise70", "derain"])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, st.floats(0, 1e9), min_size=1).filter(lambda w: any(w.values())))
def test_a_mixture_is_written_and_read_back(weights: dict[str, float]) -> None:
    for crops in (0, 64):
        view = mixture(weights, crops)
        assert weights_of(view) == {n: w for n, w in weights.items() if w > 0}
        assert crops_of(view) == crops


def test_wrong_mixtures_are_one_sentence_each() -> None:
    for weights, said in (
        ({"x2": -1.0}, "weight of 'x2' is -1.0"),
        ({"x2": float("nan")}, "give 0 or more"),
        ({}, "a mixture of nothing"),
        ({"x2": 0.0}, "above 0"),
        ({"x 2": 1.0}, "no name of a degradation"),
    ):
        with pytest.raises(NasxError, match=said):
            mixture(weights)
    with pytest.raises(NasxError, match="crops is -1; give a whole number"):
        mixture({"x2": 1.0}, crops=-1)
    for view in (
        "mixture: ",
        "mixture: x2 1.0; crops many",
        "mixture: x2",
        "mixture: x2 1.0, x2 2.0",
        "mixture: x2 0",
        "train",
    ):
        with pytest.raises(NasxError, match="is no mixture"):
            weights_of(view)


def test_degradations_are_drawn_by_weight_one_for_each_batch(x2: Any) -> None:
    heads = Counter(batch.head for batch in drawn(x2, VIEW, 0, 2))
    total, shares = sum(heads.values()), sum(Mixed.weights.values())
    assert total == x2.size(VIEW) // 2 == 4000
    for name, weight in Mixed.weights.items():
        share = weight / shares
        assert abs(heads[name] / total - share) < 5 * (share * (1 - share) / total) ** 0.5
    seen = {}
    for batch in drawn(photos(), VIEW, 1):
        scale = int(batch.head[1]) if batch.head[0] == "x" else 1
        assert batch.inputs.shape == (8, *PATCH)
        assert batch.targets["image"].shape == (8, 3, 16 * scale, 16 * scale)
        seen[batch.head] = batch
    noise = seen["denoise30"].inputs - seen["denoise30"].targets["image"]
    assert 18 < 255 * float(noise.std()) < 32  # cut off at black and white


def test_a_pass_of_a_mixture_is_decided_by_its_generator_alone() -> None:
    task = photos()
    once, again, other = (drawn(task, VIEW, seed) for seed in (0, 0, 1))
    assert [b.head for b in once] == [b.head for b in again] != [b.head for b in other]
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.inputs, b.inputs)
    plain = photos()
    before = drawn(plain, "train", 0)
    drawn(plain, VIEW, 0)
    for a, b in zip(before, drawn(plain, "train", 0), strict=True):
        assert torch.equal(a.inputs, b.inputs)
    assert plain.fingerprint() == photos().fingerprint()


@pytest.mark.parametrize("head", ["x2", "denoise30", "derain"])
def test_few_crops_are_the_same_ones_for_every_seed(head: str) -> None:
    task, view = photos(), mixture({head: 1.0}, crops=24)

    def pairs(seed: int) -> list[tuple[bytes, bytes]]:
        batches = list(task.batches(view, PATCH, 8, torch.Generator().manual_seed(seed)))
        rows = [(b.inputs[i], b.targets["image"][i]) for b in batches for i in range(8)]
        return [(a.numpy().tobytes(), b.numpy().tobytes()) for a, b in rows]

    one, other = pairs(0), pairs(1)
    assert len(one) == task.size(view) == 96
    assert set(Counter(one).values()) == {4}
    assert set(one) == set(other)
    assert one != other
    some = mixture({head: 1.0}, crops=8)
    few = {b.targets["image"].numpy().tobytes() for b in drawn(task, some, 0, 1)}
    assert 8 < len(few) <= 64  # turned and mirrored


def test_an_order_of_a_mixture_goes_on_bit_for_bit() -> None:
    task = photos()
    first = Order(task, PATCH, 7, augment=True)
    for _ in range(17):
        first.next(VIEW, 8)
    second = Order(task, PATCH, 7, augment=True)
    second.put_back(first.where())
    for _ in range(5):
        a, b = first.next(VIEW, 8), second.next(VIEW, 8)
        assert a.head == b.head
        assert torch.equal(a.inputs, b.inputs)


@pytest.mark.parametrize("cut", [48, 144])  # within the mixture, and behind it
def test_a_training_cut_in_a_mixture_goes_on_bit_for_bit(cut: int, tmp_path: Path) -> None:
    task = photos(degradations=["x2", "denoise30"])

    def training() -> Training:
        return Training(Mixed(width=8), task, full=192, seed=3)

    whole = finish(training())
    first = finish(training(), cut)
    first.save(tmp_path / "half")
    second = training()
    second.load(tmp_path / "half")
    finish(second)
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    moved = [h for h in Mixed.weights if whole.model.lasts[h].weight.abs().max() > 0]  # type: ignore[union-attr,operator,index]
    assert len(moved) > 2
    deployed = whole.deployed()
    assert heads_of(deployed) == ("x2", "denoise30")
    assert tuple(whole.score("valid")) == task.metrics


def test_a_network_of_many_heads_is_deployed_with_one() -> None:
    task = photos()
    training = finish(Training(Mixed(width=8), task, full=96, seed=0))
    assert heads_of(training.model) == tuple(Mixed.weights)
    deployed = training.deployed()
    assert heads_of(deployed) == ("x2",)
    batch = next(task.batches("valid", PATCH, 4))
    assert batch.head == "x2"
    answered = answer(deployed, batch, task.shape)
    assert torch.equal(answered, deployed(batch.inputs))
    assert torch.isfinite(torch.tensor(list(training.score("valid").values()))).all()


def test_a_head_that_was_not_trained_is_one_sentence() -> None:
    task, inputs = photos(), torch.zeros(1, *PATCH)
    for heads in (("x2", "denoise30"), ("x2",)):
        network = Named(4, heads, heads)
        with pytest.raises(NasxError, match="the network has no head 'x3', it was built for x2"):
            answer(network, Batch(inputs, {}, "x3"), task.shape)
    three = registry.task({"name": "photos", "degradations": ["x3"], "patch": 16})
    with pytest.raises(NasxError, match="has no head 'x3'"):
        three.score(Named(4, ("x2", "x4"), ("x2",)), "valid", PATCH)
    batch = Batch(inputs, {"image": torch.zeros(1, 3, 48, 48)}, "x3")
    with pytest.raises(NasxError, match="for x3 the network turns"):
        task.loss(torch.zeros(1, 3, 32, 32), batch)


class Heads(nn.Module):
    """Has heads that are no names: those of an attention."""

    heads = 4

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def test_a_number_of_heads_is_no_name() -> None:
    task = photos(degradations=["denoise30"])
    assert heads_of(Heads()) == ()
    inputs = torch.zeros(1, *PATCH)
    assert torch.equal(answer(Heads(), Batch(inputs, {}, "denoise30"), task.shape), inputs)


def test_views_that_a_task_does_not_know_are_one_sentence_each() -> None:
    task, digits = photos(), registry.task("digits")
    for one, view, said in (
        (task, "pretrain", "no data view 'pretrain' to train on; its phases may have 'train' or"),
        (task, "test", "no data view 'test' to train on"),
        (task, mixture({"x5": 1.0}), "there is no degradation 'x5'; valid are x2"),
        (task, mixture({"denoise5": 1.0}), "there is no degradation 'denoise5'"),
        (task, mixture({"denoise80": 1.0}), "there is no degradation 'denoise80'"),
        (digits, VIEW, "task 'digits' has no data view 'mixture: x2 1.0"),
        (digits, "valid", "its phases may have 'train'"),
    ):
        with pytest.raises(NasxError, match=said) as caught:
            demand_view(one, view)
        assert "\n" not in str(caught.value)
    with pytest.raises(NasxError, match="no degradation 'denoise80'"):
        Training(Unseen(), task, full=32, seed=0)


def test_a_study_with_a_view_that_is_not_there_is_refused_when_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(__file__).with_name("tinyrestore.py")
    text = (
        f"desc: What?\nspace: {place}:Unseen\ntask: {{name: photos, patch: 16}}\n"
        "objectives: {psnr: maximize, macs: minimize}\nfidelity: {full: 64, rungs: 1}\n"
        "search: {trials: 2}\n"
    )
    (tmp_path / "it.yaml").write_text(text)
    assert command(["validate", str(tmp_path / "it.yaml")]) == 2
    said = capsys.readouterr().err
    assert "the baseline of unseen cannot be trained" in said
    assert "no degradation 'denoise80'" in said


def test_an_asset_may_be_pre_trained_on_a_mixture_alone(tmp_path: Path) -> None:
    class Body(Mixed):
        name = "body"

        def recipe(self, shape: TaskShape) -> Recipe:
            return Recipe((Phase("mix", 1.0, (Step(),), VIEW),), 16)

    found = load_assets({"body": Asset(Body(width=4), 64)}, {}, tmp_path, photos())
    assert heads_of(found["body"]) == tuple(Mixed.weights)


def test_the_contract_knows_networks_of_more_heads_than_their_task() -> None:
    for heads in (("x2",), ("x2", "denoise")):
        assert check(Mixed, TaskShape("restore", (3, 16, 16), heads)) == []

    faults = check(Kept, TaskShape("restore", (3, 16, 16), ("x2",)))
    assert {f.part for f in faults} == {"decide"}
    assert "leaves heads of no use: drop x3" in faults[0].message
