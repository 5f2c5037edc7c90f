"""The quick count says what the walk says, or gives up; either way the network stays as it was."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from hand_counted import Call, Gate, Residual, Subclassed
from nasx.cost.ledger import names_of
from nasx.cost.ops import Ops, _walked, count
from nasx.cost.quick import quick_count
from nasx.cost.untouched import untouched

ACTIVATIONS = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu, new": nn.ReLU,
    "relu6": lambda: nn.ReLU6(inplace=True),
    "silu": nn.SiLU,
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "leaky": lambda: nn.LeakyReLU(0.1, inplace=True),
    "gelu": nn.GELU,
    "functional": lambda: Call(lambda m, x: F.relu(x, inplace=True)),
    "none": nn.Identity,
}
POOLS = {
    "max": lambda: nn.MaxPool2d(3, 2, 1),
    "mean": lambda: nn.AvgPool2d(2, padding=1),
    "adaptive": lambda: nn.AdaptiveAvgPool2d((2, 3)),
}


class Split(nn.Module):
    """Half of the channels go through a body, scaled by a weight; both are joined by addition."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Conv2d(channels // 2, channels // 2, 1)
        self.scale = nn.Parameter(torch.ones(channels // 2, 1, 1))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        return (a + self.body(b * self.scale)) / 2


class Fewer(nn.Module):
    """Few channels of a convolution in their places among as many as came, every other pixel."""

    def __init__(self, channels, few):
        super().__init__()
        self.few = nn.Conv2d(channels, few, 1)
        places = torch.tensor([min(i, few) for i in range(channels)])
        self.register_buffer("places", places, persistent=False)

    def forward(self, x):
        few = self.few(x)
        return x + F.pad(few, (0, 0, 0, 0, 0, 1)).index_select(1, self.places)


@st.composite
def networks(draw):
    """Plain convolutional networks, and an image (odd sizes too) for each."""
    sides = draw(st.tuples(st.integers(5, 17), st.integers(5, 17)))
    channels = draw(st.sampled_from([1, 3, 4]))
    x = torch.ones(draw(st.integers(1, 3)), channels, *sides)
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        groups = draw(st.sampled_from([1, 2, channels]))
        groups = groups if channels % groups == 0 else 1
        width = 2 * groups * draw(st.integers(1, 3))
        kernel, stride = draw(st.sampled_from([1, 3, (1, 5)])), draw(st.integers(1, 2))
        dilation = draw(st.integers(1, 2))
        layers.append(
            nn.Conv2d(channels, width, kernel, stride, 4, dilation, groups, draw(st.booleans()))
        )
        channels = width
        if draw(st.booleans()):
            layers.append(nn.BatchNorm2d(channels, affine=draw(st.booleans())))
        layers.append(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
        match draw(st.sampled_from(["gate", "residual", "pool", "split", "fewer", "nothing"])):
            case "gate":
                layers.append(Gate(channels, 2))
            case "residual":
                body = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(True))
                layers.append(Residual(body, draw(st.sampled_from([None, nn.Identity()]))))
            case "fewer":
                layers.append(Fewer(channels, draw(st.integers(1, channels))))
            case "pool":
                layers.append(POOLS[draw(st.sampled_from(sorted(POOLS)))]())
            case "split":
                layers.append(Split(channels))
                channels //= 2
    heads = [
        (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(channels, 3)),
        (Call(lambda m, x: x.mean((2, 3))), nn.Linear(channels, 3, bias=False)),
        (Call(lambda m, x: x.amax((2, 3), True)),),
    ]
    net = nn.Sequential(nn.Sequential(*layers), *draw(st.sampled_from(heads)))
    return net.train(draw(st.booleans())), x


def walked(model, *inputs):
    with untouched(model):
        return _walked(model, inputs, traffic=False, bounded=False)


def state(model):
    """Everything of a network that a count could leave a trace in."""
    return [
        [(k, id(v), v.device.type, v.flatten().tolist()) for k, v in own.items() if v is not None]
        for m in model.modules()
        for own in (m._parameters, m._buffers)
    ] + [
        [(k, id(v)) for k, v in m.__dict__.items() if k not in ("training", "hooked")]
        + [m.training]
        for m in model.modules()
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_plain_networks_count_alike_either_way(drawn):
    model, x = drawn
    before = state(model)
    found = quick_count(model, (x,))
    assert state(model) == before
    assert found is not None
    assert found == walked(model, x)
    assert state(model) == before


class Priced(nn.Conv2d):
    def count_ops(self, x, out):
        return Ops(adds=out.numel())


class Keeps(nn.Module):
    """Replaces a buffer, and remembers its answer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        self.calls = self.calls + 1
        return self.conv(x)


def hooked():
    layer = nn.Conv2d(3, 4, 1)
    layer.register_forward_hook(lambda m, i, o: o)
    return layer


def smaller():
    """A layer whose weights were pruned, while its channels still say 4."""
    layer = nn.Conv2d(3, 4, 1)
    layer.weight, layer.bias = nn.Parameter(layer.weight[:2]), nn.Parameter(layer.bias[:2])
    return layer


def own_forward():
    layer = nn.Conv2d(3, 4, 1)
    layer.forward = lambda x: F.conv2d(x, layer.weight[:, :, :, :])
    return layer


def tried(first):
    """A network that catches what its first attempt raises."""

    def forward(m, x):
        try:
            return first(m, x)
        except Exception:
            return x

    return Call(forward, conv=nn.Conv2d(3, 4, 1, padding="same"))


def remembers(m, x):
    m.conv.seen = x + 1
    return m.conv(x)


def nhwc(m, x):
    return m.conv(x.permute(0, 3, 1, 2)).flatten(1)


IMAGE = (2, 3, 4, 4)
UNUSUAL = {  # name: (network, the MACs of the walk)
    "a hook": (hooked, 2 * 4 * 16 * 3),
    "a subclass": (lambda: Subclassed(3, 4, 1), 2 * 4 * 16 * 3),
    "prices itself": (lambda: Priced(3, 4, 1), 0),
    "channels last": (
        lambda: nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
        2 * 4 * 4 * 27,
    ),
    "a forward attribute": (own_forward, 2 * 4 * 16 * 3),
    "weights made smaller": (smaller, 2 * 2 * 16 * 3),
    "a buffer replaced": (Keeps, 2 * 4 * 16 * 3),
    "an answer left in a layer": (
        lambda: Call(remembers, conv=nn.Conv2d(3, 4, 1)),
        2 * 4 * 16 * 3,
    ),
    "alpha": (lambda: Call(lambda m, x: torch.add(x, x, alpha=2)), 0),
    "rounding": (lambda: Call(lambda m, x: torch.div(x, 2, rounding_mode="floor")), 0),
    "padding by edges": (lambda: Call(lambda m, x: F.pad(x, (1, 1, 0, 0), mode="replicate")), 0),
    "padding by one": (lambda: Call(lambda m, x: F.pad(x, (1, 1), value=1.0)), 0),
    "padding taken away": (lambda: Call(lambda m, x: F.pad(x, (-1, 1))), 0),
    "padding by name": (lambda: nn.Conv2d(3, 4, 3, padding="same"), 2 * 4 * 16 * 27),
    "looks at the device": (
        lambda: Call(
            lambda m, x: m.conv(x) if x.device.type == "cpu" else x, conv=nn.Conv2d(3, 4, 1)
        ),
        2 * 4 * 16 * 3,
    ),
    "looks at values": (
        lambda: Call(lambda m, x: m.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(3, 4, 1)),
        2 * 4 * 16 * 3,
    ),
    "catches a layer": (lambda: tried(lambda m, x: m.conv(x)), 2 * 4 * 16 * 3),
    "catches a function": (lambda: tried(lambda m, x: F.linear(x, m.conv.weight[0, :, 0])), 0),
    "a matrix product": (lambda: Call(lambda m, x: x @ x), 2 * 3 * 64),
    "channels moved": (lambda: Call(nhwc, conv=nn.Conv2d(4, 2, 1)), 2 * 2 * 12 * 4),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_the_walk(name):
    make, macs = UNUSUAL[name]
    model, x = make().train(), torch.ones(IMAGE)
    before = state(model)
    found = quick_count(model, (x,))
    assert state(model) == before
    assert found is None
    assert count(model, x).macs == macs


def test_places_that_are_not_there_are_left_to_the_walk():
    model = Fewer(3, 2)
    assert quick_count(model, (torch.ones(IMAGE),)) is not None
    model.places[1] = 3
    assert quick_count(model, (torch.ones(IMAGE),)) is None


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, 4, 4),
        torch.ones(IMAGE).contiguous(memory_format=torch.channels_last),
        torch.ones(1, 3, 1, 1).expand(IMAGE),
        torch.ones(0, 3, 4, 4),
        torch.ones(IMAGE).double(),
        torch.ones(2, 5, 4, 4),
    ],
    ids=["no batch", "channels last", "expanded", "empty", "other numbers", "other channels"],
)
def test_an_unusual_input_is_left_to_the_walk(x):
    assert quick_count(nn.Conv2d(3, 4, 1), (x,)) is None


@pytest.mark.parametrize("message", ["the head does not fit", None])
def test_a_network_that_raises_is_left_as_it_was(message):
    def forward(m, x):
        y = m.conv(x)
        if message:
            raise RuntimeError(message)
        return m.norm(y)

    model = Call(forward, conv=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm2d(5)).train()
    before = state(model)
    with pytest.raises(RuntimeError, match=message or "running_mean should contain 4 elements"):
        count(model, torch.ones(IMAGE))
    assert state(model) == before


def test_what_a_network_does_in_training_alone_is_not_counted():
    net = Call(lambda m, x: m.a(m.a(x)) if m.training else m.a(x), a=nn.Conv2d(3, 3, 1)).train()
    assert quick_count(net, (torch.ones(IMAGE),)).macs == 2 * 3 * 16 * 3
    assert net.training


def test_hooks_on_every_module_run_on_real_numbers():
    seen = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda m, i, o: seen.append(o.device.type)
    )
    try:
        assert count(nn.Conv2d(3, 4, 1), torch.ones(IMAGE)).macs == 2 * 4 * 16 * 3
    finally:
        hook.remove()
    assert seen == ["cpu"]


def test_one_channel_moved_is_not_taken_for_plain():
    net = Call(nhwc, conv=nn.Conv2d(1, 2, 1))
    x = torch.ones(2, 4, 4, 1)  # moved, it is contiguous and laid out channels last at once
    assert quick_count(net, (x,)) is None
    assert count(net, x) == walked(net, x)


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions_count_alike(dims):
    conv, norm = (nn.Conv1d, None, nn.Conv3d)[dims - 1], nn.BatchNorm3d(4)
    net = nn.Sequential(conv(3, 4, 3, 2, 1), *([norm] if dims == 3 else []), nn.Sigmoid())
    x = torch.ones(2, 3, *[9] * dims)
    assert quick_count(net, (x,)) == walked(net, x)


def test_modules_are_named_as_torch_names_them():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(
        nn.Sequential(shared, nn.ReLU()), nn.ModuleDict({"a": shared}), nn.Conv2d(1, 1, 1)
    )
    net.register_module("none", None)
    assert list(names_of(net).items()) == [(m, name) for name, m in net.named_modules()]
