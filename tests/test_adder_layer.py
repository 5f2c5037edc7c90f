"""The adder layer computes what its papers say on every path: each level, and plain torch."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from adder_oracle import drawn, official
from search_spaces._layers import _adder_kernel, _adder_plain, _native
from search_spaces._layers._adder_ops import adder_conv2d
from search_spaces._layers.adder import AdderConv2d, adder_conv2d_reference

GOLDEN = Path(__file__).parent / "golden" / "adder"
# Cases of the official layer: stride, padding. The arrays say the rest.
CASES = {
    "basic_k3": (1, 1), "stride2_k3": (2, 1), "down_1x1_s2": (2, 0), "nopad_k3": (1, 0),
    "small_scale_unclipped": (1, 1), "edge_zero_grad": (1, 1), "module_bias": (1, 1),
}  # fmt: skip
HERE = [n for n, (needs, _) in _native.LEVELS.items() if needs <= _native.processor_flags()]
PATHS = [*HERE, "plain"]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Force one path; without a compiler only plain torch is there."""
    take(request.param, monkeypatch)
    return request.param


def take(path, monkeypatch):
    if path == "plain":
        monkeypatch.setattr(_adder_kernel, "library", lambda name: None)
    elif shutil.which("g++") is None:
        pytest.skip("there is no g++")
    else:
        monkeypatch.setenv("NASX_ISA", path)
        assert _native.library("adder") is not None


def run(x, w, grad, stride, padding, eta=0.2):
    """Return output and both gradients."""
    x, w = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = adder_conv2d(x, w, stride, padding, eta)
    y.backward(grad)
    return y.detach(), x.grad, w.grad


