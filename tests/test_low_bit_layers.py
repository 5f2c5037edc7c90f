"""Deployed low-bit convolutions equal the float arithmetic of the quantised network exactly."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from nasx.cost.ops import count
from search_spaces._layers import _bytes, xnor
from search_spaces._layers._bytes import runs_in_bytes
from search_spaces._layers._native import LEVELS, library, processor_flags
from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.int_conv import IntConv2d, int_conv2d
from search_spaces._layers.xnor import XnorConv2d, xnor_conv2d

SHAPES = st.fixed_dictionaries({
    "n": st.sampled_from([0, 1, 3]),
    "c": st.sampled_from([1, 3, 7, 16, 31, 32, 33, 64, 65, 100]),
    "o": st.sampled_from([1, 5, 16, 17, 40]),
    "k": st.sampled_from([1, 2, 3, 5]),
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 3),
    "h": st.integers(5, 17),
    "w": st.integers(5, 18),
    "last": st.booleans(),
    "scaled": st.booleans(),
    "seed": st.integers(0, 999),
})  # fmt: skip


def drawn(n, c, h, w, last, seed, **_) -> tuple[Tensor, torch.Generator]:
    """Return an input with zeros of both signs, and where to draw more from."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=draw)
    x[x.abs() < 0.2] = 0.0
    x[x.abs() < 0.3] *= -0.0
    return (x.contiguous(memory_format=torch.channels_last) if last else x), draw


def scale_of(given, draw) -> Tensor | None:
    return torch.randn(given["o"], generator=draw) if given["scaled"] else None


def in_format(y: Tensor, x: Tensor) -> bool:
    """Return whether an output lies as its input does."""
    wanted = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.is_contiguous(memory_format=torch.channels_last if wanted else torch.contiguous_format)


@settings(max_examples=40, deadline=None)
@given(SHAPES)
def test_xnor_equals_the_float_convolution_of_signs(given):
    x, draw = drawn(**given)
    o, c, k, stride, padding = (given[n] for n in ("o", "c", "k", "stride", "padding"))
    signs = torch.randint(0, 2, (o, c, k, k), generator=draw) * 2 - 1
    scale = scale_of(given, draw)
    y = XnorConv2d.from_signs(signs, stride, padding, scale)(x)
    wanted = F.conv2d(torch.where(x >= 0, 1.0, -1.0), signs.float(), None, stride, padding)
    assert torch.equal(y, wanted if scale is None else wanted * scale.view(-1, 1, 1))
    assert in_format(y, x)


@settings(max_examples=70, deadline=None)
@given(SHAPES, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.floats(0.3, 9.0))
def test_int_equals_the_float_convolution_of_codes(given, bits, a_bits, alpha):
    x, draw = drawn(**given)
    o, c, k, stride, padding = (given[n] for n in ("o", "c", "k", "stride", "padding"))
    codes = torch.randint(0, 2**bits, (o, c, k, k), generator=draw)
    scale = scale_of(given, draw)
    layer = IntConv2d.from_codes(
        codes, bits, stride, padding, a_bits=a_bits, alpha=alpha, scale=scale
    )
    levels, most, clip = 2**a_bits - 1, 2**bits - 1, torch.tensor(alpha)
    a = torch.round(torch.minimum(x.clamp(min=0), clip) * (levels / clip))
    a = torch.where(x >= 0, 1.0, -1.0) if a_bits == 1 else a
    whole = F.conv2d(a.double(), (2 * codes - most).double(), None, stride, padding).float()
    factor = clip / (levels * most)
    wanted = whole * (factor if scale is None else (scale * factor).view(-1, 1, 1))
    y = layer(x)
    assert torch.equal(y, wanted)
    assert in_format(y, x)
    assert torch.equal(layer.decides(x), a.add(a_bits == 1).div(1 + (a_bits == 1)).byte())


