"""What an adder layer cannot do and a convolution can: let its input through unchanged."""

import math

import pytest
import torch
from torch import nn

from nasx.errors import NasxError
from search_spaces._layers.adder import AdderConv2d
from search_spaces._layers.self_shortcut import NORMS, Scale2d, ShortcutAdder2d


def floor(taps: int) -> float:
    """Return the closed form: the share of an N(0, 1) input that `taps` taps leave unexplained.

    |x| has the variance 1 - 2 / pi, so the K - 1 taps that cannot be silenced add the noise v.
    """
    v = (taps - 1) * (1 - 2 / math.pi)
    return v / (1 + v)


def images(n: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def missed(y: torch.Tensor, x: torch.Tensor) -> float:
    """Return the mean squared error of the best scale and shift of `y`, over the variance of x."""
    y, x = y.flatten() - y.mean(), x.flatten() - x.mean()
    return float(1 - (y @ x) ** 2 / ((y @ y) * (x @ x)))


def test_the_floor_by_its_numbers():
    assert [round(floor(k), 3) for k in (9, 36, 144)] == [0.744, 0.927, 0.981]
    assert floor(1) == 0  # one tap can


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_the_best_filter_of_the_argument_meets_the_floor(channels):
    """One tap of weight above all inputs gives x - w; the others, at 0, give -|x|."""
    layer = AdderConv2d(channels, 1, 3)  # no padding: every window is whole
    x = images(16, channels, 64)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 1, 1] = 8.0
        y = layer(x)
    assert missed(y[:, 0], x[:, 0, 1:-1, 1:-1]) == pytest.approx(floor(9 * channels), abs=0.012)


def trained(layer: nn.Module, channels: int, steps: int = 250) -> float:
    """Return what is left of the error after learning the identity with Adam."""
    torch.manual_seed(0)
    model = nn.Sequential(layer, Scale2d(channels, 1 / (9 * channels)))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        x = images(8, channels, 12, seed=step)
        optimizer.zero_grad()
        error = (model(x) - x)[:, :, 1:-1, 1:-1].square().mean()
        error.backward()
        optimizer.step()
        schedule.step()
    x = images(32, channels, 12, seed=steps)
    with torch.no_grad():
        return float((model(x) - x)[:, :, 1:-1, 1:-1].square().mean())


def test_training_does_not_pass_the_floor_and_a_convolution_has_none():
    adder = AdderConv2d(1, 1, 3, padding=1)
    assert trained(adder, 1) > 0.97 * floor(9)
    assert trained(nn.Conv2d(1, 1, 3, padding=1), 1) < 1e-3


def test_with_its_own_shortcut_the_error_is_zero():
    for channels in (1, 4, 16):
        x = images(4, channels, 12)
        for norm in ("branch", "scale"):
            layer = ShortcutAdder2d(channels, channels, 3, padding=1, norm=norm)
            layer.start_at_zero()
            assert torch.equal(layer(x), x)
    # And training gets there from anywhere.
    learnt = ShortcutAdder2d(4, 4, 3, padding=1, norm="scale")
    assert trained(learnt, 4) < 1e-3


# -- the layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shortcut", [True, False])
def test_what_is_added_and_what_is_normalised(norm, shortcut):
    torch.manual_seed(0)
    layer = ShortcutAdder2d(3, 3, 3, padding=1, norm=norm, shortcut=shortcut)
    x = images(4, 3, 8)
    distances = layer.adder(x)
    added = x if shortcut else 0

    def normalised(y: torch.Tensor) -> torch.Tensor:
        mean = y.mean((0, 2, 3), keepdim=True)
        return (y - mean) / (y.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()

    wanted = {
        "branch": normalised(distances) + added,
        "sum": normalised(distances + added),
        "scale": distances / 27 + added,
    }
    torch.testing.assert_close(layer(x), wanted[norm], rtol=1e-4, atol=1e-5)


def test_a_layer_that_changes_the_shape_adds_nothing():
    for arguments in ((3, 4, 3, 1, 1), (3, 3, 3, 2, 1), (3, 3, 3, 1, 0)):
        assert not ShortcutAdder2d(*arguments).shortcut
    assert ShortcutAdder2d(3, 3, 1).shortcut
    assert ShortcutAdder2d(3, 3, 5, 1, 2).shortcut
    assert "shortcut=True" in repr(ShortcutAdder2d(3, 3, 5, 1, 2))


@pytest.mark.parametrize("norm", NORMS)
def test_a_last_layer_starts_at_zero_and_leaves_it(norm):
    layer = ShortcutAdder2d(3, 12, 3, padding=1, norm=norm)
    layer.start_at_zero()
    y = layer(images(4, 3, 8))
    assert not y.any()
    (y - 1).square().mean().backward()
    assert any(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_an_unknown_norm_is_refused():
    with pytest.raises(NasxError, match="norm = 'batch' must be one of branch, sum, scale"):
        ShortcutAdder2d(3, 3, 3, norm="batch")