def close(found, wanted):
    """Hold to the tolerances of the golden tensors."""
    for a, b, (rtol, atol) in zip(
        found, wanted, ((1e-5, 1e-4), (1e-4, 1e-4), (1e-4, 1e-5)), strict=True
    ):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_golden_tensors_of_the_official_layer(path, name, form):
    with np.load(GOLDEN / f"{name}.npz") as file:
        g = {key: torch.from_numpy(file[key]) for key in file}
    stride, padding = CASES[name]
    filters, channels, kernel, _ = g["w"].shape
    layer = AdderConv2d(channels, filters, kernel, stride, padding, bias="b" in g)
    with torch.no_grad():
        layer.weight.copy_(g["w"])
        if layer.bias is not None:
            layer.bias.copy_(g["b"])
    x = g["x"].clone(memory_format=form).requires_grad_()
    y = layer(x)
    y.backward(g["gy"].contiguous(memory_format=form))
    close((y, x.grad, layer.weight.grad), (g["y"], g["gx"], g["gw"]))
    assert y.is_contiguous(memory_format=form)
    assert x.grad.is_contiguous(memory_format=form)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.grad, g["gb"])
    if "gw64" in g:
        found = run(g["x"].double(), g["w"].double(), g["gy"].double(), stride, padding)
        torch.testing.assert_close(found, (g["y64"], g["gx64"], g["gw64"]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [0.05, 1, 10, 100])
@pytest.mark.parametrize(
    "shape",
    [(2, 64, 8, 64, 3, 1, 1), (2, 32, 16, 64, 3, 2, 1), (3, 17, 7, 33, 5, 1, 2),
     (2, 256, 4, 20, 1, 1, 0), (1, 3, 9, 5, 5, 2, 2)],
)  # fmt: skip
def test_golden_tolerances_hold_at_all_scales(path, shape, scale):
    x, w, grad = drawn(*shape, scale=scale)
    stride, padding = shape[5:]
    close(run(x, w, grad, stride, padding), official(x, w, grad, stride, padding))
    x = x.relu().contiguous(memory_format=torch.channels_last)  # as layers meet it
    close(run(x, w, grad, stride, padding), official(x, w, grad, stride, padding))


@st.composite
def problems(draw):
    kernel, padding = draw(st.integers(1, 5)), draw(st.integers(0, 6))
    side = st.integers(max(1, kernel - 2 * padding), 11)
    return (
        draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(side), draw(side),
        draw(st.integers(1, 36)), kernel, draw(st.integers(1, 4)), padding,
        10 ** draw(st.floats(-3, 3)), draw(st.floats(-5, 5)), draw(st.integers(0, 2**31)),
    )  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_any_shape_and_scale_against_float64(path):
    with pytest.MonkeyPatch.context() as monkeypatch:
        take(path, monkeypatch)
        any_shape_and_scale()


@settings(max_examples=40, deadline=None)
@given(problem=problems(), last=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def any_shape_and_scale(problem, last):
    n, c, height, width, o, kernel, stride, padding, scale, offset, seed = problem
    generator = torch.Generator().manual_seed(seed)
    x = scale * (torch.randn(n, c, height, width, generator=generator) + offset)
    w = scale * (torch.randn(o, c, kernel, kernel, generator=generator) + offset)
    sides = [(s + 2 * padding - kernel) // stride + 1 for s in (height, width)]
    grad = torch.randn(n, o, *sides, generator=generator)
    x, w, grad = (
        t.contiguous(memory_format=torch.channels_last) if yes else t
        for t, yes in zip((x, w, grad), last, strict=True)
    )
    y, of_x, of_w = run(x, w, grad, stride, padding)
    wanted = official(x, w, grad, stride, padding)
    # The identity adds up |x| and |w| themselves: what they cancel sets the error.
    terms = F.conv2d(x.abs(), torch.ones_like(w), stride=stride, padding=padding)
    terms += w.abs().sum((1, 2, 3)).view(1, -1, 1, 1)
    assert ((y - wanted[0]).abs() <= 1e-6 * terms).all()
    shares = torch.nn.grad.conv2d_input(
        x.shape, torch.ones_like(w), grad.abs(), stride=stride, padding=padding
    )
    rounding = 1e-6 * shares * min(1.0, 1 + scale)  # clip(w - x) is at most 1
    rounding += 2e-7 * (x.abs() + w.abs().max()) * shares  # of the difference itself
    assert ((of_x - wanted[1]).abs() <= rounding).all()
    assert (of_w - wanted[2]).norm() <= 1e-4 * max(1, abs(offset)) * wanted[2].norm()


def test_the_layer_says_what_it_runs_on(path):
    layer, said = AdderConv2d(2, 3, 1), "plain torch" if path == "plain" else path
    assert layer.kernel == f"adder ({said})"
    assert layer.half().kernel == layer.kernel
    assert layer.double().kernel == "adder (plain torch)"


def test_by_hand(path):
    """Ties, the bounds of the clip, and a negative zero that is none."""
    x = torch.tensor([0.0, 0.5, 2.0]).view(1, 1, 1, 3)
    w = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    grad = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).view(1, 2, 1, 3)
    y, of_x, of_w = run(x, w, grad, 1, 0)
    assert y.flatten().tolist() == [0, -0.5, -2, -1, -0.5, -1]
    assert of_x.flatten().tolist() == [4, 1.5, -9]
    raw = torch.tensor([7.0, -0.5])
    torch.testing.assert_close(of_w.flatten(), raw * 0.2 * 2**0.5 / raw.norm())


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_ties_have_no_input_gradient(path, scale):
    _, w, grad = drawn(2, 24, 5, 1, 1, 1, 0, scale)
    y, of_x, _ = run(w.expand(2, 24, 5, 5).contiguous(), w, grad, 1, 0)
    assert not of_x.any()
    assert y.abs().max() <= 1e-5 * scale


def test_no_gradient_gives_exactly_none(path):
    x, w, grad = drawn(2, 5, 6, 7, 3, 1, 1)
    _, of_x, of_w = run(x, w, torch.zeros_like(grad), 1, 1)
    assert not of_x.any()
    assert not of_w.any()


def test_padding_counts(path):
    w = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    y = adder_conv2d(torch.zeros(1, 2, 1, 1), w, 1, 1)
    torch.testing.assert_close(y.flatten(), -w.abs().sum((1, 2, 3)))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_the_weight_gradient_has_a_norm_of_its_own(path, factor):
    x, w, grad = drawn(2, 6, 7, 8, 3, 2, 1)
    eta = 0.05
    of_w = run(x, w, factor * grad, 2, 1, eta)[2]
    torch.testing.assert_close(of_w.norm().item(), eta * w.numel() ** 0.5)
    torch.testing.assert_close(of_w, run(x, w, grad, 2, 1, eta)[2])


def test_what_is_not_a_number_stays_so(path):
    x, w, grad = drawn(1, 4, 5, 3, 3, 1, 1)
    x[0, 1, 2, 2] = float("nan")
    y, of_x, of_w = run(x, w, grad, 1, 1)
    assert y[0, :, 1:4, 1:4].isnan().all()
    assert y[0, :, 0].isfinite().all()
    assert of_x.isnan().nonzero().tolist() == [[0, 1, 2, 2]]
    assert of_w.isnan().any()


def test_threads_change_nothing(path):
    before = torch.get_num_threads()
    try:
        for shape in ((5, 8, 9, 20, 3, 1, 1), (1, 8, 9, 20, 3, 2, 1)):
            found = []
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                x, w, grad = drawn(*shape)
                found.append(run(x, w, grad, *shape[5:])[:2])
            for other in found[1:]:
                assert all(map(torch.equal, found[0], other))
    finally:
        torch.set_num_threads(before)


def test_an_image_larger_than_a_band(path):
    x, w, grad = drawn(1, 16, 90, 4, 3, 1, 1)
    close(run(x, w, grad, 1, 1), official(x, w, grad, 1, 1))


def test_variance_of_outputs():
    """Var = K (1 - 2/pi) (Vx + Vw): what makes the rate adaptive (within 2 %)."""
    generator, found, taps, spread = torch.Generator().manual_seed(0), [], 16, 3.0
    for _ in range(8):
        x = torch.randn(1, taps, 32, 32, generator=generator)
        w = spread * torch.randn(4096, taps, 1, 1, generator=generator)
        found.append(adder_conv2d(x, w, 1, 0).var().item())
    wanted = taps * (1 - 2 / torch.pi) * (1 + spread**2)
    assert abs(sum(found) / len(found) / wanted - 1) < 0.02


@pytest.mark.parametrize("shape", [(2, 8, 9, 6, 3, 2, 1), (2, 5, 6, 4, 1, 1, 0)])
def test_the_reference_computes_the_same(shape):
    x, w, _ = drawn(*shape)
    found = adder_conv2d_reference(x, w, *shape[5:])
    torch.testing.assert_close(found, adder_conv2d(x, w, *shape[5:]), rtol=1e-5, atol=1e-4)


class Largest(TorchDispatchMode):
    """Remembers the elements of the largest tensor that anything returned."""

    elements = 0

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # spares 2 s of imports

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.untyped_storage().nbytes() // out.itemsize)
        return out


def test_plain_torch_never_holds_all_taps():
    x, w, grad = drawn(2, 16, 16, 16, 3, 1, 1)
    with Largest() as seen:
        _adder_plain.forward(x, w, 1, 1)
        _adder_plain.grad_input(grad, x, w, 1, 1)
    assert seen.elements <= 2 * x.numel()
    assert seen.elements * 16 < w.numel() * 2 * 16 * 16
