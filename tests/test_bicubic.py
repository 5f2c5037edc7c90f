"""Bicubic resizing, PSNR and SSIM, held to their definitions and to published figures."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nasx.tasks.bicubic import enlarge, resize, shrink, to_bytes
from nasx.tasks.fidelity import CEILING, eight_bits, fidelity, luma, psnr, ssim
from nasx.tasks.images import image_files, read_whole
from nasx.tasks.photos import photograph

GOLDEN = json.loads((Path(__file__).parent / "golden" / "restore.json").read_text())
SET5 = os.environ.get("NASX_SET5")


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def by_definition(line: np.ndarray, after: int) -> np.ndarray:
    """One row, one output pixel at a time, in double precision."""
    before = len(line)
    factor = after / before
    stretch = max(1.0, 1 / factor)
    mirrored = np.concatenate([line, line[::-1]])
    out = []
    for j in range(after):
        centre = (j + 0.5) / factor - 0.5
        total = weight = 0.0
        for i in range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1):
            w = cubic((centre - i) / stretch)
            total += w * mirrored[i % (2 * before)]
            weight += w
        out.append(total / weight)
    return np.array(out)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_row_is_resized_as_defined(before: int, after: int, seed: int) -> None:
    line = np.random.default_rng(seed).random(before) * 255
    got = resize(line[:, None, None].astype(np.float32), after, 1)[:, 0, 0]
    np.testing.assert_allclose(got, by_definition(line, after), atol=2e-3)


def test_rows_and_columns_are_separable() -> None:
    image = np.random.default_rng(0).random((13, 17, 3)).astype(np.float32)
    got = resize(image, 26, 6)
    rows = np.stack([by_definition(image[:, x, 1], 26) for x in range(17)], axis=1)
    both = np.stack([by_definition(row, 6) for row in rows])
    np.testing.assert_allclose(got[..., 1], both, atol=1e-5)


def test_pillow_agrees_where_no_edge_is_near() -> None:
    grey = photograph("chelsea").mean(2).astype(np.float32)
    for scale in (2, 3):
        height, width = (side // scale for side in grey.shape)
        cut = grey[: height * scale, : width * scale]
        theirs = np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC))
        ours = resize(cut[..., None], height, width)[..., 0]
        np.testing.assert_allclose(ours[3:-3, 3:-3], theirs[3:-3, 3:-3], atol=2e-3)


def test_a_flat_image_stays_flat() -> None:
    flat = np.full((14, 20, 3), 77, np.uint8)
    assert (shrink(flat, 2) == 77).all()
    assert enlarge(flat, 3).shape == (42, 60, 3)
    assert (enlarge(flat, 3) == 77).all()
    assert shrink(flat, 3).shape == (4, 6, 3)  # 2 rows and 2 columns over are cut


def test_bytes_are_rounded_and_cut_off() -> None:
    assert to_bytes(np.array([-3.0, 0.4, 0.6, 254.6, 300.0])).tolist() == [0, 0, 1, 255, 255]


def test_luma_is_the_16_to_235_form_in_whole_levels() -> None:
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    image = colours.T.reshape(3, 1, 5).float()
    assert luma(image)[0].tolist() == [16, 235, 81, 145, 41]  # MATLAB's rgb2ycbcr of bytes


def test_psnr_of_an_even_error_is_in_closed_form() -> None:
    truth = torch.full((20, 20), 100.0, dtype=torch.float64)
    for error in (1, 5, 40):
        assert psnr(truth + error, truth) == pytest.approx(20 * math.log10(255 / error))
    assert psnr(truth, truth) == CEILING


def test_ssim_is_that_of_scikit_image() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(0)
    truth = photograph("camera")[100:180, 100:170, 0].astype(np.float64)
    image = truth + rng.normal(0, 12, truth.shape)
    theirs = structural_similarity(
        truth, image, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(torch.from_numpy(image), torch.from_numpy(truth)) == pytest.approx(theirs, abs=1e-7)
    assert ssim(torch.from_numpy(truth), torch.from_numpy(truth)) == pytest.approx(1)


def test_what_lies_within_the_crop_alone_counts() -> None:
    truth = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    image = truth.clone()
    image[:, :2] = 0
    image[..., -2:] = 1
    assert fidelity(image, truth, 2)["psnr"] == CEILING
    assert fidelity(image, truth, 1)["psnr"] < 30


def test_answers_are_rounded_to_eight_bits() -> None:
    assert eight_bits(torch.tensor([-0.2, 0.501 / 255, 1.7])).tolist() == [0, 1, 255]


def enlarged(image: np.ndarray, scale: int) -> dict[str, float]:
    height, width = (side // scale * scale for side in image.shape[:2])
    pair = (enlarge(shrink(image, scale), scale), image[:height, :width])
    answer, truth = (torch.from_numpy(i.astype(np.float32) / 255).permute(2, 0, 1) for i in pair)
    return fidelity(answer, truth, scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_bicubic_scores_of_embedded_photographs_stay(name: str, scale: int) -> None:
    found = enlarged(photograph(name), scale)
    golden = GOLDEN["bicubic"][name][f"x{scale}"]
    assert found["psnr"] == pytest.approx(golden["psnr"], abs=0.002)
    assert found["ssim"] == pytest.approx(golden["ssim"], abs=2e-5)


@pytest.mark.skipif(SET5 is None, reason="NASX_SET5 does not name a folder with Set5")
@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_on_set5_scores_as_published(scale: int, published: float) -> None:
    files = image_files(Path(str(SET5)))
    assert len(files) == 5
    found = [enlarged(read_whole(path), scale)["psnr"] for path in files]
    assert np.mean(found) == pytest.approx(published, abs=0.02)
