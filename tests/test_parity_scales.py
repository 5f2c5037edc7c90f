"""What the files of an export may differ by, where outputs hold numbers of several kinds."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from nasx.parity import TOLERANCE, Case, compare


def case_of(output: Tensor, path: Path) -> Case:
    save_file({"inputs": torch.zeros(len(output), 1), "output.0": output}, str(path))
    return Case(path)


def rows_of(output: Tensor, off: Tensor, path: Path) -> dict[str, object]:
    case, found = case_of(output, path), [output + off]
    case.alone = 0
    return compare(lambda x: found, case, found)


def test_distances_in_pixels_do_not_excuse_class_logits(tmp_path: Path) -> None:
    output = torch.full((3, 5, 6), -2.0)
    output[..., :4] = 100.0
    off = torch.zeros_like(output)
    off[1, 2, 5] = 2e-3  # a thousandth of the largest logit, far less of a distance
    row = rows_of(output, off, tmp_path / "case")
    assert row["pass"] is False
    assert 9e-4 < row["max_relative"] < 11e-4  # type: ignore[operator]
    off = off.roll(2, -1)  # the same on a distance
    assert off[1, 2, 1] > 0
    assert rows_of(output, off, tmp_path / "case")["pass"] is True
    assert TOLERANCE == 1e-4


def test_each_input_is_judged_by_the_same_scales(tmp_path: Path) -> None:
    output = torch.full((3, 5, 6), 100.0)
    output[..., 4:] = -2.0
    case = case_of(output, tmp_path / "case")
    other = output.clone()
    other[2, 0, 4] += 0.02
    assert torch.allclose(case.away([other], [output]), torch.tensor([0, 0, 0.01]).double())


def test_outputs_of_nothing_but_zeros_or_nothing_at_all_can_be_compared(tmp_path: Path) -> None:
    for output in (torch.zeros(2, 3, 4), torch.zeros(2, 3), torch.zeros(2, 0, 4)):
        assert rows_of(output, torch.zeros_like(output), tmp_path / "case")["pass"] is True
