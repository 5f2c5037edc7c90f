"""Stored bytes, and peak activation memory against the allocator's."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from allocator import Attention, Residual, allocated
from nasx.cost.card import card_of
from nasx.cost.memory import Live, stored_bytes
from nasx.cost.ops import count
from nasx.errors import NasxError
from nasx.shape import TaskShape
from search_spaces.tinynet import TinyNet

SMALL = TaskShape("classify", (3, 64, 64), 10)


def vgg():
    layers, c_in = [], 3
    for c_out in (16, 16, 32, 32):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]
        c_in = c_out
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(10))


def tinynet(name):
    point = next(p for p in TinyNet.published if p.name == name)
    candidate = TinyNet.from_json(point.candidate)
    return candidate.build(point.shape), candidate.input_shape(point.shape)


def networks():
    vgg_like = vgg()
    vgg_like(torch.zeros(1, 3, 32, 32))  # makes its lazy layer
    residual = nn.Sequential(Residual(3, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2))
    micro = TinyNet().build(SMALL), TinyNet().input_shape(SMALL)
    return {
        "TinyNet E": tinynet("e"),
        "TinyNet A": tinynet("a"),
        "micro base": micro,
        "residual": (residual, (3, 64, 64)),
        "VGG": (vgg_like, (3, 32, 32)),
        "transformer": (nn.Sequential(*(Attention(96, 3) for _ in range(3))), (65, 96)),
    }


NETWORKS = networks()


@pytest.mark.parametrize("name", NETWORKS)
def test_peak_memory_is_the_allocators_within_a_tenth(name):
    model, shape = NETWORKS[name]
    model.eval()
    counted = count(model, torch.zeros(1, *shape)).peak_bytes
    assert counted == pytest.approx(allocated(model, shape), rel=0.1)


def test_peak_memory_of_a_chain_by_hand():
    net = nn.Sequential(nn.Linear(100, 300), nn.Linear(300, 50), nn.Linear(50, 400))
    # The input stays with its owner; a layer's input and output are alive together.
    assert count(net, torch.zeros(1, 100)).peak_bytes == 4 * (100 + max(300 + 50, 50 + 400))


def test_views_and_weights_take_nothing_and_what_is_dropped_is_free():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(8, 8))

        def forward(self, x):
            kept = x.view(4, 2).t()  # a view
            for _ in range(5):
                x = x + 1.0  # the old one goes
            return x @ self.w.t(), kept

    # x, its successor and the one after; the caller's input stays.
    assert count(Net(), torch.zeros(1, 8)).peak_bytes == 4 * 8 * 3


def test_a_storage_counts_once_until_it_is_let_go():
    live = Live()
    a = torch.zeros(10)
    live.write_all({"a": a, "also a": [a[2:], a.view(2, 5)]})
    assert (live.now, live.peak) == (40, 40)
    b = torch.zeros(5)
    live.write(b)
    del a
    assert (live.now, live.peak) == (20, 60)


class OneBit(nn.Linear):
    def stored_bits(self):
        return {"weight": 1}


def test_stored_bytes_follow_the_bits_that_a_layer_names():
    net = nn.Sequential(nn.Linear(10, 3), OneBit(10, 3).half())
    assert stored_bytes(net) == 4 * 33 + 4 + 2 * 3  # 30 bits fill 4 bytes; its bias is fp16
    assert card_of(net[0], (10,)).bytes == 4 * 33
    net[1].weight = net[0].weight  # tied: the first to name it decides
    assert stored_bytes(net) == 4 * 33 + 2 * 3


LARGE = textwrap.dedent("""
    import resource, sys, torch
    from torch import nn
    from nasx.cost.ops import count

    def most():  # KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    {code}
    before = most()
    found = count(net, x)
    print(found.macs, found.elementwise, (most() - before) // 1024)
""")
EDSR = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Conv2d(256, 256, 3, 1, 1) for _ in range(2))
    def forward(self, x):
        return x + 0.1 * self.b(torch.relu(self.a(x)))
body = [Block() for _ in range(32)] + [nn.Conv2d(256, 256, 3, 1, 1)]
tail = [nn.Conv2d(256, 1024, 3, 1, 1), nn.PixelShuffle(2), nn.Conv2d(256, 3, 3, 1, 1)]
net, x = nn.Sequential(nn.Conv2d(3, 256, 3, 1, 1), *body, *tail), torch.zeros(1, 3, 360, 640)
"""
ADDER = """
class Adder(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(64, 64 * 9))
    def forward(self, x):
        columns = nn.functional.unfold(x, 3, padding=1)
        return -(columns[:, None] - self.w[None, :, :, None]).abs().sum(2).view(x.shape)
net, x = nn.Sequential(Adder(), nn.ReLU(), Adder()), torch.zeros(1, 64, 56, 56)
"""


@pytest.mark.parametrize(
    ("code", "macs", "elementwise"),
    [
        (EDSR, 9_384_748_646_400, None),  # 1.9 GB of activations
        # im2col, subtraction, absolute value, sum and sign, twice; a ReLU: 462 MB at each step
        (ADDER, 0, 2 * 3136 * (576 + 2 * 64 * 576 + 2 * 64) + 64 * 3136),
    ],
)
def test_a_large_network_is_counted_on_its_shapes_in_little_memory(code, macs, elementwise):
    """Each in a process of its own, whose highest memory is that of the count."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE.replace("{code}", code)],
        capture_output=True,
        text=True,
        check=True,
    )
    counted, written, mib = map(int, done.stdout.split())
    assert counted == macs
    assert elementwise is None or written == elementwise
    assert mib < 200


def test_a_large_network_that_looks_at_values_is_refused_in_one_line():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 256, 7)

        def forward(self, x):
            y = self.conv(x)
            return y if y.mean() > 0 else -y

    with pytest.raises(NasxError, match=r"Gate: above 1 GMAC .* looks at values .* smaller input"):
        card_of(Gate(), (3, 300, 300))
    assert card_of(Gate(), (3, 30, 30)).macs == 256 * 24 * 24 * 147


def test_an_adder_layer_of_plain_operators_does_not_look_free():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(16, 16))

        def forward(self, x):
            return -(x[:, None, :] - self.w).abs().sum(-1)

    counted = count(Plain(), torch.zeros(1, 16))
    assert counted.elementwise_heavy
    assert any("count_ops" in note for note in card_of(Plain(), (16,)).notes)
    priced = card_of(nn.Conv2d(8, 8, 3), (8, 8, 8))
    assert priced.notes == ()
