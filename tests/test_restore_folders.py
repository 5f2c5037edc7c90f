"""Folders of images to restore: layouts, every kind of file, and what must not stop a study."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nasx import registry
from nasx.errors import MissingData, NasxError
from nasx.study import Study
from nasx.studychecks import meaning_faults
from nasx.tasks.images import extent, read_whole


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))


def picture(seed: int, height: int = 40, width: int = 51) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def fill(folder: Path, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        Image.fromarray(picture(seed)).save(folder / f"{seed:03d}.png")
    return folder


def photos(path: Any, **options: Any) -> Any:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return registry.task({"name": "photos", "path": paths, "patch": 16, "patches": 32, **options})


def names(task: Any) -> dict[str, tuple[str, ...]]:
    return {split: held.names for split, held in task.data.splits.items()}


def test_a_folder_is_cut_by_content_whatever_its_names(tmp_path: Path) -> None:
    task = photos(fill(tmp_path / "all", 20))
    held = names(task)
    assert {split: len(some) for split, some in held.items()} == {
        "train": 16, "valid": 2, "test": 2,
    }  # fmt: skip
    assert len({name for some in held.values() for name in some}) == 20
    (tmp_path / "all").rename(tmp_path / "moved")
    for i, path in enumerate(sorted((tmp_path / "moved").iterdir())):
        path.rename(path.with_name(f"z{7 * i % 20}.png"))
    again = photos(tmp_path / "moved")
    assert again.fingerprint() == task.fingerprint()


def test_parts_laid_out_are_taken_as_they_are(tmp_path: Path) -> None:
    for part, count, first in (("train", 5, 0), ("val", 3, 10), ("test", 2, 20)):
        fill(tmp_path / "set" / part, count, first)
    held = names(photos(tmp_path / "set"))
    assert {split: len(some) for split, some in held.items()} == {
        "train": 5, "valid": 3, "test": 2,
    }  # fmt: skip


def test_several_folders_train_and_another_is_scored_on(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a", 4), fill(tmp_path / "b", 6, 100)
    scored = fill(tmp_path / "c", 3, 200)
    task = photos([first, second], valid=str(scored))
    assert task.name == "a+b"
    assert {split: len(some) for split, some in names(task).items()} == {
        "train": 9, "valid": 3, "test": 1,
    }  # fmt: skip


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a", 4), fill(tmp_path / "b", 2, 3)
    with pytest.raises(NasxError, match=r"003 of train and 003 of valid are the same image"):
        _ = photos(first, valid=str(second)).data


def kinds(folder: Path) -> dict[str, np.ndarray]:
    """Write one image of each kind; return the pixels that must be read."""
    folder.mkdir(parents=True, exist_ok=True)
    colour = picture(0)
    grey = colour[..., 0]
    levels = np.random.default_rng(1).integers(0, 65536, grey.shape).astype(np.uint16)
    alpha = np.dstack([colour, picture(2)[..., 0]])
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(grey).save(folder / "grey.png")
    shades = np.dstack([grey, picture(3)[..., 0]])
    Image.fromarray(shades).save(folder / "grey_alpha.png")
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(levels).save(folder / "deep.png")
    Image.fromarray(levels.astype(np.int32)).save(folder / "deep_as_32.tif")
    turned = Image.fromarray(colour)
    marks = turned.getexif()
    marks[0x0112] = 6
    turned.save(folder / "turned.png", exif=marks)

    def three(plane: np.ndarray) -> np.ndarray:
        return np.stack([plane] * 3, axis=-1)

    high = three((levels >> 8).astype(np.uint8))
    return {
        "colour.png": colour, "grey.png": three(grey), "grey_alpha.png": three(grey),
        "alpha.png": colour, "deep.png": high, "deep_as_32.tif": high,
        "turned.png": np.rot90(colour, -1),
    }  # fmt: skip


def test_every_mode_is_read_as_three_channels_of_bytes(tmp_path: Path) -> None:
    for name, wanted in kinds(tmp_path / "kinds").items():
        path = tmp_path / "kinds" / name
        got = read_whole(path)
        assert np.array_equal(got, wanted), name
        assert extent(path.read_bytes(), path) == wanted.shape[:2]


def spoil(folder: Path) -> None:
    (folder / "text.png").write_text("no image")
    Image.fromarray(picture(50)).save(folder / "short.jpg", quality=95)
    whole = (folder / "short.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(51, 10, 40)).save(folder / "tiny.png")
    Image.fromarray(np.zeros((40, 40), np.float32)).save(folder / "real.tif")


def test_images_that_fail_are_left_out_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path / "some", 6)
    clean = photos(folder).fingerprint()
    spoil(folder)
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        task = photos(folder)
        with caplog.at_level(logging.WARNING, "nasx"):
            assert task.fingerprint() == clean
            assert sum(len(some) for some in names(task).values()) == 6
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 4
        for name in ("text.png is a corrupt", "short.jpg is a corrupt", "tiny.png is too small"):
            assert sum(name in line for line in said) == 1
        assert any("real.tif" in line and "floating" in line for line in said)
        assert not any("\n" in line for line in said)


def test_a_folder_with_nothing_left_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    folder.mkdir()
    with pytest.raises(NasxError, match=r"no image in .*none can be used; put some there"):
        _ = photos(folder).data
    spoil(folder)
    with pytest.raises(NasxError, match=r"no image in .*none can be used: .*short.jpg"):
        _ = photos(folder).data
    fill(folder, 2)
    with pytest.raises(NasxError, match="2 usable photographs are too few to cut valid and test"):
        _ = photos(folder).data


def test_a_folder_that_is_not_there_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="nothing at"):
        photos(tmp_path / "nowhere")


def test_a_studys_folders_are_looked_for_beside_it(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        fill(tmp_path / name, 2, 10 * number)
    given = {"name": "photos", "path": ["a", "b"], "valid": "c", "patches": 100}
    asked = Study.model_validate(
        {
            "name": "x",
            "desc": "?",
            "space": "tinynet",
            "task": given,
            "objectives": {"psnr": "maximize"},
        }
    )
    settled, _, missing = meaning_faults(asked, tmp_path)
    assert settled.task == {
        **given, "path": [str(tmp_path / "a"), str(tmp_path / "b")], "valid": str(tmp_path / "c"),
    }  # fmt: skip
    assert not missing


def test_images_smaller_than_a_patch_and_odd_sizes_make_batches(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for seed, (height, width) in enumerate([(25, 31), (49, 50), (33, 90), (26, 26)]):
        Image.fromarray(picture(seed, height, width)).save(folder / f"{seed}.png")
    task = photos(folder, degradations=["x2", "x3", "x4", "denoise", "derain"])
    for batch in task.batches("train", (3, 16, 16), 4, torch.Generator().manual_seed(0), True):
        assert batch.inputs.shape == (4, 3, 16, 16)
    covered = sum(len(b.inputs) for b in task.batches("valid", (3, 16, 16), 4))
    assert covered == task.size("valid")
    assert all(np.isfinite(v) for v in task.without_net("valid").values())
