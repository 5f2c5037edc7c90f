"""What a study of transformers may ask wrongly: one sentence each, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasx.cli import run as command
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from nasx.weights import pack
from search_spaces.vision_transformer import VisionTransformer

STUDY = """\
desc: Does a student that a supplied teacher tells its classes learn more?
space: vision_transformer
fix: {FIX}
task: digits
objectives: {top1: maximize, macs: minimize}
fidelity: {unit: samples, full: 400, rungs: 1}
search: {trials: 2}
"""


def said(folder: Path, capsys: pytest.CaptureFixture[str], fix: str, more: str = "") -> str:
    """Return what `nasx search` says of a study that it refuses, as one line."""
    file = folder / "study.yaml"
    file.write_text(STUDY.replace("{FIX}", "{" + fix + "}") + more)
    assert command(["search", str(file), "--out", str(folder / "run")]) not in (0, 130)
    assert not (folder / "run" / "trials").exists()
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return " ".join(printed.split())


@pytest.mark.parametrize("classes", [7, 100])
def test_a_teacher_of_another_label_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: int
) -> None:
    teacher = VisionTransformer.from_json({"layout": "cnn"})
    other = teacher.build(TaskShape("classify", (1, 32, 32), classes))
    (tmp_path / "teacher.file").write_bytes(pack(other.state_dict()))
    found = said(tmp_path, capsys, "distill: hard", "assets: {teacher: teacher.file}\n")
    assert "assets.teacher: " in found
    assert "does not fit the network: of another shape: " in found
    assert f"({classes}, " in found
    assert "(10, " in found
    assert "or leave 'teacher' out of 'assets:' to have it trained" in found


@pytest.mark.parametrize("share", [0.0, -1.0, 0.001])
def test_a_share_of_tokens_that_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    found = said(tmp_path, capsys, f"layout: flat, tokens_kept.0: {share}")
    assert "tokens_kept" in found
    assert "0.5, 0.7, 1.0" in found


def test_the_least_share_leaves_a_token() -> None:
    """Of one square nothing can go; of four, half stay and the rest melt."""
    for side, kept in ((4, [None] * 4), (8, [None, 2, None, None]), (16, [None, 8, 5, 3])):
        fields = {"layout": "flat", "depth": [4] * 4, "position": "none", "tokens_kept": [0.5] * 3}
        plan = VisionTransformer.from_json(fields).plan(TaskShape("classify", (3, side, side), 2))
        assert plan.kept_by_block() == kept  # type: ignore[union-attr]


def test_images_that_are_not_square() -> None:
    shape = TaskShape("classify", (3, 32, 48), 10)
    with pytest.raises(SpaceError, match="squares, the task's images are 32 x 48 pixels"):
        VisionTransformer().build(shape)
