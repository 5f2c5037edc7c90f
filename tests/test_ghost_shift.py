"""The ghost space: published sizes, a start from a dense network, what is learned and frozen."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.ops import count
from nasx.errors import SpaceError
from nasx.recipe import State, Step
from nasx.shape import TaskShape
from nasx.tasks.base import Batch
from search_spaces._ghosts import grouped, inherit, ordered
from search_spaces._layers.ghost_conv import GhostConv2d
from search_spaces._layers.shift import Ghosts, offsets
from search_spaces._sr_nets import Edsr
from search_spaces.ghost_shift import FROZEN, GhostShift

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ghost_shift.json").read_text())
SMALL = TaskShape("restore", (3, 12, 10), ("x2",))
DENSE = (1.0,) * 8


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(candidate: GhostShift, shape: TaskShape = SMALL, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return candidate.build(shape)


# -- what it costs ------------------------------------------------------------------------------


def test_published_points_are_the_golden_ones() -> None:
    """The contract counts them afresh; nothing is stated otherwise than here."""
    points = {p.name: p for p in GhostShift.published}
    for row in GOLDEN:
        name = f"{row['backbone']}_x{row['scale']}_ghost"
        assert points[name].macs == row["macs"]
        assert points[name].params == row["params_trained"] - 9 * row["layers"]
        trained = points[f"{name}_in_training"]
        assert (trained.params, trained.counted) == (row["params_trained"], "trained")


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["name"])
def test_sizes_agree_with_the_golden_ones_by_two_counters(row: Any) -> None:
    shape = TaskShape("restore", (3, *row["input"]), (f"x{row['scale']}",))
    candidate = GhostShift(backbone=row["backbone"])
    with torch.device("meta"):
        model = candidate.build(shape)
        x = torch.empty(1, *shape.input)
    assert sum(p.numel() for p in model.parameters()) == row["params_trained"]
    with torch.device("meta"):
        deployed = GhostShift(backbone=row["backbone"], mode="copy").build(shape)
    left = sum(p.numel() for p in deployed.parameters())
    assert row["params_trained"] - left == 9 * row["layers"]
    counter = FlopCounterMode(display=False)
    with counter:
        for layer in deployed.modules():  # `chosen` looks at values, which meta has not
            if isinstance(layer, Ghosts):
                layer.chosen = lambda: [4]  # type: ignore[method-assign]
        deployed(x)
    assert counter.get_total_flops() == 2 * row["macs"]


def test_half_of_the_maps_cut_46_percent_of_the_operations() -> None:
    points = {p.name: p for p in GhostShift.published}
    whole, half = points["edsr_x2"].macs, points["edsr_x2_ghost"].macs
    assert whole is not None
    assert half is not None
    assert round(100 * (1 - half / whole), 2) == 46.34


# -- keys ---------------------------------------------------------------------------------------


def test_what_changes_nothing_makes_no_other_candidate() -> None:
    def key(**fields: Any) -> str:
        return GhostShift(**fields).key(SMALL)

    assert key(ratio=DENSE) == key(ratio=DENSE, mode="copy", init="cluster", reach=2)
    assert key(mode="copy") == key(mode="copy", orientation="channel", reach=2, noise=0.2)
    assert key(mode="fixed") != key(mode="random") != key(mode="learned")
    assert key(rank="abs") != key()
    assert key(init="cluster") != key(init="cluster", dense_samples=400)
    assert GhostShift(init="cluster").needs(SMALL)["dense"].candidate == GhostShift(ratio=DENSE)
    assert GhostShift(ratio=DENSE, init="cluster").needs(SMALL) == {}


def test_the_control_copies_at_equal_cost() -> None:
    learned = GhostShift(ratio=(1.0, 0.25) * 4)
    control = learned.control(SMALL)
    assert control is not None
    x = torch.zeros(1, *SMALL.input)
    costs = {count(c.decide(built(c)), x).macs for c in (learned, control)}
    assert len(costs) == 1
    assert GhostShift(mode="depthwise").control(SMALL) is None
    assert learned.whole(SMALL) == GhostShift(ratio=DENSE)


# -- starting from a dense network --------------------------------------------------------------


def test_clusters_keep_one_filter_of_every_group_of_likes() -> None:
    middles = 5 * drawn(4, 3, 3, 3)
    filters = middles.repeat_interleave(2, 0) + 0.01 * drawn(8, 3, 3, 3, seed=1)
    stay, groups = grouped(filters, 4, seed=0)
    assert sorted(i // 2 for i in stay) == [0, 1, 2, 3]
    assert all(groups[i] == groups[i ^ 1] for i in range(8))
    order = ordered(filters, 4, "cluster", seed=0)
    assert sorted(order) == list(range(8))
    assert [i // 2 for i in order[:4]] == [i // 2 for i in order[4:]]  # each ghost beside its like


def test_equal_filters_and_drawn_orders_are_permutations() -> None:
    same = torch.ones(6, 2, 3, 3)
    for keep in (1, 2, 3, 5):
        stay, groups = grouped(same, keep, seed=0)
        assert len(set(stay)) == keep
        assert max(groups) < keep
        assert sorted(ordered(same, keep, "cluster", 0)) == list(range(6))
    assert sorted(ordered(same, 3, "random", 0)) == list(range(6))
    assert ordered(same, 3, "random", 0) == ordered(same, 3, "random", 0)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_network_in_another_order_of_channels_computes_the_same(shuffle: bool) -> None:
    """Every layer must take its inputs in the order that the one before it now gives them."""
    candidate = GhostShift(features=8)
    dense, ghosts = built(GhostShift(ratio=DENSE, features=8)), built(candidate, seed=1)
    dense.tail.weight.data.normal_(generator=torch.Generator().manual_seed(2))
    if shuffle:  # the published form enlarges by a convolution
        shape = TaskShape("restore", (3, 6, 5), ("x2",))
        dense = built(GhostShift(backbone="edsr_baseline", ratio=DENSE), shape)
        ghosts = built(GhostShift(backbone="edsr_baseline"), shape, seed=1)
    inherit(ghosts, dense, "cluster", 0)
    # Where the maps that were dropped are put back, the dense network comes out.
    whole = copy.deepcopy(ghosts)
    _restore(whole, dense)
    x = drawn(1, 3, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(whole(x), dense(x), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(ghosts.eval()(x), dense(x), rtol=1e-3, atol=1e-3)


def _restore(model: Edsr, dense: Edsr) -> None:
    """Replace every ghost layer by the dense one, in the order that the next layer expects."""
    stream = _order(model.head.weight, dense.head.weight)
    for mine, theirs in zip(model.body, dense.body, strict=True):
        if not hasattr(mine, "conv1"):
            continue
        inner = _order(mine.conv2.conv.weight, theirs.conv2.weight, of_inputs=True, at=stream)
        for name, rows, columns in (("conv1", inner, stream), ("conv2", stream, inner)):
            given = copy.deepcopy(getattr(theirs, name))
            given.weight.data = given.weight.data[rows][:, columns].clone()
            given.bias.data = given.bias.data[rows].clone()
            setattr(mine, name, given)


def _order(
    mine: Tensor, theirs: Tensor, *, of_inputs: bool = False, at: list[int] | None = None
) -> list[int]:
    """Return which of their channels stands where, by comparing weights."""
    if of_inputs:
        mine, theirs = mine.transpose(0, 1), theirs[at][: mine.shape[0]].transpose(0, 1)
    gap = (mine.flatten(1)[:, None] - theirs.flatten(1)[None]).abs().sum(-1)
    assert torch.equal(gap.min(1).values, torch.zeros(len(gap)))
    return [int(i) for i in gap.argmin(1)]


def test_ghosts_that_filter_start_as_copies_and_a_start_needs_its_network() -> None:
    dense = built(GhostShift(ratio=DENSE, features=8))
    found = []
    for mode in ("copy", "depthwise"):
        model = built(GhostShift(features=8, mode=mode), seed=3)
        inherit(model, dense, "cluster", 0)
        found.append(model.eval()(drawn(1, 3, 6, 5)))
    torch.testing.assert_close(*found)
    model = GhostShift(init="cluster", features=8)
    begin = model.recipe(SMALL).phases[0].begin
    assert begin is not None
    with pytest.raises(SpaceError, match="needs the trained dense network"):
        begin(_state(built(model)))


# -- training -----------------------------------------------------------------------------------


class Task:
    """The mean absolute error, and no data."""

    shape = SMALL

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return (output - batch.targets["image"]).abs().mean()


def _state(model: nn.Module) -> State:
    x = drawn(2, 3, 12, 10)
    batch = Batch(x, {"image": drawn(2, 3, 24, 20, seed=1)}, "x2")
    return State(model, Task(), SMALL.input, batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def test_orientations_have_a_rate_of_their_own_and_freeze_at_two_thirds() -> None:
    candidate = GhostShift(features=8, orientation_rate=0.1)
    state = _state(built(candidate).train())
    recipe = candidate.recipe(SMALL)
    assert recipe.comparable_from == FROZEN
    assert GhostShift(mode="copy").recipe(SMALL).comparable_from == 0
    (step,) = recipe.phases[0].steps  # type: ignore[misc]
    assert isinstance(step, Step)
    rest, logits = step.parameters(state)
    assert logits["lr"] == 0.1
    assert len(logits["params"]) == 8
    assert len(rest["params"]) + 8 == len(list(state.model.parameters()))
    scales = []
    for progress in (0.0, 0.3, 0.6, FROZEN, 0.9):
        state.progress = progress
        state.model.zero_grad()
        step.loss(state).backward()
        scales.append(state.notes["noise"])
        frozen = progress >= FROZEN
        assert all((p.grad is None) == frozen for p in logits["params"])
    assert scales[0] == 1.0
    assert scales == sorted(scales, reverse=True)
    assert 0.05 < scales[2] < 0.1
    assert scales[3:] == [0, 0]


def test_a_shift_that_helps_is_learned_through_the_whole_network() -> None:
    """The target is made by a twin whose orientations are known; only logits are trained."""
    candidate = GhostShift(features=8, orientation="channel", orientation_rate=0.1)
    model, twin = built(candidate), None
    model.tail.weight.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(5))
    twin = copy.deepcopy(model)
    layer, known = model.body[3].conv2, twin.body[3].conv2
    with torch.no_grad():
        for logits, wanted in ((known.logits, 1), (layer.logits, 7)):
            logits.zero_()
            logits[:, wanted] = 0.1
    layer.start.fill_(7)
    x = drawn(4, 3, 12, 12)
    with torch.no_grad():
        target = twin.eval()(x)
    optimizer = torch.optim.Adam([layer.logits], 0.1)
    layer.scale, layer.generator = 1.0, torch.Generator().manual_seed(0)
    for _ in range(60):
        loss = (model.train()(x) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert layer.chosen() == [1] * 4
    assert offsets(1)[1] == (-1, 0)
    deployed = candidate.decide(copy.deepcopy(model)).eval()
    assert sum(isinstance(m, GhostConv2d) for m in deployed.modules()) == 8
    found = candidate.diagnose(deployed, Task())  # type: ignore[arg-type]
    assert found["moved_percent"] == 100 * 4 / 32
    assert GhostShift(mode="copy").diagnose(deployed.head, Task()) == {}  # type: ignore[arg-type]
