"""Inference in tiles equals inference on the whole image wherever the network is local."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nasx import registry
from nasx.errors import NasxError
from nasx.recalibrate import OnDevice
from nasx.tasks.tiles import Tiling, fixed_side, tiled, tiling_of


class Local(nn.Module):
    """Three 3x3 layers: an answer looks 3 pixels far."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = (3, 4, 4)
        self.body = nn.Sequential(*(nn.Conv2d(a, 4, 3, padding=1) for a in widths))
        self.last = nn.Conv2d(4, 3 * scale * scale, 1)
        self.up = nn.PixelShuffle(scale)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.up(self.last(self.body(inputs)))


class Fixed(Local):
    """Refuses every input but squares of 16."""

    fixed_side = 16
    tiling: tuple[int, int] | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        assert inputs.shape[-2:] == (16, 16)
        return super().forward(inputs)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(16, 50), st.integers(16, 50), st.integers(12, 16), st.integers(6, 11),
    st.sampled_from([1, 2, 3]),
)  # fmt: skip
@torch.no_grad()
def test_tiles_give_what_the_whole_image_gives(
    height: int, width: int, side: int, overlap: int, scale: int
) -> None:
    model = Local(scale).eval()
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))
    whole, parts = model(image), tiled(model, image, side, overlap, 3, scale)
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def larger(image: Tensor) -> Tensor:
    return image.repeat_interleave(2, 2).repeat_interleave(2, 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 16), st.data())
def test_a_network_that_changes_nothing_gives_the_image_back(
    height: int, width: int, side: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, side - 1))
    border = data.draw(st.integers(0, overlap // 2))
    image = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(width))

    def twice(tiles: Tensor) -> Tensor:
        assert tiles.shape[1:] == (2, side, side)
        return larger(tiles)

    parts = tiled(twice, image, side, overlap, border, 2)
    torch.testing.assert_close(parts, larger(image), atol=1e-6, rtol=0)


def test_errors_near_the_border_of_a_tile_are_thrown_away() -> None:
    """Every tile answers 1, and 2 in the two pixels at its edge: closed form of what is left."""

    def ringed(tiles: Tensor) -> Tensor:
        answers = torch.full_like(tiles, 2.0)
        answers[..., 2:-2, 2:-2] = 1.0
        return answers

    image = torch.zeros(1, 1, 40, 40)
    wanted = ringed(image)  # at edges of the image nothing better is known
    assert torch.equal(tiled(ringed, image, 16, 8, 2, 1), wanted)
    assert torch.equal(tiled(ringed, image, 16, 12, 4, 1), wanted)
    kept = tiled(ringed, image, 16, 8, 0, 1)
    assert float(kept[0, 0, 20, 8]) == 1.5  # one answer is right, one wrong
    assert float(kept[0, 0, 8, 8]) == 1.75  # one of four is right


def test_the_published_tiles_are_a_setting_of_the_network() -> None:
    network = Fixed(2)
    assert tiling_of(network, 2) == Tiling(16, 8, 2, 2)
    network.tiling = (12, 4)  # a quarter from one to the next, and thrown away
    assert tiling_of(network, 3) == Tiling(16, 12, 4, 3)
    assert tiling_of(Local(2), 2) is None
    network.tiling = (12, 7)
    with pytest.raises(NasxError, match="overlap of 12 and a border of 7: with tiles of 16"):
        tiling_of(network, 2)


def test_one_image_goes_in_few_batches() -> None:
    sizes: list[int] = []

    def counted(tiles: Tensor) -> Tensor:
        sizes.append(len(tiles))
        return tiles

    tiled(counted, torch.zeros(1, 3, 100, 100), 16, 8, 2, 1)
    assert sizes == [64, 64, 16]  # 12 x 12, the last ones where the image ends


@torch.no_grad()
def test_an_image_smaller_than_a_tile_is_answered_at_its_own_size() -> None:
    image = torch.rand(1, 3, 9, 30, generator=torch.Generator().manual_seed(0))
    model = Local(2).eval()
    parts = tiled(model, image, 16, 8, 3, 2)
    assert parts.shape == (1, 3, 18, 60)
    torch.testing.assert_close(parts[..., :6, :], model(image)[..., :6, :], atol=1e-5, rtol=0)


def test_an_overlap_as_wide_as_the_tile_is_refused() -> None:
    for overlap, border in ((16, 0), (4, 3), (8, -1)):
        with pytest.raises(ValueError, match=f"tiles of 16 .* cannot overlap by {overlap}"):
            tiled(Local(1), torch.zeros(1, 3, 20, 20), 16, overlap, border, 1)


def test_a_network_says_that_its_input_is_fixed() -> None:
    assert fixed_side(Local(2)) is None
    assert fixed_side(Fixed(2)) == 16
    assert fixed_side(OnDevice(Fixed(2), torch.device("cpu"))) == 16


def test_the_task_scores_a_network_of_fixed_input_in_tiles() -> None:
    task = registry.task({"name": "photos", "patch": 16})
    whole = Local(2).eval()
    parts = Fixed(2).eval()
    scores = task.score(parts, "valid", (3, 16, 16))
    reach = {k: pytest.approx(v, abs=0.05) for k, v in task.score(whole, "valid", ()).items()}
    assert scores == reach
