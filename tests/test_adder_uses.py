"""The adder layer in networks: what it supports, what it refuses, who carries it."""

import copy
import inspect
import logging
import textwrap

import pytest
import torch
from torch import nn

from adder_nets import images, loss, network
from adder_oracle import drawn, official
from nasx.cost.inprocess import sample_aot
from nasx.cost.ops import Ops, count
from nasx.cost.samples import Plan
from nasx.errors import NasxError
from nasx.study import Measure
from search_spaces._layers import _adder_kernel, _native
from search_spaces._layers._adder_ops import adder_conv2d, grad_input, grad_weight
from search_spaces._layers.adder import AdderConv2d, adder_conv2d_reference

# -- the layer ----------------------------------------------------------------------------------


def test_takes_the_places_of_a_convolution():
    layer, conv = AdderConv2d(3, 5, (3, 3), (2, 2), (1, 1)), nn.Conv2d(3, 5, 3, 2, 1, bias=False)
    assert {n: p.shape for n, p in layer.named_parameters()} == {"weight": conv.weight.shape}
    assert layer(images()).shape == conv(images()).shape
    assert repr(layer) == ("AdderConv2d(3, 5, 3, stride=2, padding=1, bias=False, eta=0.2)")


def test_weights_start_normal():
    torch.manual_seed(0)
    layer = AdderConv2d(64, 64, 3, bias=True)
    assert abs(layer.weight.mean()) < 0.02
    assert abs(layer.weight.std() - 1) < 0.02
    assert not layer.bias.any()


def test_counts_two_additions_a_tap():
    found = count(network(), images(1))
    first, second = 2 * 16 * 4 * 4 * 8 * 9, 2 * 10 * 4 * 4 * 16
    assert found.adds == first + second
    assert found.macs == 8 * 8 * 8 * 3 * 9
    assert not found.unpriced
    shapes = count(network().to("meta"), torch.empty(1, 3, 8, 8, device="meta"))
    assert (shapes.adds, shapes.peak_bytes) == (found.adds, found.peak_bytes)
    assert count(network(), images(20_000)).adds == 20_000 * found.adds  # on shapes: too large
    assert AdderConv2d(2, 3, 1).count_ops(images(), torch.zeros(1, 3, 2, 2)) == Ops(adds=2 * 12 * 2)


def test_gradcheck_fails():
    """The gradients are surrogates, so it must: the true derivative of -|x - w| has only signs.

    Should it ever pass, the layer trains with the sign gradient of the first release of its
    paper, and without the rate of each layer.
    """
    layer = AdderConv2d(2, 3, 3).double()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert not torch.autograd.gradcheck(layer, (x,), raise_exception=False)
    assert not torch.autograd.gradcheck(
        lambda w: adder_conv2d(x.detach(), w, 1, 0), (layer.weight,), raise_exception=False
    )


def test_it_trains():
    model, x = network(), images(16)
    target = torch.randint(0, 10, (16,), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(model(x), target))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_adds_up_in_full(kind):
    x, w, grad = (t.to(kind) for t in drawn(2, 200, 6, 8, 3, 1, 1))
    x.requires_grad_()
    w.requires_grad_()
    y = adder_conv2d(x, w, 1, 1)
    y.backward(grad)
    wanted = official(x.detach(), w.detach(), grad, 1, 1)
    for found, value in zip((y, x.grad, w.grad), wanted, strict=True):
        assert found.dtype == kind
        torch.testing.assert_close(found, value.to(kind), rtol=1e-2, atol=1e-2)
    assert (y.double() - wanted[0]).norm() < 4e-3 * wanted[0].norm()  # one rounding, not 1,800


def test_autocast_computes_in_float32():
    model, x = network(), images()
    with torch.autocast("cpu", torch.bfloat16):
        stem = model[0](x)
        assert stem.dtype == torch.bfloat16
        found = model[1](stem)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model[1](stem.float()))
    loss(model, x).backward()


def test_an_empty_batch():
    x, layer = images(0).requires_grad_(), AdderConv2d(3, 4, 3)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (0, 4, 6, 6)
    assert x.grad.shape == x.shape
    assert not layer.weight.grad.any()


