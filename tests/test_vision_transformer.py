"""The space of vision transformers: published counts, compression, distillation, control."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasx.shape import TaskShape
from nasx.space import Published
from nasx.training import Training
from search_spaces._head_pruning import parts_of
from search_spaces._layers.attention import Heads
from search_spaces._layers.keeping import Keep
from search_spaces._transformer_plan import TransformerPlan
from search_spaces.vision_transformer import VisionTransformer
from tiny import TinyDigits

SHAPE = TaskShape("classify", (3, 32, 32), 10)
STATED = {  # parameters, and thousandths of a G MACs where their tables print them
    "deit_ti": (5_717_416, 1254), "deit_s": (22_050_664, 4599), "deit_b": (86_567_656, 17564),
    "deit_s_distilled": (22_436_432, None), "vit_l": (304_326_632, None),
    "swin_t": (28_288_354, 4491), "swin_s": (49_606_258, 8741), "swin_b": (87_768_224, 15431),
    "tnt_s": (23_768_584, 5217), "tnt_b": (65_428_680, 14049),
    "pvt2_b0": (3_666_760, None), "pvt2_b1": (14_009_000, None), "pvt2_b2": (25_362_856, None),
    "pvt2_b3": (45_238_696, None), "pvt2_b4": (62_556_072, None), "pvt2_b5": (81_956_008, None),
    "t2t_14": (21_500_000, None), "pit_s": (23_460_000, None), "twins_svt_s": (24_060_000, None),
}  # fmt: skip
NEAR = {"t2t_14", "pit_s", "twins_svt_s"}  # to 1 %


def candidate(**fields: object) -> VisionTransformer:
    return VisionTransformer.from_json(fields)


@pytest.mark.parametrize("point", VisionTransformer.published, ids=lambda p: p.name)
def test_published_parameters(point: Published) -> None:
    """What the contract counts afresh is what was published, beside MACs by closed forms."""
    stated, printed = STATED[point.name]
    with torch.device("meta"):
        model = VisionTransformer.from_json(point.candidate).build(point.shape)
    params = sum(p.numel() for p in model.parameters())
    assert point.params == stated
    assert abs(params - stated) <= point.tolerance * stated
    assert (point.tolerance > 0) == (point.name in NEAR)
    if printed is not None:
        assert point.macs is not None
        assert round(point.macs / 1e6) == printed
    if point.macs is not None:
        plan = VisionTransformer.from_json(point.candidate).plan(point.shape)
        assert isinstance(plan, TransformerPlan)
        assert point.macs == macs_by_hand(plan)


def macs_by_hand(plan: TransformerPlan) -> int:
    """MACs by closed forms: 4 T D^2 + 2 r T D^2 + 2 T S D by block, S the tokens attended to."""
    side = -(-plan.side // plan.patch)
    first = plan.stages[0]
    if plan.inner:  # 16 words of c channels in each patch
        n, c = side**2, plan.inner
        total = n * 16 * (3 * 49 * c + c * first.dim)
        block = 4 * c * c + 2 * first.ratio * c * c + 2 * 16 * c + c * first.dim
        total += first.depth * n * 16 * block
    else:
        kernel = 2 * plan.patch - 1 if plan.stem == "overlap" else plan.patch
        total = side**2 * plan.inputs * kernel**2 * first.dim
    for i, stage in enumerate(plan.stages):
        dim = stage.dim
        if i:
            before, side = plan.stages[i - 1].dim, -(-side // 2)
            total += side**2 * dim * (4 if plan.merge == "concat" else 9) * before
        tokens = seen = side**2 + plan.prefix
        wide = stage.ratio * dim
        block = 2 * tokens * dim * dim + 2 * tokens * dim * wide
        if stage.ffn == "conv":
            block += 9 * tokens * wide
        if stage.attention == "window":
            windows = (-(-side // stage.window)) ** 2
            seen = stage.window**2
            block += 2 * windows * seen * (dim * dim + seen * dim)
            assert windows * seen == tokens
        else:
            if stage.attention == "reduced":
                seen = (side // stage.reduction) ** 2
                block += seen * dim * dim * stage.reduction**2
            block += 2 * seen * dim * dim + 2 * tokens * seen * dim
        total += stage.depth * block
    return total + plan.stages[-1].dim * plan.classes * (1 + plan.distilled)


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
