"""The adder space: published sizes and energy, equal keys, and how a teacher teaches."""

import copy
import itertools

import pytest
import torch
from torch import nn

import nasx
from nasx.assets import load_assets
from nasx.cost.card import card_of
from nasx.cost.energy import TABLE
from nasx.cost.ops import count
from nasx.errors import SpaceError
from nasx.published import compare_published
from nasx.search.opening import _cautions
from nasx.shape import TaskShape
from nasx.training import Training
from search_spaces._layers.adder import AdderConv2d
from search_spaces.adder import Adder
from tiny import TinyDigits, finish

CIFAR = TaskShape("classify", (3, 32, 32), 10)
SMALL = {"width": 0.25, "operators": ("adder",) * 3}
KERNELS = ("laplace", "gaussian", "cosine", "linear", "none")
SHAPE = TinyDigits.shape


def build(**fields):
    torch.manual_seed(0)
    return Adder(**fields).build(CIFAR)


# -- what it costs ------------------------------------------------------------------------------


def test_published_points_are_met():
    rows = compare_published(Adder)
    assert [r["said"] for r in rows if not r["agrees"]] == []
    assert {p.name: (p.params, p.macs, p.adds) for p in Adder.published}["resnet20"] == (
        272_484, 443_008, 80_740_352,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "fp32", "int8", "joules"),
    [("resnet20", 2.513, 3.719, 1.87741e-4), ("resnet32", 2.530, 3.765, 3.17974e-4)],
)
def test_energy_ratios_of_the_built_networks(backbone, fp32, int8, joules):
    """A convolution's tap is a multiplication and an addition, an adder's two additions."""
    conv, adds = (build(backbone=backbone, operators=(kind,) * 3) for kind in ("conv", "adder"))
    ours, theirs = card_of(conv, (3, 32, 32)), card_of(adds, (3, 32, 32))
    assert ours.energy_uj * 1e-6 == pytest.approx(joules, rel=1e-5)
    assert round(ours.energy_uj / theirs.energy_uj, 3) == fp32
    price = TABLE["int8"]
    picojoules = [
        card.macs * (price.add + price.multiply) + card.adds * price.add for card in (ours, theirs)
    ]
    assert round(picojoules[0] / picojoules[1], 3) == int8


def test_which_layers_add():
    model = build(backbone="resnet20", operators=("conv", "adder", "conv"))
    adders = [n for n, m in model.named_modules() if isinstance(m, AdderConv2d)]
    assert len(adders) == 7  # six convolutions and the shortcut
    assert all(n.startswith("stages.1.") for n in adders)
    assert model.stages[1][0].shortcut[0].kernel_size == 1
    ends = build(backbone="resnet20", ends="adder")
    assert [n for n, m in ends.named_modules() if isinstance(m, AdderConv2d)] == [
        "stem.0",
        "head.1",
    ]