def test_inputs_with_gaps():
    x, w, _ = drawn(2, 6, 12, 4, 3, 1, 1)
    wide = x[:, ::2, :, 1::2]
    flat = torch.ones(1, 1, 1, 1).expand(2, 4, 12, 6)
    torch.testing.assert_close(
        adder_conv2d(wide, w[:, ::2], 1, 1),
        adder_conv2d(wide.contiguous(), w[:, ::2].clone(), 1, 1),
    )
    found = grad_input(flat, wide, w[:, ::2], 1, 1)
    torch.testing.assert_close(
        found, grad_input(flat.contiguous(), wide.contiguous(), w[:, ::2].contiguous(), 1, 1)
    )
    narrow = x.transpose(2, 3)
    torch.testing.assert_close(adder_conv2d(narrow, w, 1, 0), adder_conv2d(narrow.clone(), w, 1, 0))


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keywords", "said"),
    [
        ((4, 8, 3), {"groups": 2}, "no groups and no dilation (groups=2"),
        ((4, 8, 3), {"dilation": 2}, "dilation=2): leave them at 1"),
        ((4, 8, 3, 1, 1, 1), {}, "its sixth argument is bias"),
        ((4, 8, (3, 5)), {}, "kernel_size = (3, 5) must be the same in both directions"),
        ((4, 8, 3, 0), {}, "stride = 0 must be a whole number >= 1"),
        ((4, 8, 3, 1, "same"), {}, "padding = 'same' must be a whole number >= 0"),
        ((4, 0, 3), {}, "out_channels = 0 must be a whole number >= 1"),
        ((4.0, 8, 3), {}, "in_channels = 4.0 must be"),
        ((4, 8, 3, 1, 1, False, 0.0), {}, "eta = 0.0 must be > 0"),
        ((4, 8, 3, 1, 1, False, "high"), {}, "eta = 'high' must be > 0"),
    ],
)
def test_a_layer_that_cannot_be(arguments, keywords, said):
    with pytest.raises(NasxError) as caught:
        AdderConv2d(*arguments, **keywords)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(2, 5, 8, 8), "has 5 channels and the adder filters (8, 4, 3, 3) have 4"),
        (torch.zeros(4, 8, 8), "takes an input (N, C, H, W)"),
        (torch.zeros(2, 4, 2, 8), "smaller than the adder kernel of 3 x 3"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.float64), "input is torch.float64 and its weight"),
        (torch.zeros(2, 4, 8, 8, dtype=torch.bfloat16), "or use torch.autocast"),
        (torch.zeros(2, 4, 8, 8, device="meta"), "is on meta and the adder filters on cpu"),
    ],
)
def test_an_input_that_does_not_fit(x, said):
    with pytest.raises(NasxError) as caught:
        AdderConv2d(4, 8, 3)(x)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_refused():
    x, w = torch.ones(1, 1, 3, 3, dtype=torch.int64), torch.ones(1, 1, 3, 3, dtype=torch.int64)
    with pytest.raises(NasxError, match=r"floating-point numbers, not torch\.int64"):
        adder_conv2d(x, w, 1, 0)


def test_without_a_compiler_it_is_slower_and_the_same(monkeypatch, caplog):
    x, w, grad = drawn(2, 5, 6, 7, 3, 1, 1)
    monkeypatch.setenv("CXX", "no-such-compiler")
    _native._library.cache_clear()
    with caplog.at_level(logging.WARNING, "nasx"):
        y, of_x = adder_conv2d(x, w, 1, 1), grad_input(grad, x, w, 1, 1)
    assert len(caplog.messages) == 1
    wanted = official(x, w, grad, 1, 1)
    torch.testing.assert_close(y, wanted[0].float(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(of_x, wanted[1].float(), rtol=1e-4, atol=1e-4)
    _native._library.cache_clear()


def test_short_memory_is_said():
    with pytest.raises(MemoryError, match="no memory left"):
        _adder_kernel._demand_memory(1)


# -- who carries it -----------------------------------------------------------------------------


def test_operators_keep_the_rules_of_torch():
    x, w, grad = drawn(2, 3, 6, 4, 3, 2, 1)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    for form in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=form)
        w.requires_grad_()
        torch.library.opcheck(adder_conv2d.default, (x, w, 2, 1, 0.2), test_utils=tests)
        torch.library.opcheck(grad_input.default, (grad, x, w.detach(), 2, 1), test_utils=tests)
        torch.library.opcheck(
            grad_weight.default, (grad, x, w.detach(), 2, 1, 0.2), test_utils=tests
        )


def test_compiled_it_trains_the_same():
    plain, x = network(), images()
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    for model in (plain, compiled):
        loss(model, x).backward()
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_exported_for_any_batch():
    model = network().eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: batch},), strict=False)
    assert "nasx.adder_conv2d" in program.graph_module.code
    torch.testing.assert_close(program.module()(images(5)), model(images(5)))


def test_the_reference_stands_alone_and_exports():
    class Alone(nn.Module):
        def forward(self, x, w):
            return own(x, w, stride=2, padding=1)

    room = {"torch": torch, "F": nn.functional}
    exec(textwrap.dedent(inspect.getsource(adder_conv2d_reference)), room)
    own = room["adder_conv2d_reference"]
    assert AdderConv2d.references == {"nasx::adder_conv2d": adder_conv2d_reference}
    x, w, _ = drawn(5, 4, 8, 6, 3, 2, 1)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        Alone(), (x[:2], w), dynamic_shapes=({0: batch}, None), strict=False
    )
    torch.testing.assert_close(program.module()(x, w), adder_conv2d(x, w, 2, 1))


@pytest.mark.slow
def test_a_compiled_package_runs_the_kernel():
    measure = Measure(runtime="aot", threads=1)
    layer = AdderConv2d(3, 4, 3)  # alone: the rest of a network takes seconds to compile
    found = sample_aot({"adder": (layer, (3, 8, 8))}, measure, Plan(passes=1, runs=1))
    assert not found.faults
    assert found.rows
