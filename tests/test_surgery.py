"""Surgery on networks: what is coupled, what is left, and that it computes what masks do."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from nasx.errors import SpaceError
from nasx.shape import TaskShape
from search_spaces._backbones import Plan, Stage, network
from search_spaces._bases import micro, scaled
from search_spaces._coupling import Channels, coupled
from search_spaces._resnets import ResNetPlan, resnet
from search_spaces._surgery import kept_counts, masked, slim
from search_spaces._vgg import VggPlan, vgg

SHAPE = TaskShape("classify", (3, 16, 16), 4)
NETWORKS = {
    "micro": lambda: network(scaled(micro(SHAPE), 0.5, 1.0)),
    "bare": lambda: resnet(ResNetPlan(3, 4, (2, 2), 8, "bare")),
    "pooled": lambda: resnet(ResNetPlan(3, 4, (1, 2), 8, "pool", "conv_bn")),
    "padded": lambda: resnet(ResNetPlan(3, 4, (1, 2, 1), 8, "pad")),
    "large": lambda: resnet(ResNetPlan(3, 4, (2, 1), 8, stem="large")),
    "bottleneck": lambda: resnet(ResNetPlan(3, 4, (1, 2), 8, block="bottleneck")),
    "bottleneck_padded": lambda: resnet(ResNetPlan(3, 4, (2, 1), 8, "pad", block="bottleneck")),
    "vgg": lambda: vgg(VggPlan(3, 4, 16, width=6)),
}
MODES = ("scatter", "inner", "group")
ALL, NONE = ("stem", "shortcut", "classifier"), ()


def made(name: str, seed: int = 0) -> nn.Module:
    """A network in eval mode whose statistics are not the trivial ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NETWORKS[name]()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.5)
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def drawn(sets, seed: int, share: float = 0.5) -> dict[str, list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return {
        c.name: sorted(
            torch.randperm(c.size, generator=draw)[: max(1, int(share * c.size))].tolist()
        )
        for c in sets
    }


def nothing_inside(name: str, mode: str, untouched=None) -> bool:
    """Blocks of one convolution have none inside; what is left is the ends, if they may change."""
    return name == "micro" and mode == "inner" and untouched in (None, ALL)


def inputs(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("untouched", [None, ALL, NONE, ("stem",), ("classifier",)], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_slimmed_network_computes_what_the_masked_one_does(name, mode, untouched):
    model = made(name)
    if nothing_inside(name, mode, untouched):
        with pytest.raises(SpaceError, match="nothing to prune"):
            coupled(model, mode, untouched)
        return
    kept = drawn(coupled(model, mode, untouched), 2)
    x = inputs()
    with torch.no_grad():
        dense, small = model(x), slim(model, kept, mode, untouched)(x)
        wanted = masked(model, kept, mode, untouched)(x)
    assert (small - wanted).abs().max() < 1e-5 * max(1, wanted.abs().max())
    assert not torch.allclose(dense, wanted, atol=1e-3)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_kept_masks_and_surgery_agree(data):
    name = data.draw(st.sampled_from(sorted(NETWORKS)))
    mode = data.draw(st.sampled_from([m for m in MODES if not nothing_inside(name, m)]))
    model = made(name, data.draw(st.integers(0, 5)))
    kept = {}
    for c in coupled(model, mode):
        if data.draw(st.booleans()):
            channels = st.lists(st.integers(0, c.size - 1), min_size=1, unique=True)
            kept[c.name] = data.draw(channels)
    x = inputs(2)
    with torch.no_grad():
        wanted = masked(model, kept, mode)(x)
        assert (slim(model, kept, mode)(x) - wanted).abs().max() < 1e-5 * max(1, wanted.abs().max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_pruned_stays(name, mode):
    if nothing_inside(name, mode):
        return
    model = made(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    sets = coupled(model, mode)
    kept = drawn(sets, 3)
    small = slim(model, kept, mode)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    for c in sets:
        index = torch.tensor(kept[c.name])
        for conv, norm in zip(c.convs, c.norms, strict=True):
            layer = small.get_submodule(conv)
            assert layer.weight.shape[0] == layer.out_channels == len(index)
            if norm:
                layer = small.get_submodule(norm)
                assert layer.num_features == len(index)
                for what in ("weight", "bias", "running_mean", "running_var"):
                    assert torch.equal(getattr(layer, what), before[f"{norm}.{what}"][index])
        for reader in c.readers:
            layer = small.get_submodule(reader)
            if isinstance(layer, nn.Conv2d):
                assert layer.weight.shape[1] == layer.in_channels == len(index)
            elif isinstance(layer, nn.Linear):
                assert layer.weight.shape[1] == layer.in_features
                assert layer.in_features * c.size == before[f"{reader}.weight"].shape[1] * len(
                    index
                )
    assert small.state_dict().keys() == before.keys()
    assert all(p.requires_grad for p in small.parameters())
    fresh = slim(NETWORKS[name](), kept, mode)  # what a resumed trial rebuilds
    fresh.load_state_dict(small.state_dict())
    small.train()(inputs()).square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())


def test_sets_of_a_residual_network():
    model = resnet(ResNetPlan(3, 10, (2, 1), 8))
    alone = coupled(model, "scatter")
    assert [c.name for c in alone] == [
        f"stages.{where}.conv{k}" for where in ("0.0", "0.1", "1.0") for k in (1, 2)
    ]
    assert [c.widen for c in alone][:2] == ["", "stages.0.0.widen"]
    assert [c.name for c in coupled(model, "inner")] == [c.name for c in alone][::2]
    streams = {c.name: c for c in coupled(model, "group")}
    first, last = streams["stream.0"], streams["stream.1"]
    assert first.convs == ("stem.0", "stages.0.0.conv2", "stages.0.1.conv2")
    assert first.readers[-2:] == ("stages.1.0.conv1", "stages.1.0.shortcut.0")
    assert last.convs == ("stages.1.0.shortcut.0", "stages.1.0.conv2")
    assert (last.size, last.stage, last.readers) == (16, 1, ("head.2",))
    fixed = coupled(model, "group", ("stem", "classifier"))
    assert [c.name for c in fixed] == [c.name for c in coupled(model, "inner")]


def test_sets_of_the_small_base():
    sets = coupled(NETWORKS["micro"](), "scatter")
    assert [c.stage for c in sets] == [0, 0, 1, 1, 1]
    assert [c.name for c in coupled(NETWORKS["micro"](), "group")] == [
        "stem.0", "stream.0", "stream.1", "head.0",
    ]  # fmt: skip


def test_shortcuts_without_batchnorm_are_listed_with_an_empty_name():
    sets = {c.name: c for c in coupled(NETWORKS["bare"](), "group")}
    assert sets["stream.1"].norms == ("", "stages.1.0.bn2", "stages.1.1.bn2")


@given(
    st.integers(1, 70), st.floats(0, 0.999), st.sampled_from([1, 8]),
    st.sampled_from(["up", "down", "nearest"]),
)  # fmt: skip
def test_counts(size, ratio, align, snap):
    (count,) = kept_counts([Channels("c", size, 0, ("c",), ("",))], ratio, align, snap).values()
    exact = size - int(ratio * size)
    assert 1 <= count <= size
    assert count == size or count % align == 0
    if align == 1 or exact == size:
        assert count == exact
    elif 8 < exact < size - 8:
        assert {"up": 0, "down": -7, "nearest": -4}[snap] <= count - exact
        assert count - exact <= {"up": 7, "down": 0, "nearest": 4}[snap]


def test_counts_by_name_and_to_each_side():
    sets = coupled(resnet(ResNetPlan(3, 4, (1,), 64)), "scatter")
    one, two = (c.name for c in sets)
    assert kept_counts(sets, {one: 0.45}) == {one: 36, two: 64}
    for snap, count in (("up", 40), ("down", 32), ("nearest", 40)):
        assert kept_counts(sets, {one: 0.45}, 8, snap)[one] == count
    assert kept_counts(sets, 0.99, 8, "down")[one] == 8


def counts(*args):
    return lambda model: kept_counts(coupled(model, "scatter"), *args)


def cut(kept, mode="scatter", act=slim):
    return lambda model: act(model, kept, mode)


FIRST, SECOND = "stages.0.0.conv1", "stages.0.0.conv2"
REFUSED = {
    f"ratio of 1.0 leaves none of the 8 channels of {FIRST}: take one": counts(1.0),
    "ratio of -0.1 is no share": counts(-0.1),
    "ratio of nan is no share": counts(float("nan")),
    "no channels 'stages.0.0.conv3' to prune; did you mean": counts({"stages.0.0.conv3": 0.5}),
    "no side 'left' to snap to: take up, down, nearest": counts(0.5, 8, "left"),
    "aligned to 0: take 1 or more": counts(0.5, 0),
    f"no channel of {FIRST} is kept: keep at least one of its 8": cut({FIRST: []}),
    f"{SECOND} has the channels 0 to 7: 8 is not one of them": cut({SECOND: [1, 8]}),
    f"{SECOND} has the channels 0 to 7: True is not one": cut({SECOND: [True]}),
    "one is named twice": cut({SECOND: [1, 1]}, act=masked),
    f"no channels 'body' to prune; it has {FIRST}, ": cut({"body": [0]}),
    f"no channels '{SECOND}' to prune; did you mean": cut({SECOND: [0]}, "inner"),
    "no mode 'outer' of pruning: take scatter, inner, group": cut({}, "outer"),
    "no part 'head' to leave untouched": lambda m: coupled(m, "group", ("head",)),
    "stages.0.0 has been pruned already": lambda m: coupled(cut({SECOND: [0]})(m), "group"),
}


@pytest.mark.parametrize("said", REFUSED)
def test_bad_input_is_refused_in_a_sentence_and_changes_nothing(said):
    model = made("bare")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(SpaceError) as caught:
        REFUSED[said](model)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


class Own(nn.Conv2d):
    pass


def with_own(c_in, c_out, kernel, stride, where):
    kind = Own if where.endswith("conv1") else nn.Conv2d
    return kind(c_in, c_out, kernel, stride, kernel // 2)


def with_gate(where, channels):
    return nn.Sigmoid() if where.endswith("act1") else nn.ReLU()


def with_block(block, *before):
    layers = {"stem": nn.Sequential(nn.Conv2d(3, 4, 1)), "stages": nn.Sequential(block)}
    return nn.Sequential(OrderedDict(layers, head=nn.Sequential(*before, nn.Linear(4, 2))))


PLAN = ResNetPlan(3, 4, (1,), 8)
GROUPED = nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
UNKNOWN = {
    "stages.0.layers.3 (Conv2d) cannot be pruned: known is one convolution": lambda: network(
        Plan(3, 8, (Stage(8, expand=2),), 8, 4)
    ),
    "stages.0.0 (Block) cannot be pruned: it sums after every convolution": lambda: resnet(
        replace(PLAN, skip="conv")
    ),
    "stages.0.0.conv1 (Own) cannot be pruned: only plain convolutions": lambda: resnet(
        PLAN, with_own
    ),
    "stages.0.0.act1 (Sigmoid) cannot be pruned: a pruned channel would": lambda: resnet(
        PLAN, activation=with_gate
    ),
    "stages.0.0.0 (Conv2d) cannot be pruned: its channels are in groups": lambda: with_block(
        GROUPED
    ),
    "stages.0 (Linear) cannot be pruned: a block of this kind is not known": lambda: with_block(
        nn.Linear(4, 4)
    ),
    "Linear is no 'stem', 'stages' and a head to prune": lambda: nn.Linear(3, 4),
    "Sequential is no 'stem', 'stages' and a head to prune": lambda: resnet(PLAN)[:2],
    "head.0 (BatchNorm2d) cannot be pruned: a linear layer was expected": lambda: with_block(
        nn.Sequential(nn.Sequential(nn.Conv2d(4, 4, 3))), nn.BatchNorm2d(4)
    ),
    "head (Sequential) cannot be pruned: it has no linear layer": lambda: resnet(
        PLAN, classifier=lambda features, classes: nn.Flatten()
    ),
}


@pytest.mark.parametrize("said", UNKNOWN)
@pytest.mark.parametrize("mode", MODES)
def test_a_coupling_that_is_not_known_names_its_module(said, mode):
    with pytest.raises(SpaceError) as caught:
        coupled(UNKNOWN[said](), mode)
    assert said in str(caught.value)


def test_where_nothing_can_be_pruned():
    with pytest.raises(SpaceError, match="nothing to prune in this network while stem, shortcut"):
        coupled(made("micro"), "inner")
    assert [c.name for c in coupled(made("micro"), "inner", ("stem",))] == ["head.0"]
