"""Image processing transformers: published sizes, patches, heads as arguments, clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nasx.contract_net import built
from nasx.errors import NasxError, SpaceError
from nasx.recipe import Recipe
from nasx.shape import TaskShape
from nasx.tasks.mixture import weights_of
from nasx.tasks.restore_options import photos
from search_spaces._ipt_ends import deployed, fitted, nearest
from search_spaces._ipt_nets import Ipt as Network
from search_spaces._ipt_nets import IptPlan
from search_spaces._layers.patches import from_patches, to_patches
from search_spaces.ipt import Ipt

GOLDEN = json.loads((Path(__file__).parent / "golden" / "ipt.json").read_text())
X2 = TaskShape("restore", (3, 12, 12), ("x2",))
TWO = TaskShape("restore", (3, 12, 12), ("x2", "denoise50"))
TINY = {"features": 8, "encoder": 1, "decoder": 1, "heads": 2}


def params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(shape: TaskShape = X2, **fields: Any) -> Network:
    model = built(Ipt.from_json({**TINY, "skip": "none", **fields}), shape)
    assert isinstance(model, Network)
    return model


# -- what it costs (nasx's own count of all six: the published points of the contract) ----------


@pytest.mark.parametrize("point", GOLDEN, ids=lambda p: p["name"])
def test_published_networks_part_by_part(point):
    with torch.device("meta"):
        model = Network(
            IptPlan(tuple(point["heads"]), encoder=point["layers"], decoder=point["layers"])
        )
    groups = {
        "head": params(model.entries),
        "tail": params(model.tails),
        "body.query_embed": params(model.queries),
        "body.linear_encoding": params(model.body.encoding),
        "body.mlp_head": params(model.body.mlp),
        "body.encoder": params(model.body.encoder),
        "body.decoder": params(model.body.decoder),
        "body.position_encoding": model.body.position.numel(),
    }
    assert groups == point["groups"]
    assert params(model) == point["params"] == sum(groups.values())


@pytest.mark.parametrize("number", range(4))
def test_operations_of_each_head_by_torchs_own_counter(number):
    point = GOLDEN[-1]  # six heads, four and four layers
    with torch.device("meta"):
        model = Network(IptPlan(tuple(point["heads"]), encoder=4, decoder=4))
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 48, 48), point["heads"][number])
    assert counter.get_total_flops() == 2 * point["macs"][number] == point["flops"][number]


def test_the_points_are_the_golden_ones():
    for point, golden in zip(Ipt.published, GOLDEN, strict=True):
        assert (point.params, point.macs) == (golden["params"], golden["macs"][0])
        assert point.shape.outputs == tuple(golden["heads"])


# -- what it computes ---------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [2, 3, 4])
def test_patches_are_torchs_unfold_and_fold(patch):
    x = drawn(2, 5, 12, 12)
    tokens = to_patches(x, patch)
    assert torch.equal(tokens, F.unfold(x, patch, stride=patch).transpose(1, 2))
    assert torch.equal(from_patches(tokens, patch, 12 // patch), x)


@pytest.mark.parametrize("skip", ["nearest", "bicubic"])
def test_with_a_skip_it_starts_as_the_enlarged_image(skip):
    model = tiny(skip=skip).eval()
    x = drawn(2, 3, 12, 12)
    assert torch.equal(model(x), model.skips["by2"](x))


def test_the_head_is_an_argument_and_nothing_remembers_it():
    model = tiny(TWO).eval()
    x = drawn(2, 3, 12, 12)
    first, noise = model(x, "x2"), model(x, "denoise50")
    assert first.shape == (2, 3, 24, 24)
    assert noise.shape == (2, 3, 12, 12)
    assert torch.equal(model(x, "x2"), first)
    assert torch.equal(model(x), first)  # the first one where none is named
    assert not torch.equal(model.traced(x, "x2", "denoise50")[0], first)  # another query


@pytest.mark.parametrize("position", ["once", "every", "none"])
def test_where_patches_lie_matters_only_with_positions(position):
    """Without positions and queries that differ by place, the body knows no order of patches."""
    model = tiny(position=position)
    tokens = drawn(1, 16, model.plan.dim)
    turned = torch.arange(16).roll(5)
    same = model.queries["x2"][:1].expand(16, -1)
    a, b = model.body(tokens, same)[0][:, turned], model.body(tokens[:, turned], same)[0]
    assert torch.allclose(a, b, atol=1e-5) == (position == "none")


def test_tied_layers_are_one_layer():
    free, tied = tiny(encoder=3, decoder=2), tiny(encoder=3, decoder=2, tied=True)
    assert len(tied.body.encoder) == len(tied.body.decoder) == 1
    assert tied.body.runs == free.body.runs == (3, 2)
    assert params(tied.body.encoder) * 3 == params(free.body.encoder)


def test_layers_start_apart_or_as_published_alike():
    for layers, equal in (("apart", False), ("alike", True)):
        first, second = tiny(encoder=2, layers=layers).body.encoder
        assert torch.equal(first.mlp[0].weight, second.mlp[0].weight) is equal


def test_shared_heads_leave_a_tail_for_each_scale():
    shape = TaskShape("restore", (3, 12, 12), ("x2", "denoise30", "derain"))
    model = tiny(shape, shared=True)
    assert list(model.entries) == ["all"]
    assert list(model.tails) == ["by2", "by1"]
    assert len(model.queries) == 3


# -- heads change around the body ---------------------------------------------------------------


def test_more_and_fewer_heads_around_one_body():
    model = tiny(skip="nearest")
    torch.manual_seed(1)
    more = fitted(model, ("denoise30", "x2", "derain"))
    assert more.heads == ("denoise30", "x2", "derain")
    assert more.body is model.body
    assert torch.equal(more.queries["x2"], model.queries["x2"])
    back = deployed(more)
    assert back.heads == ("x2",)
    names = {n: tuple(v.shape) for n, v in back.state_dict().items()}
    assert names == {n: tuple(v.shape) for n, v in model.state_dict().items()}
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in back.state_dict().items())


def test_unseen_noise_starts_from_the_nearest_level():
    known = ("x2", "denoise30", "denoise50", "derain")
    near = {"denoise10": "denoise30", "denoise70": "denoise50", "denoise45": "denoise50"}
    assert {name: nearest(name, known) for name in near} == near
    assert nearest("denoise", known) in ("denoise30", "denoise50")
    assert nearest("x3", known) is None
    assert nearest("derain", ("denoise30",)) is None


# -- fields -------------------------------------------------------------------------------------


def test_every_number_of_heads_is_possible():
    for features in (8, 16, 24, 32, 64):
        for patch in (2, 3, 4):
            for heads in (1, 2, 4, 8, 12):
                plan = Ipt(features=features, patch=patch, heads=heads).plan(X2)
                assert plan.dim % plan.heads == 0
                assert 1 <= plan.heads <= heads
    assert Ipt(features=16, patch=2, heads=12).plan(X2).heads == 8
    assert Ipt(features=16, patch=2, heads=12).key(X2) == Ipt(
        features=16, patch=2, heads=8
    ).key(X2)  # fmt: skip


def test_idle_fields_make_no_other_candidate():
    assert Ipt(shared=True).key(X2) == Ipt().key(X2)
    assert Ipt(shared=True, pretrain="phase").key(X2) != Ipt(pretrain="phase").key(X2)
    assert Ipt(form="paper").key(X2) == Ipt().key(X2)
    noise = TaskShape("restore", (3, 12, 12), ("denoise30",))
    assert Ipt(up="shuffle", skip="bicubic").key(noise) == Ipt().key(noise)
    assert Ipt(up="shuffle").key(X2) != Ipt().key(X2)


def test_control_is_the_network_trained_on_its_own_task_alone():
    assert Ipt().control(X2) is None
    control = Ipt(pretrain="phase", features=24).control(X2)
    assert control == Ipt(features=24)


# -- bad input ----------------------------------------------------------------------------------


def test_a_head_that_was_not_trained():
    said = "this network has no head 'derain', it was trained on x2, denoise50"
    with pytest.raises(SpaceError, match=said):
        tiny(TWO)(drawn(1, 3, 12, 12), "derain")
    said = Ipt(pretrain="only", weights=(1.0, 0.0, 0.0, 1.0, 0.0, 0.0)).refusal(TWO)
    assert said is not None
    assert said.startswith("head 'denoise50' would not be trained: give it a weight")


def test_a_side_that_the_patch_does_not_divide():
    said = "images of 32 x 32 pixels cannot be cut into patches of 3 x 3: give the task patch 30"
    shape = TaskShape("restore", (3, 32, 32), ("x2",))
    assert (Ipt().refusal(shape) or "").startswith(said)
    with pytest.raises(SpaceError, match=said):
        Ipt().build(shape)
    assert Ipt(patch=4).refusal(shape) is None
    with pytest.raises(SpaceError, match="takes images of 12 x 12 pixels, not 24 x 24: cut larger"):
        tiny()(drawn(1, 3, 24, 24))
    with pytest.raises(SpaceError, match="patches must be squares"):
        Ipt().build(TaskShape("restore", (3, 12, 24), ("x2",)))


def test_a_degradation_outside_the_range():
    for name in ("denoise80", "x5", "blur"):
        said = f"there is no degradation '{name}'; valid are x2, x3, x4"
        with pytest.raises(SpaceError, match=said):
            Ipt().build(TaskShape("restore", (3, 12, 12), (name,)))
    with pytest.raises(NasxError, match="there is no degradation 'denoise80'; valid are"):
        photos(degradations=["denoise80"])
    with pytest.raises(SpaceError, match="a classify task names no degradations"):
        Ipt().build(TaskShape("classify", (3, 12, 12), 10))


def test_pre_training_on_nothing():
    nothing = Ipt(pretrain="phase", weights=(0.0,) * 6)
    assert (nothing.refusal(X2) or "").startswith("pre-training on nothing: give one")
    with pytest.raises(SpaceError, match="pre-training on nothing"):
        nothing.recipe(X2)


# -- recipe -------------------------------------------------------------------------------------


def phases(candidate: Ipt, shape: TaskShape = TWO) -> tuple[Recipe, list[tuple[str, float]]]:
    recipe = candidate.recipe(shape)
    return recipe, [(p.name, round(p.share, 9)) for p in recipe.phases]


def test_phases_of_each_kind_of_pre_training():
    assert phases(Ipt())[1] == [("tune", 1.0)]
    recipe, found = phases(
        Ipt(pretrain="phase", share=0.75, weights=(1.0, 0.0, 0.0, 2.0, 0.0, 0.0))
    )
    assert found == [("pretrain", 0.75), ("tune", 0.25)]
    assert recipe.comparable_from == 0.75
    assert weights_of(recipe.phases[0].view) == {"x2": 1.0, "denoise30": 2.0}
    assert recipe.phases[1].view == "train"
    assert phases(Ipt(pretrain="asset"))[1] == [("tune", 1.0)]
    few = Ipt(crops=64).recipe(TWO).phases[0].view
    assert weights_of(few) == {"x2": 1.0, "denoise50": 1.0}
    assert few.endswith("crops 64")


def test_a_body_is_pre_trained_alone_and_shared_whatever_tunes_it():
    a, b = (Ipt(pretrain="asset", rate=r, crops=c).needs(TWO) for r, c in ((1e-3, 0), (2e-3, 64)))
    assert a == b
    body = a["body"]
    assert body.seed is None
    assert isinstance(body.candidate, Ipt)
    assert [p.name for p in body.candidate.recipe(TWO).phases] == ["pretrain"]
    assert Ipt(pretrain="phase").needs(TWO) == {}
