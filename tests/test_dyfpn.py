"""The space of detectors that decide image by image: keys, sizes, training, what gates did."""

import copy
import itertools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasx.cost.ops import count
from nasx.published import compare_published
from nasx.recipe import Cycle, State
from nasx.relax import Schedule, weights
from nasx.shape import Boxes, TaskShape
from nasx.tasks.base import Batch
from search_spaces._gate_training import moving, within
from search_spaces._gated_nets import GatedDetector, gates_on
from search_spaces._gates import start_open
from search_spaces._necks import BRANCHES
from search_spaces.dyfpn import NAMES, DyFpn

torch.set_num_threads(1)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dyfpn.json").read_text())
SMALL = TaskShape("detect", (3, 48, 48), Boxes(10, (4, 8, 16)))
SLIM: dict[str, Any] = {"widen": 0.5, "out": 8}
NONE = (False,) * 4


def built(shape: TaskShape = SMALL, seed: int = 0, **fields: Any) -> Any:
    torch.manual_seed(seed)
    return DyFpn(**{**SLIM, **fields}).build(shape)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


class Made:
    """Images with a few boxes; the loss is the mean square of the answers."""

    name, shape, bins, metrics = "made", SMALL, (), ("ap50",)

    def __init__(self, small: list[int]) -> None:
        self.inputs, self.small = images(len(small)), small

    def batches(self, split: str, shape: Any, batch: int, **_: Any) -> Any:
        for start in range(0, len(self.small), batch):
            few = self.small[start : start + batch]
            tiny = torch.tensor([3.0, 1.0, 1.0, 9.0, 9.0])  # 8 x 8: under 16 x 16
            large = torch.tensor([3.0, 1.0, 1.0, 40.0, 40.0])
            boxes = [row for n in few for row in [tiny] * n + [large]]
            offsets = torch.tensor([0, *(n + 1 for n in few)]).cumsum(0)
            inputs = self.inputs[start : start + batch]
            yield Batch(inputs, {"boxes": torch.stack(boxes), "offsets": offsets})

    def loss(self, output: Tensor, batch: Batch) -> Tensor:
        return output.square().mean()


def state(model: nn.Module, task: Any) -> State:
    batch = next(task.batches("train", (3, 48, 48), 8))
    return State(model, task, (3, 48, 48), batch, torch.Generator().manual_seed(0))


# -- which network ------------------------------------------------------------------------------


