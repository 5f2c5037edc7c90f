"""The space of vision transformers: published counts, no dead ends, equal keys for equal nets."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from nasx.cost.ops import count
from nasx.domain import Choice, Integer
from nasx.shape import TaskShape
from nasx.space import Published
from nasx.training import Training
from search_spaces._head_pruning import parts_of
from search_spaces._layers.attention import Heads
from search_spaces._layers.keeping import Keep
from search_spaces.vision_transformer import VisionTransformer
from tiny import TinyDigits

SHAPE = TaskShape("classify", (3, 32, 32), 10)
PRINTED = {  # thousandths of a G MACs, as their tables print them
    "deit_ti": 1254, "deit_s": 4599, "deit_b": 17564, "swin_t": 4491, "swin_s": 8741,
    "swin_b": 15431, "tnt_s": 5217, "tnt_b": 14049,
}  # fmt: skip


def candidate(**fields: object) -> VisionTransformer:
    return VisionTransformer.from_json(fields)


@pytest.mark.parametrize("point", VisionTransformer.published, ids=lambda p: p.name)
def test_published_counts(point: Published) -> None:
    with torch.device("meta"):
        model = VisionTransformer.from_json(point.candidate).build(point.shape).eval()
        found = count(model, torch.zeros(1, *point.shape.input))
    params = sum(p.numel() for p in model.parameters())
    assert point.params is not None
    assert abs(params - point.params) <= point.tolerance * point.params
    if point.macs is not None:
        assert found.macs == point.macs
    if point.name in PRINTED:
        assert round(found.macs / 1e6) == PRINTED[point.name]


def drawn(numbers: random.Random) -> VisionTransformer:
    """Draw every field, depths and widths from their lower ends."""
    flat: dict[str, object] = {}
    for name, domain in VisionTransformer.domains().items():
        if name.startswith("depth"):
            flat[name] = numbers.randint(1, 4)
        elif name.startswith("dim"):
            flat[name] = numbers.choice([16, 32, 48, 64])
        elif isinstance(domain, Choice):
            flat[name] = numbers.choice(domain.values)
        elif isinstance(domain, Integer):
            flat[name] = numbers.randrange(domain.lo, domain.hi + 1, domain.step)
        else:
            flat[name] = numbers.uniform(domain.lo, domain.hi)  # type: ignore[union-attr]
    return VisionTransformer.from_flat(flat)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_no_dead_ends(seed: int) -> None:
    """Whatever the fields say, a network is built, runs and is counted, at awkward sides too."""
    numbers = random.Random(seed)
    for i in range(25):
        side = (8, 15, 32, 33)[i % 4]
        shape = TaskShape("classify", (3, side, side), 7)
        one = drawn(numbers)
        model = one.build(shape)
        trained = sum(p.numel() for p in model.parameters())
        deployed = one.decide(model).eval()
        with torch.no_grad():
            assert deployed(torch.randn(2, 3, side, side)).shape == (2, 7)
        assert count(deployed, torch.zeros(1, 3, side, side)).macs > 0
        left = sum(p.numel() for p in deployed.parameters())
        assert left <= trained


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"attention": ["global"] * 4}, {"attention": ["global"] * 2 + ["window"] * 2}),
        ({"window": 7}, {"window": 8}),
        ({"pool": "mean"}, {"pool": "cls"}),  # a merge that takes no class token
        (
            {"layout": "flat", "qkv": "conv"},
            {"layout": "flat", "qkv": "conv", "tokens_kept": [0.5] * 3},
        ),
        ({"attention": ["conv"] * 4}, {"attention": ["conv"] * 4, "heads_kept": 0.5}),
        ({"layout": "cnn"}, {"layout": "cnn", "depth": [5] * 4}),
        ({"layout": "flat", "stem": "conv"}, {"layout": "flat", "stem": "conv", "inner": 24}),
        ({"merge": "pool", "dim": [32, 64, 64, 64]}, {"merge": "pool", "dim": [32, 80, 64, 64]}),
    ],
)  # fmt: skip
def test_two_spellings_of_a_network_are_one(
    first: dict[str, object], second: dict[str, object]
) -> None:
    assert candidate(**first).key(SHAPE) == candidate(**second).key(SHAPE)


@pytest.mark.parametrize(
    "changed",
    [{"window": 8}, {"attention": ["twins"] * 4}, {"position": "relative"}, {"mlp_kept": 0.5}],
)
def test_fields_that_count_make_another_network(changed: dict[str, object]) -> None:
    windows = {"attention": ["window"] * 4}
    assert candidate(**windows).key(SHAPE) != candidate(**{**windows, **changed}).key(SHAPE)


def test_tokens_that_leave_cost_less_and_leave_the_graph() -> None:
    flat = {"layout": "flat", "depth": [8, 2, 2, 2], "pool": "cls", "position": "learned"}
    whole, fewer = candidate(**flat), candidate(**flat, tokens_kept=[0.5, 0.5, 0.5])
    assert fewer.macs(SHAPE) < 0.6 * whole.macs(SHAPE)
    seen: list[int] = []
    model = fewer.build(SHAPE).eval()
    for layer in model.modules():
        if isinstance(layer, Keep):
            layer.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    model(torch.zeros(1, 3, 32, 32))
    assert seen == [1 + 32 + 1, 1 + 17 + 1, 1 + 9 + 1]  # half of 64, 33 and 18, and what melted


def test_pruned_heads_and_units_shrink_the_network() -> None:
    small = candidate(heads_kept=0.5, mlp_kept=0.25)
    model = small.decide(small.build(SHAPE))
    parts = parts_of(model)
    assert {p.heads for p in parts.values() if isinstance(p, Heads)} == {2}
    assert small.macs(SHAPE) < 0.7 * candidate().macs(SHAPE)
    again = sum(p.numel() for p in small.decide(model).parameters())
    assert again == sum(p.numel() for p in model.parameters())  # decided once


def test_pruning_half_way_is_kept_by_a_checkpoint(tmp_path) -> None:  # type: ignore[no-untyped-def]
    fields = {"dim": [16] * 4, "depth": [1] * 4, "patch": 2, "heads_kept": 0.5, "mlp_kept": 0.5}
    small = candidate(**{**fields, "head_dim": 16, "dim": [32] * 4})
    task = TinyDigits()
    training = Training(small, task, full=512, seed=0)
    for samples in training.run(320):
        last = samples
    assert last >= 320
    kept = training.state.decisions["kept"]
    assert all(len(stay) == 1 for name, stay in kept.items() if "attention" in name)
    training.save(tmp_path / "half")
    other = Training(small, task, full=512, seed=0)
    other.load(tmp_path / "half")
    for t in (training, other):
        for _ in t.run(512):
            pass
    for a, b in zip(training.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("how", ["hard", "soft"])
def test_a_student_hears_its_teacher(how: str) -> None:
    task = TinyDigits()
    small = candidate(dim=[16] * 4, depth=[1] * 4, patch=2, distill=how, teacher_samples=400)
    teacher = small.needs(task.shape)["teacher"].candidate
    assert teacher.values()["layout"] == "cnn"
    asset = teacher.build(task.shape).eval()
    training = Training(small, task, full=128, seed=0, assets={"teacher": asset})
    for _ in training.run(128):
        pass
    model = training.model
    assert isinstance(model.second, nn.Linear)
    first, second = model.answers(torch.zeros(2, *task.shape.input))  # type: ignore[operator]
    torch.testing.assert_close(model(torch.zeros(2, *task.shape.input)), (first + second) / 2)


def test_the_control_is_a_convolutional_network_of_as_many_macs() -> None:
    one = candidate(dim=[32, 64, 64, 64])
    control = one.control(SHAPE)
    assert control is not None
    assert control.layout == "cnn"
    assert control.macs(SHAPE) == pytest.approx(one.macs(SHAPE), rel=0.02)
    assert control.control(SHAPE) is None