@settings(max_examples=15, deadline=None)
@given(SHAPES, st.sampled_from([1, 2, 4, 8]))
def test_decoded_equals_the_convolution_with_the_grid(given, bits):
    x, draw = drawn(**given)
    o, c, k, stride, padding = (given[n] for n in ("o", "c", "k", "stride", "padding"))
    codes, most = torch.randint(0, 2**bits, (o, c, k, k), generator=draw), 2**bits - 1
    scale = scale_of(given, draw)
    weight = (2 * codes - most).float() / most
    weight = weight if scale is None else weight * scale.view(-1, 1, 1, 1)
    y = DecodedConv2d.from_codes(codes, bits, stride, padding, scale=scale)(x)
    torch.testing.assert_close(y, F.conv2d(x, weight, None, stride, padding))
    assert in_format(y, x)


@pytest.mark.parametrize("channels", [64, 300])
def test_sums_too_large_for_a_float_stay_exact_at_8_bits(channels):
    """All weights 1 and -1, all inputs at the top: 2^24 is passed, and oneDNN answers in floats."""
    codes = torch.full((4, channels, 3, 3), 255)
    codes[1], codes[2, :, 0] = 0, 3
    layer = IntConv2d.from_codes(codes, 8, padding=1)
    x = torch.full((1, channels, 5, 6), 2.0)
    x[:, ::7] = 0.3
    whole = F.conv2d(layer.decides(x).double(), (2 * codes - 255).double(), padding=1)
    assert whole.abs().max() > 2**24
    assert torch.equal(layer(x), whole.float() * torch.tensor(1 / (255 * 255)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.7, 6.0])
@pytest.mark.parametrize("a_bits", [2, 8])
def test_inputs_at_a_border_between_codes_round_as_in_torch(alpha, a_bits, last):
    clip = torch.tensor(alpha)
    middles = (torch.arange(2**a_bits + 2) - 0.5) * (clip / (2**a_bits - 1))
    near = torch.stack([middles, middles.nextafter(clip * 9), middles.nextafter(clip * -9)])
    x = near.reshape(1, 1, 1, -1).expand(1, 33, 1, -1)
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    layer = IntConv2d.from_codes(torch.ones(1, 33, 1, 1).int(), 1, a_bits=a_bits, alpha=alpha)
    factor = clip / (2**a_bits - 1)
    assert torch.equal(layer(x), 33 * layer.decides(x)[:, :1].float() * factor)


@pytest.fixture
def kernels_anew(monkeypatch):
    """Have the kernels looked for again: after the environment changed, and after the test."""

    def anew(**environment: str) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for known in (xnor._kernels, _bytes._kernels, _bytes.runs_in_bytes):
            known.cache_clear()

    yield anew
    monkeypatch.undo()
    anew()


@settings(max_examples=25, deadline=None)
@given(SHAPES)
def both_are_exact(given):
    test_xnor_equals_the_float_convolution_of_signs.hypothesis.inner_test(given)
    test_int_equals_the_float_convolution_of_codes.hypothesis.inner_test(given, 8, 4, 2.0)
    test_int_equals_the_float_convolution_of_codes.hypothesis.inner_test(given, 2, 1, 1.0)


@pytest.mark.parametrize("level", [n for n in LEVELS if LEVELS[n][0] <= processor_flags()])
@pytest.mark.skipif(library("xnor") is None, reason="needs a C++ compiler")
def test_every_level_gives_the_same_numbers(level, kernels_anew):
    kernels_anew(NASX_ISA=level)
    assert XnorConv2d.from_signs(torch.ones(1, 1, 1, 1)).kernel.startswith(f"xnor ({level}")
    both_are_exact()


def test_without_a_compiler_the_numbers_are_the_same(kernels_anew):
    kernels_anew(CXX="no-such-compiler")
    net = small()
    assert net[0].kernel == "xnor (plain torch in float: simulated)"
    assert net[2].kernel == "int8 (plain torch in float: simulated)"
    both_are_exact()


