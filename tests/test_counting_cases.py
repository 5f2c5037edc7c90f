"""Counts against closed forms, for what users meet, as they meet it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hand_counted import ANCHORS, Call, Case
from met_in_practice import CASES, ENCODER, N, T, encoder
from nasx.cost.bounds import elements_written
from nasx.cost.ops import count, on_shapes
from nasx.cost.untouched import untouched

BY_VALUE = {"LSTM, packed", "GRU, packed"}  # how long sequences are is a value, not a shape
ALL = {**ANCHORS, **CASES}


PROJECTED = "ignore:LSTM with projections is not supported"  # by the faster kernels: torch says it


@pytest.mark.filterwarnings(PROJECTED)
@pytest.mark.parametrize("name", ALL)
def test_the_count_is_that_worked_by_hand(name):
    case = ALL[name]
    counted = count(case.make(), *case.inputs())
    assert counted.macs == case.macs
    assert counted.unpriced == ()


@pytest.mark.filterwarnings(PROJECTED)
@pytest.mark.parametrize("name", [n for n in CASES if n not in BY_VALUE])
def test_shapes_alone_say_the_same(name):
    case = CASES[name]
    model, inputs = case.make(), case.inputs()
    with untouched(model):
        assert on_shapes(model, inputs, traffic=True) == count(model, *inputs, traffic=True)


@pytest.mark.parametrize("training", [False, True])
def test_a_fused_fast_path_hides_nothing(training):
    stack = nn.TransformerEncoder(encoder(), 3, enable_nested_tensor=False).train(training)
    assert count(stack, torch.ones(N, T, 8)).macs == 3 * ENCODER


PLAIN = Case(lambda: nn.Conv2d(4, 6, 3), ((N, 4, 5, 5),), N * 6 * 9 * 4 * 9)


@pytest.mark.parametrize("number", [torch.float16, torch.bfloat16, torch.float64])
def test_other_numbers_count_alike(number):
    (x,) = PLAIN.inputs()
    assert count(PLAIN.make().to(number), x.to(number)).macs == PLAIN.macs


def test_channels_last_counts_alike():
    (x,) = PLAIN.inputs()
    last = x.contiguous(memory_format=torch.channels_last)
    assert count(PLAIN.make(), last).macs == PLAIN.macs
    assert count(PLAIN.make().to(memory_format=torch.channels_last), last).macs == PLAIN.macs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_traced_module_counts_alike():
    (x,) = PLAIN.inputs()
    traced = torch.jit.trace(nn.Sequential(PLAIN.make(), nn.ReLU()), x)
    assert count(traced, x).macs == PLAIN.macs


def test_weights_that_are_computed_count():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    assert count(layer, torch.ones(2, 4)).macs == 24


def test_noise_and_rounding_are_priced():
    def forward(m, x):
        noisy = x + torch.empty_like(x).normal_() + torch.empty_like(x).uniform_()
        return torch.fake_quantize_per_tensor_affine(F.gumbel_softmax(noisy), 0.1, 0, -8, 7)

    counted = count(Call(forward), torch.ones(2, 4))
    assert (counted.macs, counted.unpriced) == (0, ())


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_width_of_zero_is_no_fault():
    net = nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 2))
    assert count(net, torch.ones(1, 4), traffic=True).macs == 0


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(2, 0), stride=(2, 1)),
        lambda x: F.interpolate(x, size=(7, 9), mode="bicubic"),
        lambda x: F.grid_sample(x, torch.zeros(2, 3, 5, 2), align_corners=False),
    ],
)
def test_what_an_operator_will_write_is_known_before_it_runs(layer):
    written = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            written.append((elements_written(func, args)[0], out.numel()))
            return out

    with Watch():
        layer(torch.ones(2, 3, 6, 8))
    assert written[-1][0] == written[-1][1]
    assert all(bound >= written for bound, written in written)
