"""Feature pyramids: published sizes, what gates do to outputs and gradients, and the budget."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nasx.cost.ops import count
from search_spaces._budget import Budget
from search_spaces._gates import GateKind, even_odds, gate_of, start_open
from search_spaces._necks import BRANCHES, Kernel, Neck, NeckPlan, Way

GOLDEN = json.loads((Path(__file__).parent / "golden" / "dyfpn.json").read_text())
RESNET, OUT = (256, 512, 1024, 2048), 256
SIZES = ("1280x800", "1333x800")
NECKS: dict[str, tuple[tuple[Kernel, ...], Way]] = {
    "fpn_1x1": (((1, 1),), "all"),
    "fpn_3x3": (((3, 1),), "all"),
    "fpn_5x5": (((5, 1),), "all"),
    "fpn_7x7": (((7, 1),), "all"),
    "conv13": (((1, 1), (3, 1)), "all"),
    "inception7": (BRANCHES, "all"),
    "inception7_plus_skip1x1": (BRANCHES, "skip"),
}
KINDS: tuple[GateKind, ...] = (
    "cnn_a", "cnn_b", "gru_up", "gru_down", "lstm_up", "lstm_down", "random"
)  # fmt: skip
CHANNELS, SIDES = (6, 8, 10), (12, 6, 3)
THREE: tuple[Kernel, ...] = ((1, 1), (3, 2), (5, 1))


def made(way: Way, kind: GateKind | None = "cnn_a", seed: int = 0) -> Neck:
    torch.manual_seed(seed)
    plan = NeckPlan(CHANNELS, 8, (THREE,) * 3, way)
    odds = [even_odds(c, 0.5) for c in plan.costs([s * s for s in SIDES])]
    gate = None if kind is None else gate_of(kind, CHANNELS, plan.ways, odds=odds)
    return Neck(plan, gate)


def maps(n: int = 5, seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    sizes = zip(CHANNELS, SIDES, strict=True)
    return [torch.randn(n, c, s, s, generator=g) for c, s in sizes]


# -- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NECKS)
def test_necks_have_the_golden_size_by_two_counters(name: str, size: str) -> None:
    kernels, way = NECKS[name]
    golden = GOLDEN[size]["necks"][name]
    with torch.device("meta"):
        neck = Neck(NeckPlan(RESNET, OUT, (kernels,) * 4, way))
        sizes = zip(RESNET, GOLDEN[size]["level_sizes"], strict=True)
        features = [torch.empty(1, c, *side) for c, side in sizes]
    assert sum(p.numel() for p in neck.parameters()) == golden["neck_params"]
    assert sum(p.numel() for p in neck.laterals.parameters()) == golden["lateral_params"]
    ours = count(neck, features)
    assert ours.macs == golden["neck_macs"]
    laterals = sum(
        layer.ops.macs for name, layer in ours.by_layer.items() if name.startswith("laterals")
    )
    assert laterals == golden["lateral_macs"]
    counter = FlopCounterMode(display=False)
    with counter:
        neck(features)
    assert counter.get_total_flops() == 2 * golden["neck_macs"]


@pytest.mark.parametrize("size", SIZES)
def test_costs_of_the_ways_are_the_golden_ones(size: str) -> None:
    areas = [h * w for h, w in GOLDEN[size]["level_sizes"]]
    branches = [tuple(map(float, row)) for row in GOLDEN[size]["branch_macs"].values()]
    choose = NeckPlan(RESNET, OUT, (BRANCHES,) * 4, "choose")
    assert list(choose.costs(areas)) == branches
    skip = NeckPlan(RESNET, OUT, (BRANCHES,) * 4, "skip")
    assert list(skip.costs(areas)) == [(0.0, sum(row)) for row in branches]


@pytest.mark.parametrize(
    ("kind", "way", "golden"),
    [
        ("cnn_a", "skip", "cnn_a_skip"),
        ("cnn_a", "choose", "cnn_a_choose"),
        ("cnn_b", "skip", "cnn_b_skip"),
        ("gru_down", "choose", "gru_choose"),
        ("gru_up", "choose", "gru_choose"),
    ],
)
def test_gates_have_the_golden_size(kind: GateKind, way: Way, golden: str) -> None:
    plan = NeckPlan(RESNET, OUT, (BRANCHES,) * 4, way)
    with torch.device("meta"):
        gate = gate_of(kind, RESNET, plan.ways)
    assert sum(p.numel() for p in gate.parameters()) == GOLDEN["gate_params"][golden]


def test_recurrent_gates_are_those_of_torch_run_over_the_levels() -> None:
    """The same weights in nn.GRU and nn.LSTM give the same logits, in the order of the levels."""
    x = maps()
    for cell in ("gru", "lstm"):
        for way, turn in (("up", 1), ("down", -1)):
            torch.manual_seed(3)
            gate: Any = gate_of(f"{cell}_{way}", CHANNELS, (2, 2, 2))  # type: ignore[arg-type]
            reference: Any = (nn.GRU if cell == "gru" else nn.LSTM)(16, 16)
            reference.load_state_dict({f"{k}_l0": v for k, v in gate.cell.state_dict().items()})
            steps = [enter(one.mean((2, 3))) for enter, one in zip(gate.enter, x, strict=True)]
            states, _ = reference(torch.stack(steps[::turn]))
            wanted = [gate.leave(state) for state in states][::turn]
            torch.testing.assert_close(gate(x), wanted)


# -- what they compute --------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", BRANCHES)
def test_a_pyramid_of_one_kernel_is_the_formula(kernel: Kernel) -> None:
    torch.manual_seed(0)
    neck, x = Neck(NeckPlan(CHANNELS, 8, ((kernel,),) * 3)), maps(2)
    side, dilation = kernel
    inner: list[Tensor] = []
    for lateral, one in zip(neck.laterals, x, strict=True):
        conv: Any = lateral.branches[0]  # type: ignore[union-attr,index]
        pad = side // 2 * dilation
        inner.append(F.conv2d(one, conv.weight, conv.bias, padding=pad, dilation=dilation))
    inner[1] = inner[1] + inner[2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    inner[0] = inner[0] + inner[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    wanted = [
        F.conv2d(one, out.weight, out.bias, padding=1)  # type: ignore[arg-type]
        for out, one in zip(neck.outputs, inner, strict=True)
    ]
    torch.testing.assert_close(neck(x), wanted)


def test_an_inception_lateral_is_the_sum_of_its_branches() -> None:
    neck, x = made("all", None), maps(2)
    for lateral, one in zip(neck.laterals, x, strict=True):
        each = [branch(one) for branch in lateral.branches]  # type: ignore[union-attr]
        torch.testing.assert_close(lateral(one), torch.stack(each).sum(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["choose", "skip"])
def test_every_image_gets_what_it_chose_whatever_the_batch(kind: GateKind, way: Way) -> None:
    neck, x = made(way, kind).eval(), maps(8)
    paths = neck.paths(x)
    assert paths.shape == (8, 3)
    assert paths.dtype == torch.int64
    together = neck(x)
    torch.testing.assert_close(neck(x), together, rtol=0, atol=0)  # nothing is drawn
    for i in range(8):
        alone = neck([one[i : i + 1] for one in x])
        torch.testing.assert_close(alone, [one[i : i + 1] for one in together])
        torch.testing.assert_close(alone, _by_hand(neck, [one[i : i + 1] for one in x], paths[i]))


def _by_hand(neck: Neck, x: list[Tensor], path: Tensor) -> list[Tensor]:
    """Return the pyramid of one image whose laterals are put together from its path."""
    plain = Neck(NeckPlan(CHANNELS, 8, (THREE,) * 3))
    plain.outputs = neck.outputs
    found = []
    for lateral, one, taken in zip(neck.laterals, x, path.tolist(), strict=True):
        layer: Any = lateral
        if neck.plan.way == "choose":
            found.append(layer.branches[taken](one))
        else:
            every = sum(branch(one) for branch in layer.run.branches)
            found.append(layer.skip(one) + (every if taken else 0))
    plain.laterals = nn.ModuleList(_Given(one) for one in found)
    return plain(x)


class _Given(nn.Module):
    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        return self.answer


@pytest.mark.parametrize("kind", ["cnn_a", "cnn_b", "gru_up", "gru_down", "lstm_up", "lstm_down"])
@pytest.mark.parametrize("way", ["choose", "skip"])
def test_a_loss_on_the_maps_reaches_the_gate(kind: GateKind, way: Way) -> None:
    """Also where every gate is closed: what it kept away is its gradient."""
    neck = made(way, kind).train()
    assert neck.gate is not None
    if way == "skip":
        for last in neck.gate.lasts():
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.copy_(torch.tensor([5.0, 0.0]))  # closed
    sum(one.square().mean() for one in neck(maps())).backward()  # type: ignore[union-attr]
    for last in neck.gate.lasts():
        assert last.bias.grad is not None
        assert last.bias.grad.abs().min() > 0
    assert all(p.grad is not None for p in neck.parameters())


def test_closed_gates_leave_the_skip_and_compute_nothing_else() -> None:
    neck = made("skip").eval()
    assert neck.gate is not None
    start_open(neck.gate, -50.0)
    closed = count(neck, maps(1)).macs
    start_open(neck.gate, 50.0)
    opened = count(neck, maps(1)).macs
    budget = neck.plan.costs([s * s for s in SIDES])
    assert opened - closed == sum(run for _, run in budget)
    assert count(neck.widest(), maps(1)).macs == opened
    torch.testing.assert_close(neck.widest()(maps()), neck(maps()))


def test_the_widest_of_a_choice_runs_the_dearest_branch() -> None:
    neck = made("choose")
    wide = neck.widest().eval()
    every = sum(max(costs) for costs in neck.plan.costs([s * s for s in SIDES]))
    rest = made("all", None)
    around = count(rest, maps(1)).macs - sum(
        sum(costs) for costs in neck.plan.costs([s * s for s in SIDES])
    )
    assert neck.gate is not None
    gate = count(neck.gate, maps(1)).macs
    assert count(wide, maps(1)).macs == around + every + gate


def test_noise_is_drawn_only_while_watched_and_from_the_generator() -> None:
    neck, x = made("skip").train(), maps(64)
    quiet = [one.detach() for one in neck(x)]
    torch.testing.assert_close([one.detach() for one in neck(x)], quiet, rtol=0, atol=0)
    drawn = []
    for _ in range(2):
        with neck.watched(torch.Generator().manual_seed(7)) as taken:
            neck(x)
            drawn.append([p.detach().clone() for p in taken])
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))
    assert any(len(p.unique(dim=0)) == 2 for p in drawn[0])
    copy.deepcopy(neck)  # nothing of a graph is left behind


# -- odds and starts ----------------------------------------------------------------------------


def test_even_odds_spend_the_share_and_are_even_where_that_is_the_mean() -> None:
    costs = [8.0, 71.7, 71.7, 71.7, 199.2, 199.2, 199.2]
    for alpha in (0.05, 0.4, 0.8):
        odds = even_odds(costs, alpha)
        spent = sum(p * c for p, c in zip(odds, costs, strict=True))
        assert sum(odds) == pytest.approx(1)
        assert spent == pytest.approx(8 + alpha * 191.2)
    mean = (sum(costs) / 7 - 8) / 191.2
    assert even_odds(costs, mean) == pytest.approx([1 / 7] * 7)
    assert even_odds([0.0, 5.0], 0.3) == pytest.approx([0.7, 0.3])


def test_a_random_gate_opens_at_its_odds_in_training_and_in_evaluation() -> None:
    gate = gate_of("random", (16,), (2,), odds=[[0.7, 0.3]])
    g = torch.Generator().manual_seed(0)
    x = 3 + torch.randn(4000, 16, 1, 1, generator=g)  # means as after a ReLU
    plan = NeckPlan((16,), 4, (THREE,), "skip")
    neck = Neck(plan, gate)
    with neck.watched(g) as taken, torch.no_grad():
        neck.train()([x])
        drawn = taken[0][:, 1].mean()
    rates = [float(drawn), float(neck.eval().paths([x]).double().mean())]
    assert rates == pytest.approx([0.3, 0.3], abs=0.03)  # four standard errors


def test_a_gate_starts_open_at_the_released_odds() -> None:
    neck = made("skip")
    assert neck.gate is not None
    start_open(neck.gate, 2.0)
    for last in neck.gate.lasts():
        nn.init.zeros_(last.weight)
    logits = torch.cat(list(neck.gate(maps(1))))
    assert torch.softmax(logits, -1)[:, 1].tolist() == pytest.approx([0.8699] * 3, abs=1e-4)


# -- the budget ---------------------------------------------------------------------------------


def golden_budget(way: str, alpha: float, strength: float = 1.0) -> Budget:
    costs = GOLDEN["budget"][f"{way}_costs"]
    levels = costs if way == "choose" else [(0.0, run) for run in costs]
    return Budget(tuple(tuple(map(float, level)) for level in levels), alpha, strength)


def all_at(index: int, ways: int, n: int = 1, levels: int = 4) -> list[Tensor]:
    return [F.one_hot(torch.full((n,), index), ways).float()] * levels


@pytest.mark.parametrize(("way", "letter"), [("choose", "A"), ("skip", "B")])
def test_targets_are_those_of_the_released_code(way: str, letter: str) -> None:
    most, least = GOLDEN["budget"][f"{way}_most_least"]
    for alpha, target in GOLDEN["budget"]["targets"][letter].items():
        budget = golden_budget(way, float(alpha))
        assert (budget.most, budget.least) == pytest.approx((most, least))
        assert budget.target == pytest.approx(target)


def test_losses_are_those_of_the_released_code() -> None:
    largest = golden_budget("choose", 0.5, strength=3.0)
    assert float(largest.spent(all_at(6, 7))) == pytest.approx(373.5)
    assert float(largest.loss(all_at(6, 7))) == pytest.approx(3 * 0.25)
    assert float(largest.loss(all_at(6, 7, n=4))) == pytest.approx(4 * 3 * 0.25)
    assert float(largest.per_published_batch(all_at(6, 7, n=4))) == pytest.approx(2 * 3 * 0.25)
    every = golden_budget("skip", 0.3, strength=10.0)
    assert float(every.spent(all_at(1, 2))) == pytest.approx(1539)
    assert float(every.loss(all_at(1, 2))) == pytest.approx(10 * 0.49)
    assert float(every.loss(all_at(0, 2))) == pytest.approx(10 * 0.09)  # from below as well


def test_our_costs_have_the_ratios_of_the_released_constants() -> None:
    areas = [h * w for h, w in GOLDEN["1280x800"]["level_sizes"]]
    ours = NeckPlan(RESNET, OUT, (BRANCHES,) * 4, "choose").costs(areas)
    unit = ours[-1][0]
    for level, released in zip(ours, GOLDEN["budget"]["choose_costs"], strict=True):
        assert [c / unit for c in level] == pytest.approx(released, rel=0.006)  # theirs are rounded


def test_a_budget_of_the_batch_lets_one_image_spend_what_another_saves() -> None:
    costs = ((0.0, 3.0), (0.0, 1.0))
    half = [torch.tensor([[1.0, 0.0], [0.0, 1.0]])] * 2  # one image all, the other nothing
    assert float(Budget(costs, 0.5, 2.0, "batch").loss(half)) == 0
    assert float(Budget(costs, 0.5, 2.0, "image").loss(half)) == pytest.approx(2 * 2 * 0.25)
    uneven = [torch.tensor([[0.0, 1.0], [0.0, 1.0]])] * 2
    same = [Budget(costs, 0.5, 2.0, per).loss(uneven) for per in ("batch", "image")]  # type: ignore[arg-type]
    assert float(same[0]) == pytest.approx(float(same[1]))