def test_threads_give_the_same_numbers():
    x, draw = drawn(3, 33, 9, 9, True, 0)
    signs = torch.randint(0, 2, (17, 33, 3, 3), generator=draw) * 2 - 1
    net = nn.Sequential(
        XnorConv2d.from_signs(signs, padding=1, scale=torch.full((17,), 0.01)),
        IntConv2d.from_codes(torch.randint(0, 256, (5, 17, 3, 3), generator=draw), 8),
    )
    before, one = torch.get_num_threads(), net(x)
    try:
        torch.set_num_threads(3)
        assert torch.equal(net(x), one)
    finally:
        torch.set_num_threads(before)


def small() -> nn.Sequential:
    draw = torch.Generator().manual_seed(0)

    def codes(bits: int, *shape: int) -> Tensor:
        return torch.randint(0, 2**bits, shape, generator=draw)

    return nn.Sequential(
        XnorConv2d.from_signs(codes(1, 9, 3, 3, 3) * 2 - 1, padding=1, scale=torch.rand(9)),
        nn.BatchNorm2d(9),
        IntConv2d.from_codes(codes(4, 8, 9, 3, 3), 4, 2, 1, a_bits=4, alpha=2.0),
        IntConv2d.from_codes(codes(8, 8, 8, 3, 3), 8, 1, 1),
        IntConv2d.from_codes(codes(2, 8, 8, 1, 1), 2, a_bits=1),
        DecodedConv2d.from_codes(codes(8, 4, 8, 3, 3), 8, padding=1),
    ).eval()


def test_copies_and_state_carry_the_packed_weight_and_nothing_else():
    net, x = small(), torch.randn(2, 3, 8, 8)
    wanted = net(x)  # what is prepared now is in no copy
    assert torch.equal(copy.deepcopy(net)(x), wanted)
    assert {v.dtype for k, v in net.state_dict().items() if k.endswith("packed")} == {torch.uint8}
    other = small()
    for module in other:
        if hasattr(module, "packed"):
            module.packed.random_(0, 256)
    assert not torch.equal(other(x), wanted)
    other.load_state_dict(net.state_dict())  # in place: what was prepared is out of date
    assert torch.equal(other(x), wanted)


def test_an_exported_program_computes_the_same_for_any_batch():
    net, x = small(), torch.randn(3, 3, 8, 8)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(net, (x[:2],), dynamic_shapes=({0: batch},), strict=False)
    assert torch.equal(program.module()(x), net(x))
    stored = {**program.state_dict, **program.constants}
    assert {v.dtype for k, v in stored.items() if k.endswith("packed")} == {torch.uint8}
    assert sum(v.numel() * v.element_size() for v in stored.values()) < 2_500


@pytest.mark.parametrize("last", [False, True])
def test_references_are_the_operators_in_plain_torch(last):
    x, draw = drawn(2, 7, 9, 9, last, 3)
    binary = XnorConv2d.from_signs(
        torch.randint(0, 2, (5, 7, 3, 3), generator=draw) * 2 - 1, 2, 1, torch.rand(5)
    )
    setting = (binary.scale, binary.shape, 2, 1)
    assert torch.equal(xnor_conv2d(x, binary.packed, *setting), binary(x))
    layer = IntConv2d.from_codes(torch.randint(0, 16, (5, 7, 3, 3), generator=draw), 4, a_bits=4)
    plain = int_conv2d(x, layer.packed, layer.alpha, None, layer.shape, 4, 4, 1, 0)
    assert torch.equal(plain, layer(x))


def test_counting_follows_shapes_alone():
    found = count(small().to("meta"), torch.zeros(1, 3, 8, 8, device="meta"))
    assert found.bit_ops == 64 * 9 * 27 + 16 * 8 * (81 * 16 + 72 * 64 + 8 * 2)
    assert not found.unpriced


@pytest.mark.skipif(not runs_in_bytes(8, 8), reason="needs int8 instructions and a compiler")
def test_layers_name_what_runs():
    net = small()
    assert net[0].kernel.startswith("xnor (")
    assert net[2].kernel.startswith("int8 (onednn, ")
    assert net[5].kernel == "float on decoded weights: saves memory only"
