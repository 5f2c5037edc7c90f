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
from nasx.tasks.tiles import fixed_side, tiled


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
    whole, parts = model(image), tiled(model, image, side, overlap, scale)
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_image_smaller_than_a_tile_is_answered_at_its_own_size() -> None:
    image = torch.rand(1, 3, 9, 30, generator=torch.Generator().manual_seed(0))
    model = Local(2).eval()
    parts = tiled(model, image, 16, 8, 2)
    assert parts.shape == (1, 3, 18, 60)
    torch.testing.assert_close(parts[..., :6, :], model(image)[..., :6, :], atol=1e-5, rtol=0)


def test_an_overlap_as_wide_as_the_tile_is_refused() -> None:
    with pytest.raises(NasxError, match="16 pixels cannot overlap by 16"):
        tiled(Local(1), torch.zeros(1, 3, 20, 20), 16, 16, 1)


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
