"""Attention layers against closed forms: windows, reduced grids, kept tokens, pruned heads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from search_spaces._head_pruning import cut, parts_of, ranked, worth_by_loss, worth_by_size
from search_spaces._layers.attention import (
    GlobalAttention,
    Heads,
    InducedAttention,
    ReducedAttention,
    RelativeBias,
)
from search_spaces._layers.decoded import DecodedConv2d
from search_spaces._layers.deploying import deploy
from search_spaces._layers.grids import Grid, padded, sines, to_map, to_tokens
from search_spaces._layers.keeping import Keep, KeepingAttention
from search_spaces._layers.low_bit_linear import LowBitLinear, lower
from search_spaces._layers.stems import ConcatMerge, T2TStem
from search_spaces._layers.transformer_block import DropPath
from search_spaces._layers.windows import WindowAttention
from search_spaces._transformer import transformer
from search_spaces._transformer_plan import TransformerPlan, TransformerStage


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def by_hand(heads: Heads, x: Tensor, context: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Attention written out, one head after the other."""
    keys, values = heads.kv(context).chunk(2, -1)
    queries, mixed = heads.q(x), []
    for h in range(heads.heads):
        part = slice(h * heads.head_dim, (h + 1) * heads.head_dim)
        scores = queries[..., part] @ keys[..., part].mT / math.sqrt(heads.head_dim)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        mixed.append(scores.softmax(-1) @ values[..., part])
    y: Tensor = heads.out(torch.cat(mixed, -1))
    return y


def test_heads_need_not_fill_the_width() -> None:
    heads = Heads(20, 3, 8)
    x, context = torch.randn(2, 5, 20), torch.randn(2, 7, 20)
    torch.testing.assert_close(heads(x, context), by_hand(heads, x, context))


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 6), (5, 7), (4, 4), (3, 9)])
def test_windows_see_what_lies_in_their_window(height: int, width: int, shift: bool) -> None:
    grid, side = Grid(height, width), 4
    layer = WindowAttention(Heads(8, 2, 4), grid, side, shift=shift, relative=False)
    x = torch.randn(2, grid.cells, 8)
    row, column = torch.arange(grid.cells) // width, torch.arange(grid.cells) % width
    off = layer.shift
    down = torch.div(row - off + side, side, rounding_mode="floor")
    right = torch.div(column - off + side, side, rounding_mode="floor")
    if not off:
        down, right = row // side, column // side
    allowed = (down[:, None] == down) & (right[:, None] == right)
    torch.testing.assert_close(layer(x), by_hand(layer.heads, x, x, allowed))


def test_one_window_is_global_attention_with_places() -> None:
    grid = Grid(4, 4)
    layer = WindowAttention(Heads(8, 2, 4), grid, 7, shift=True, relative=True)
    assert layer.shift == 0
    assert layer.side == 4
    x = torch.randn(3, 16, 8)
    alike = GlobalAttention(layer.heads, None, layer.relative)
    torch.testing.assert_close(layer(x), alike(x))


def test_relative_places_are_alike_where_the_difference_is() -> None:
    bias = RelativeBias(2, Grid(3, 4, prefix=1))
    found = bias()
    assert found.shape == (2, 13, 13)
    assert not found[:, 0].any()
    assert not found[:, :, 0].any()
    inner = found[:, 1:, 1:]
    torch.testing.assert_close(inner[:, 0, 5], inner[:, 1, 6])  # one down, one to the right
    assert bias.table.shape == (5 * 7, 2)


def test_a_reduced_grid_of_one_is_the_mean_of_nothing_else() -> None:
    grid = Grid(4, 4, prefix=1)
    layer = ReducedAttention(Heads(8, 2, 4), 8, grid, 2)
    x = torch.randn(2, 17, 8)
    cells = layer.norm(to_tokens(layer.reduce(to_map(x, grid))))
    assert cells.shape == (2, 4, 8)
    torch.testing.assert_close(layer(x), by_hand(layer.heads, x, cells))


def test_induced_points_do_not_know_the_order_of_tokens() -> None:
    layer = InducedAttention(3, 8, Heads(8, 2, 4), Heads(8, 2, 4))
    x, order = torch.randn(2, 9, 8), torch.randperm(9)
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))


def test_tokens_are_kept_by_their_shares() -> None:
    keep = Keep(2, prefix=1)
    x = torch.randn(1, 6, 4)
    shares = torch.tensor([[0.1, 0.3, 0.05, 0.2, 0.15]])
    y = keep(x, shares)
    assert y.shape == (1, 4, 4)
    torch.testing.assert_close(y[:, :3], x[:, [0, 2, 4]])
    rest = (0.1 * x[:, 1] + 0.05 * x[:, 3] + 0.15 * x[:, 5]) / 0.3
    torch.testing.assert_close(y[:, 3], rest)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_shares_are_those_of_the_class_token(prefix: int) -> None:
    layer = KeepingAttention(Heads(8, 2, 4), prefix)
    x = torch.randn(2, 6, 8)
    y, shares = layer(x)
    torch.testing.assert_close(y, by_hand(layer.heads, x, x))
    assert shares.shape == (2, 6 - prefix)
    assert (shares > 0).all()
    assert (shares.sum(1) <= 1 + 1e-6).all()