@pytest.mark.parametrize("backbone", ["micro", "resnet20", "vgg_small", "vgg_small_7"])
def test_operators_change_no_parameter_and_no_tap(backbone):
    counted = []
    for kind in ("conv", "adder"):
        model = build(backbone=backbone, width=0.25, operators=(kind,) * 3)
        card = card_of(model, (3, 32, 32))
        counted.append((card.params, card.macs + card.adds // 2))
    assert counted[0] == counted[1]


def test_teacher_and_kernel_add_nothing_to_what_is_deployed():
    plain = card_of(build(**SMALL), (3, 32, 32))
    for teacher, kernel, rho in itertools.product(
        ("simultaneous", "pretrained"), KERNELS, ("conv", "none")
    ):
        candidate = Adder(**SMALL, teacher=teacher, kernel=kernel, rho=rho)
        model = candidate.build(CIFAR)
        deployed = card_of(candidate.decide(copy.deepcopy(model)), (3, 32, 32), trained=model)
        assert deployed == plain


# -- keys ---------------------------------------------------------------------------------------


def test_fields_that_change_nothing_split_no_key():
    def key(**fields):
        return Adder(**{**SMALL, **fields}).key(SHAPE)

    taught = {"teacher": "simultaneous"}
    same = [
        ({}, {"kernel": "cosine", "alpha": 0.9, "teacher_samples": 400}),
        ({}, {"operators": ("adder", "adder", "conv")}),  # micro has two stages
        ({"operators": ("conv",) * 3}, {"operators": ("conv", "conv", "adder"), "eta": 0.9}),
        (taught, {**taught, "teacher_samples": 400}),
        ({**taught, "kernel": "cosine"}, {**taught, "kernel": "cosine", "sigma": "layer"}),
        ({**taught, "kernel": "gaussian"}, {**taught, "kernel": "gaussian", "sign": -1}),
        ({**taught, "beta": 0.0}, {**taught, "beta": 0.0, "kernel": "none", "rho": "none"}),
        ({**taught, "alpha": 0.0}, {**taught, "alpha": 0.0, "temperature": 1.0}),
        ({}, {**taught, "alpha": 0.0, "beta": 0.0}),  # nothing is heard of that teacher
        ({"operators": ("conv",) * 3}, {"operators": ("conv",) * 3, "eta": 0.5}),
        (
            {"operators": ("conv",) * 3, **taught},
            {"operators": ("conv",) * 3, **taught, "beta": 5.0, "kernel": "linear"},
        ),
    ]
    for one, other in same:
        assert key(**one) == key(**other), (one, other)
    different = [
        {}, taught, {"teacher": "pretrained"}, {"teacher": "pretrained", "teacher_samples": 400},
        {**taught, "beta": 0.0}, {**taught, "alpha": 0.0}, {**taught, "blend": "labels"},
        {**taught, "kernel": "none"}, {**taught, "kernel": "gaussian"}, {**taught, "sign": -1},
        {**taught, "sigma": "fan_in"}, {**taught, "rho": "none"}, {"eta": 0.1}, {"rate": 0.2},
        {"operators": ("adder", "conv", "conv")}, {"ends": "adder"}, {"backbone": "resnet20"},
    ]  # fmt: skip
    assert len({key(**fields) for fields in different}) == len(different)


def test_what_is_off_is_off_in_the_recipe_too():
    logits_only = Adder(**SMALL, teacher="simultaneous", beta=0.0)
    assert logits_only.active()["beta"] == 0.0
    assert logits_only.in_effect()["beta"] == 0.0
    assert "kernel" not in logits_only.in_effect()
    training = Training(logits_only, TinyDigits(), full=64, seed=0)
    assert set(training.state.companions) == {"teacher"}
    unheard = Adder(**SMALL, teacher="simultaneous", beta=0.0, alpha=0.0)
    assert unheard.recipe(SHAPE).companions is None


def test_the_control_is_the_convolutional_network_of_the_same_size():
    candidate = Adder(**SMALL, ends="adder", teacher="pretrained", rate=0.05, eta=0.5)
    control = candidate.control(SHAPE)
    assert control == Adder(width=0.25, rate=0.05)
    card = card_of(control.build(CIFAR), (3, 32, 32))
    assert card.adds == 0
    assert card.params == card_of(candidate.build(CIFAR), (3, 32, 32)).params
    assert candidate.needs(SHAPE)["teacher"].candidate == control


def test_unknown_values_are_refused_in_one_line():
    with pytest.raises(SpaceError, match=r"operators = \('adder', 'shift', 'adder'\)"):
        Adder(operators=("adder", "shift", "adder"))
    with pytest.raises(SpaceError, match="alpha = 2"):
        Adder(alpha=2.0)
    with pytest.raises(SpaceError, match="halves the side 3 times"):
        Adder(backbone="vgg_small").build(TaskShape("classify", (1, 6, 6), 10))


# -- training -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    candidate = Adder(**SMALL, teacher="pretrained", teacher_samples=400)
    folder = tmp_path_factory.mktemp("assets")
    return load_assets(candidate.needs(SHAPE), {}, folder, TinyDigits())


def training(assets, full=96, **fields):
    candidate = Adder(**SMALL, teacher_samples=400, **fields)
    needed = assets if fields.get("teacher") == "pretrained" else {}
    return Training(candidate, TinyDigits(), full=full, seed=0, assets=needed)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_loss_of_the_student_moves_the_teacher(assets, kernel):
    """Not through logits, nor through answers, nor through transforms: no gradient arrives."""
    for teacher in ("simultaneous", "pretrained"):
        run = training(assets, teacher=teacher, kernel=kernel, blend="labels")
        finish(run, 32)
        state = run.state
        tutor = state.companions.get("teacher") or state.assets["teacher"]
        before = weights(tutor)
        learn = run.steps[-1].step
        with run.random:
            state.batch = next(TinyDigits().batches("train", SHAPE.input, 32))
            state.model.train()
            loss = learn.loss(state)
        for p in itertools.chain(tutor.parameters(), state.model.parameters()):
            p.grad = None
        loss.backward()
        assert all(p.grad is None for p in tutor.parameters())
        assert all(p.grad is not None for p in state.model.parameters())
        for side in ("student_maps", "teacher_maps"):
            assert all(p.grad is not None for p in state.companions[side].parameters())
        assert same(before, weights(tutor))
        assert not any(m._forward_hooks for net in (tutor, state.model) for m in net.modules())


def test_a_simultaneous_teacher_learns_as_if_it_were_alone(assets):
    """Its weights after training equal those of the same network trained on the same batches."""
    run = training(assets, teacher="simultaneous")
    start = copy.deepcopy(run.state.companions["teacher"])
    finish(run)
    assert not same(weights(start), weights(run.state.companions["teacher"]))
    alone = Training(Adder(width=0.25), TinyDigits(), full=96, seed=0)
    alone.state.model = start
    finish(alone)
    assert same(weights(alone.model), weights(run.state.companions["teacher"]))


def test_the_student_hears_the_teacher_as_it_was_before_its_step(assets):
    run = training(assets, teacher="simultaneous", alpha=1.0)
    state = run.state
    with run.random:
        run._begin()
        state.batch = next(TinyDigits().batches("train", SHAPE.input, 32))
        before = copy.deepcopy(state.companions["teacher"])
        teach, learn = run.steps
        teach.update(state)
        student = copy.deepcopy(state.model)
        learn.step.loss(state)
    with torch.no_grad():
        gap = functional_kl(student(state.batch.inputs), before(state.batch.inputs), 4.0)
    assert state.notes["imitation"] == pytest.approx(gap, rel=1e-4)


def functional_kl(student, teacher, temperature):
    p, q = ((t / temperature).log_softmax(1) for t in (student, teacher))
    return temperature**2 * float((q.exp() * (q - p)).sum(1).mean())


@pytest.mark.parametrize("teacher", ["simultaneous", "pretrained"])
def test_a_resumed_training_equals_the_uninterrupted_one(assets, teacher, tmp_path):
    whole = finish(training(assets, teacher=teacher))
    first = finish(training(assets, teacher=teacher), 48)
    first.save(tmp_path / "checkpoint")
    second = training(assets, teacher=teacher)
    second.load(tmp_path / "checkpoint")
    finish(second)
    assert same(weights(whole.model), weights(second.model))
    for name, network in whole.state.companions.items():
        assert same(weights(network), weights(second.state.companions[name]))


@pytest.mark.parametrize("fields", [{}, {"teacher": "simultaneous"}])
def test_an_adder_learns_alone_and_beside_its_twin(assets, fields):
    run = finish(training(assets, full=2560, **fields))
    assert run.score("valid")["top1"] > 30  # of ten classes
    assert set(run.state.notes) == ({"imitation", "layers"} if fields else set())


def test_the_share_of_taps_that_add_is_told():
    candidate = Adder(backbone="resnet20", operators=("adder",) * 3)
    model = candidate.build(SHAPE)
    share = candidate.diagnose(model, TinyDigits())["adder_taps_percent"]
    counted = count(model, torch.zeros(1, *SHAPE.input))
    assert share == pytest.approx(100 * counted.adds / (counted.adds + 2 * counted.macs))
    assert Adder().diagnose(Adder().build(SHAPE), TinyDigits()) == {"adder_taps_percent": 0.0}


def test_a_search_notes_that_additions_save_no_time():
    """What stands in the record is what the report shows."""
    (sentence,) = _cautions(nasx.load("adder"))["adder"]
    assert "save modelled energy" in sentence
    assert "lose latency" in sentence
    assert _cautions(nasx.load("tinynet")) == {}


def test_adders_are_not_ranked_before_their_time():
    for fields in ({}, SMALL, {**SMALL, "teacher": "simultaneous"}):
        assert Adder(**fields).recipe(SHAPE).comparable_from == 0.5