def test_published_points_are_the_golden_ones_and_count_so() -> None:
    names = {
        "fpn": "fpn_1x1", "fpn_3x3": "fpn_3x3", "fpn_5x5": "fpn_5x5", "fpn_7x7": "fpn_7x7",
        "inception": "inception7", "skip_or_all": "inception7_plus_skip1x1",
    }  # fmt: skip
    points = {p.name: p for p in DyFpn.published}
    for size in ("1280x800", "1333x800"):
        for name, golden in names.items():
            point, row = points[f"{name}_{size}"], GOLDEN[size]["necks"][golden]
            assert (point.params, point.macs) == (row["neck_params"], row["neck_macs"])
            assert [m[1:] for m in point.shape.input] == [
                tuple(s) for s in GOLDEN[size]["level_sizes"]
            ]
        gate = sum(c * c // 4 + c // 4 * 2 for c in (256, 512, 1024, 2048))
        whole, gated = points[f"skip_or_all_{size}"], points[f"skip_or_all_cnn_a_{size}"]
        assert (whole.params or 0) + GOLDEN["gate_params"]["cnn_a_skip"] == gated.params
        assert (whole.macs or 0) + gate == gated.macs
    assert [row["said"] for row in compare_published(DyFpn)] == [""] * len(points)


def test_what_changes_nothing_makes_no_other_candidate() -> None:
    def key(**fields: Any) -> str:
        return DyFpn(**fields).key(SMALL)

    empty = dict.fromkeys(NAMES, NONE)
    assert key(neck="fpn") == key(neck="fpn", gate="random", alpha=0.7, strength=9.0, reduction=8)
    assert key(neck="inception", **empty) == key(neck="inception", **{**empty, "k1": (True,) * 4})
    last = {**empty, "k5": (False, False, False, True)}  # a fourth level, which is not there
    assert key(neck="inception", **empty) == key(neck="inception", **last)
    assert key(gate="none", alpha=0.7) == key(gate="none", per="batch", opened=0.0)
    assert key(gate="gru_up", reduction=8) == key(gate="gru_up")
    assert key(gate="random", opened=0.0, strength=3.0) == key(gate="random")
    assert key(gate="random", alpha=0.7) != key(gate="random")
    assert len({key(gate=g) for g in ("cnn_a", "cnn_b", "gru_up", "gru_down", "none")}) == 5


def test_a_level_without_branches_is_a_plain_lateral() -> None:
    empty = dict.fromkeys(NAMES, NONE)
    same, fpn = built(neck="inception", **empty), built(neck="fpn")
    assert same.state_dict().keys() == fpn.state_dict().keys()
    one = {**empty, "k3d2": (True, False, False, False)}
    assert built(neck="inception", **one).neck.plan.laterals == (((3, 2),), ((1, 1),), ((1, 1),))
    assert built(neck="skip", **empty).neck.plan.laterals == (((1, 1),),) * 3
    alone = built(neck="choose", **empty)  # nothing to choose between
    assert not isinstance(alone, GatedDetector)
    several = built(neck="choose", **{**empty, "k3": (True, False, True, True), "k1": (True,) * 4})
    assert several.gate_names == ("stride 4", "stride 16")
    assert several.paths(images(2)).shape == (2, 2)


def test_only_networks_with_a_choice_say_that_they_vary() -> None:
    for fields in ({"neck": "fpn"}, {"neck": "inception"}, {"gate": "none"}):
        assert not hasattr(built(**fields), "paths")
    model = built(neck="choose")
    assert model.ways == (7, 7, 7)
    assert model.gate_names == ("stride 4", "stride 8", "stride 16")


def test_work_falls_as_gates_close_and_never_exceeds_the_widest() -> None:
    model, x = built(gate="cnn_a").eval(), images(1)
    most = count(model.widest(), x).macs
    start_open(model.neck.gate, 50.0)
    assert count(model, x).macs == most
    macs = [most]
    for level in model.neck.gate.levels:
        with torch.no_grad():
            level[-1].bias.copy_(torch.tensor([50.0, -50.0]))
        macs.append(count(model, x).macs)
    assert [a - b for a, b in itertools.pairwise(macs)] == [
        sum(s * s for s, _ in BRANCHES) * c * 8 * side * side
        for c, side in zip((12, 16, 24), (12, 6, 3), strict=True)
    ]


def test_one_image_takes_less_time_as_gates_close() -> None:
    """All shut takes .43 of all open where this was written; the least of a few rounds decides."""
    shape = TaskShape("detect", (3, 96, 96), Boxes(10, (4, 8, 16)))
    networks = []
    for run in (50.0, -50.0):
        model = built(shape, widen=1.0, out=32).eval()
        start_open(model.neck.gate, run)
        networks.append(model)
    x, least = torch.rand(1, 3, 96, 96), [float("inf")] * 2
    with torch.no_grad():
        for _ in range(12):
            for i, model in enumerate(networks):
                model(x)
                began = time.thread_time()
                model(x)
                least[i] = min(least[i], time.thread_time() - began)
    assert least[1] < 0.8 * least[0]


def test_gate_cnn_b_refuses_maps_that_its_convolution_does_not_fit() -> None:
    tiny = TaskShape("detect", (3, 32, 32), Boxes(10, (4, 8, 16)))
    assert DyFpn(gate="cnn_b").refusal(SMALL) is None
    said = DyFpn(gate="cnn_b").refusal(tiny)
    assert said is not None
    assert "3 x 3" in said
    assert DyFpn(gate="cnn_a").refusal(tiny) is None


def test_the_backbone_reaches_down_to_the_last_stride_of_the_task() -> None:
    for strides in ((8, 16, 32), (2, 4), (16, 32, 64), (4, 8, 16, 32)):
        shape = TaskShape("detect", (3, 64, 64), Boxes(3, strides))
        assert DyFpn().refusal(shape) is None
        assert built(shape).eval()(torch.rand(1, 3, 64, 64)).shape[2] == 7
    for strides, said in (
        ((4, 8, 16, 32, 64), "5 levels"),
        ((4, 16), "do not double"),
        ((64, 128), "2 to 64"),
    ):
        found = DyFpn().refusal(TaskShape("detect", (3, 64, 64), Boxes(3, strides)))
        assert found is not None
        assert said in found


def test_the_control_spends_the_same_by_chance() -> None:
    candidate = DyFpn(alpha=0.3, strength=5.0)
    control = candidate.control(SMALL)
    assert control is not None
    assert (control.gate, control.alpha) == ("random", 0.3)
    a, b = (c.build(SMALL).widest() for c in (candidate, control))
    macs = [count(model, images(1)).macs for model in (a, b)]
    assert macs[1] == pytest.approx(macs[0], rel=0.02)
    assert DyFpn(neck="inception").control(SMALL) is None
    assert control.control(SMALL) is None


# -- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("neck", ["choose", "skip"])
def test_the_detection_loss_alone_trains_the_gate(neck: str) -> None:
    model, task = built(neck=neck).train(), Made([0, 1] * 4)
    now = state(model, task)
    budget = DyFpn(neck=neck, strength=0.1)._budget(model.neck.plan, SMALL)  # type: ignore[arg-type]
    silent = copy.copy(budget)
    object.__setattr__(silent, "strength", 0.0)
    within(silent, Schedule(1.0, 0.0))(now).backward()  # type: ignore[no-untyped-call]
    for last in model.neck.gate.lasts():
        assert float(last.weight.grad.abs().sum()) > 0
    assert 0 <= now.notes["spent"] <= 1


def test_the_budget_closes_and_opens_gates() -> None:
    """With nothing but the budget, the mean over images goes to the target from both sides."""
    for alpha, opened in ((0.2, 2.0), (0.8, 0.0)):
        candidate = DyFpn(**SLIM, alpha=alpha, opened=opened, strength=50.0, per="batch")
        torch.manual_seed(0)
        model: Any = candidate.build(SMALL)
        gate, budget = model.neck.gate, candidate._budget(model.neck.plan, SMALL)
        maps = [x.detach() for x in model.backbone(images(32))]
        optimizer = torch.optim.Adam(gate.parameters(), 0.02)
        generator, spent = torch.Generator().manual_seed(0), []
        for _ in range(150):
            optimizer.zero_grad()
            taken = [weights(x, "straight_through", generator=generator) for x in gate(maps)]
            budget.per_published_batch(taken).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            spent.append(float(budget.spent(taken).detach().mean()) / budget.most)
        assert sum(spent[-50:]) / 50 == pytest.approx(alpha, abs=0.12)


def test_alternation_moves_the_gates_or_the_rest() -> None:
    recipe = DyFpn(**SLIM, alternate=8).recipe(SMALL)
    (phase,) = recipe.phases
    assert isinstance(phase.steps, Cycle)
    assert phase.steps.times == 8
    model = built()
    now = state(model, Made([0] * 8))
    gate = {id(p) for p in model.neck.gate.parameters()}
    moved = [
        {id(p) for group in step.parameters(now) for p in group["params"]}
        for step in (*phase.steps.first, *phase.steps.second)
    ]
    assert moved[1] == gate
    assert moved[0] == {id(p) for p in model.parameters()} - gate


def test_every_parameter_is_moved_once_and_laterals_by_their_size() -> None:
    for fields in ({"neck": "fpn"}, {"neck": "choose"}, {"gate": "lstm_up"}, {"gate": "random"}):
        model = built(**fields)
        groups = list(moving("all", 0.01, 0.02)(state(model, Made([0] * 8))))
        ids = [id(p) for group in groups for p in group["params"]]
        assert sorted(ids) == sorted(id(p) for p in model.parameters())


def test_a_generator_decides_what_is_drawn_and_nothing_of_it_stays() -> None:
    losses = []
    for _ in range(2):
        model = built().train()
        now = state(model, Made([0] * 8))
        budget = DyFpn()._budget(model.neck.plan, SMALL)
        losses.append(float(within(budget, Schedule(1.0, 0.0))(now).detach()))
        copy.deepcopy(model)
    assert losses[0] == losses[1]


# -- what gates did -----------------------------------------------------------------------------


def test_diagnosis_counts_open_gates_and_correlates_them_with_small_objects() -> None:
    small = [0, 3, 0, 1, 2, 0, 4, 0]
    task: Any = Made(small)
    model = built().eval()
    budget = DyFpn(**SLIM)._budget(model.neck.plan, SMALL)
    opened = torch.tensor([[n > 0, True, False] for n in small]).long()
    model.paths = lambda inputs: opened  # type: ignore[method-assign]
    found = gates_on(model, task, budget)
    assert found["open_stride_4"] == 50
    assert (found["open_stride_8"], found["open_stride_16"]) == (100, 0)
    run = [level[1] for level in budget.costs]
    assert found["spent"] == pytest.approx(100 * (run[0] / 2 + run[1]) / sum(run))
    whole = count(built(neck="inception").neck, model.backbone(images(1))).macs
    shut = copy.deepcopy(model)
    start_open(shut.neck.gate, -50.0)
    least = count(shut.neck, model.backbone(images(1))).macs
    assert found["neck_macs"] == pytest.approx(100 * (least + run[0] / 2 + run[1]) / whole)
    pair = torch.stack([opened[:, 0].double(), torch.tensor(small).double()])
    assert found["small_r"] == pytest.approx(float(torch.corrcoef(pair)[0, 1]))
    model.paths = lambda inputs: torch.ones(8, 3, dtype=torch.int64)  # type: ignore[method-assign]
    assert gates_on(model, task, budget)["small_r"] == 0