def test_concatenation_takes_the_four_neighbours() -> None:
    merge = ConcatMerge(1, 4, Grid(4, 4))
    merge.norm, merge.project = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    y = merge(torch.arange(16.0).reshape(1, 16, 1))
    assert y[0, 0].tolist() == [0, 4, 1, 5]
    assert y[0, 3].tolist() == [10, 14, 11, 15]


@pytest.mark.parametrize(("side", "patch"), [(32, 4), (33, 8), (64, 16)])
def test_soft_splits_leave_the_grid_that_patches_would(side: int, patch: int) -> None:
    cells = -(-side // patch)
    stem = T2TStem(3, 10, patch, Grid(cells, cells), inner=8)
    assert stem(torch.randn(2, 3, side, side)).shape == (2, cells * cells, 10)


def test_sines_are_those_of_the_paper() -> None:
    places = sines(Grid(2, 2, prefix=1), 6)
    assert places.shape == (5, 6)
    assert places[3, 0].item() == pytest.approx(math.sin(3))
    assert places[3, 3].item() == pytest.approx(math.cos(3 / 10_000 ** (2 / 6)))


def test_padding_is_at_the_far_ends() -> None:
    y = padded(torch.ones(1, 1, 3, 4), 4)
    assert y.shape == (1, 1, 4, 4)
    assert y[0, 0, 3].sum() == 0


def test_dropped_branches_keep_their_mean() -> None:
    drop = DropPath(0.25)
    y = drop(torch.ones(4000, 1, 1))
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert y.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(y) is y


def plan(**changed: object) -> TransformerPlan:
    stage = TransformerStage(2, 32, 8, 2, **changed)  # type: ignore[arg-type]
    return TransformerPlan(3, 16, 10, (stage,), 4, position="relative", pool="mean")


@pytest.mark.parametrize("attention", ["global", "window", "induced"])
def test_a_cut_network_computes_what_is_left(attention: str) -> None:
    """Heads and units whose outputs are not read any more can be cut without a change."""
    model = transformer(plan(attention=attention, window=4, ffn="conv")).eval()
    x = torch.randn(2, 3, 16, 16)
    kept = ranked(model, worth_by_size(model), 0.5, 0.25)
    whole = model(x)
    for name, part in parts_of(model).items():
        width = part.head_dim if isinstance(part, Heads) else 1
        out = part.out if isinstance(part, Heads) else part.narrow
        gone = [i for i in range(out.in_features) if i // width not in kept[name]]
        with torch.no_grad():
            out.weight[:, gone] = 0
    masked, cut_off = model(x), cut(model, kept)(x)
    assert not torch.allclose(whole, masked, atol=1e-4)
    torch.testing.assert_close(cut_off, masked, atol=1e-5, rtol=0)
    for name, part in parts_of(model).items():
        assert (part.heads if isinstance(part, Heads) else 16) == len(kept[name])


@pytest.mark.parametrize("bits", [4, 8])
def test_low_bit_layers_are_cut_and_deployed(bits: int) -> None:
    model = transformer(plan(attention="global", ffn="conv"))
    lower(model.stages, bits)
    cut(model, ranked(model, worth_by_size(model), 0.5, 0.25)).eval()
    x = torch.randn(2, 3, 16, 16)
    trained = model(x)
    linear = [m for m in model.modules() if isinstance(m, LowBitLinear)]
    small = deploy(model)
    torch.testing.assert_close(small(x), trained, atol=1e-5, rtol=1e-5)
    assert all(isinstance(m.conv[0], DecodedConv2d) for m in linear)  # type: ignore[index]


def test_worth_is_output_times_gradient() -> None:
    model = transformer(plan()).eval()
    x = torch.randn(4, 3, 16, 16)
    worth = worth_by_loss(model, (model(x).square().mean() for _ in range(2)))
    assert set(worth) == set(parts_of(model))
    name = next(n for n, p in parts_of(model).items() if isinstance(p, Heads))
    heads = parts_of(model)[name]
    assert isinstance(heads, Heads)
    heard: list[Tensor] = []
    handle = heads.out.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    loss = model(x).square().mean()
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, heard)
    one = (heard[0] * gradient)[..., :8].sum((1, 2)).abs().sum()
    torch.testing.assert_close(worth[name][0], 2 * one.detach())
