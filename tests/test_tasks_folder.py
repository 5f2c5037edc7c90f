"""Image folders: layouts, the split by content hash, and every fault as one sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasx import registry
from nasx.errors import NasxError
from nasx.tasks.data import SPLITS
from nasx.tasks.folder import collect
from nasx.tasks.images import read_square

COLOURS = {"blue": (20, 40, 200), "red": (200, 30, 20)}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))


def paint(folder: Path, colour: str, count: int, first: int = 0, suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        image = np.full((12, 16, 3), COLOURS[colour], np.uint8)
        image[0, :, 1] = i % 256  # every image another content
        Image.fromarray(image).save(folder / f"{i:03d}.{suffix}")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    for colour, count in (("blue", 30), ("red", 20)):
        paint(tmp_path / "set" / colour, colour, count)
    return tmp_path / "set"


def task(path: Path, **options: Any) -> Any:
    return registry.task({"name": "folder", "path": str(path), **options})


def held(root: Path) -> dict[str, set[bytes]]:
    return {split: {s.content for s in samples} for split, samples in collect(root)[1].items()}


def test_a_plain_folder_is_cut_80_10_10_in_every_class(plain: Path) -> None:
    names, splits = collect(plain)
    assert names == ["blue", "red"]
    counts = {s: np.bincount([x.label for x in splits[s]]).tolist() for s in SPLITS}
    assert counts == {"train": [24, 16], "valid": [3, 2], "test": [3, 2]}
    contents = [sample.content for s in SPLITS for sample in splits[s]]
    assert len(set(contents)) == 50


def test_the_cut_does_not_depend_on_names_or_place(plain: Path, tmp_path: Path) -> None:
    before = held(plain)
    for colour in COLOURS:
        for i, path in enumerate(sorted((plain / colour).iterdir())):
            path.rename(path.with_name(f"z{97 * i % 101}.png"))
    moved = plain.rename(tmp_path / "elsewhere")
    assert held(moved) == before


def test_an_added_image_moves_few_others(plain: Path) -> None:
    before = held(plain)
    paint(plain / "red", "red", 1, first=200)
    after = held(plain)
    moved = sum(len(before[s] - after[s]) for s in SPLITS)
    assert moved <= 2  # one at each of the two cuts


def test_copies_of_an_image_count_once(plain: Path) -> None:
    before = held(plain)
    for path in sorted((plain / "blue").iterdir())[:9]:
        path.with_name("copy-" + path.name).write_bytes(path.read_bytes())
    assert held(plain) == before


def test_given_splits_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for first, (split, count) in enumerate((("train", 6), ("val", 3), ("test", 2))):
        for colour in COLOURS:
            paint(root / split / colour, colour, count, first=20 * first)
    _, splits = collect(root)
    assert {s: len(v) for s, v in splits.items()} == {"train": 12, "valid": 6, "test": 4}
    assert {s.path.parts[-3] for s in splits["valid"]} == {"val"}


def test_a_missing_test_folder_is_cut_from_train(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for first, (split, count) in enumerate((("train", 18), ("validation", 3))):
        for colour in COLOURS:
            paint(root / split / colour, colour, count, first=20 * first)
    _, splits = collect(root)
    assert {s: len(v) for s, v in splits.items()} == {"train": 32, "valid": 6, "test": 4}


def test_the_task_decodes_scales_and_labels(plain: Path) -> None:
    paint(plain / "red", "red", 1, first=100, suffix="jpg")
    paint(plain / "red" / "more", "red", 1, first=101)
    (plain / "red" / "notes.txt").write_text("not an image")
    made = task(plain, side=8)
    assert made.name == "set"
    assert made.shape.input == (3, 8, 8)
    assert made.shape.classes == 2
    assert sum(made.size(s) for s in SPLITS) == 52
    for split in SPLITS:
        images, labels = made.data.splits[split].images, made.data.splits[split].labels
        assert (images[..., 0].mean((1, 2)) > 100).astype(int).tolist() == labels.tolist()
    (batch,) = made.batches("valid", (3, 10, 10), 64)
    assert batch.inputs.shape[1:] == (3, 10, 10)
    assert made.fingerprint() == task(plain, side=8).fingerprint()
    assert made.fingerprint() != task(plain, side=10).fingerprint()


def test_a_changed_image_changes_the_fingerprint(plain: Path) -> None:
    before = task(plain, side=8).fingerprint()
    paint(plain / "red", "blue", 1, first=0)
    next((plain / "blue").glob("000.png")).unlink()
    assert task(plain, side=8).fingerprint() != before


def test_images_are_turned_scaled_and_cut_to_the_middle(tmp_path: Path) -> None:
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = (10, 200, 30)
    Image.fromarray(image).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_square(tmp_path / "wide.png", 10)[5, 5], (10, 200, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter to the right
    corner = np.zeros((16, 16, 3), np.uint8)
    corner[:8, :8] = 255
    Image.fromarray(corner).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    turned = read_square(tmp_path / "turned.jpg", 16)
    assert turned[2, 13].min() > 230
    assert turned[2, 2].max() < 25


def test_sixteen_bits_keep_their_levels_and_palettes_may_be_transparent(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 32, dtype=np.uint16)[None].repeat(32, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    deep = read_square(tmp_path / "deep.png", 32)
    np.testing.assert_array_equal(deep, (ramp >> 8).astype(np.uint8)[..., None].repeat(3, 2))
    colours = Image.fromarray(deep).quantize(8)
    colours.save(tmp_path / "clear.png", transparency=bytes(range(8)))
    np.testing.assert_array_equal(
        read_square(tmp_path / "clear.png", 32), np.asarray(colours.convert("RGB"))
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_image_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (9, 9), "white").convert(mode).save(path)
    assert read_square(path, 9).shape == (9, 9, 3)
    assert read_square(path, 9).min() > 240


def truncate(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def garble(path: Path) -> None:
    path.write_bytes(b"this is no image")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, garble, empty])
@pytest.mark.parametrize("name", ["bad.png", "bad.jpg"])
def test_a_corrupt_image_is_named(plain: Path, damage: Any, name: str) -> None:
    damage(plain / "red" / name)
    with pytest.raises(NasxError, match=rf"{name} is a corrupt image") as caught:
        task(plain).fingerprint()
    assert "\n" not in str(caught.value)
    assert "object at" not in str(caught.value)


def test_an_image_too_large_to_decode_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (60, 60)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(NasxError, match=r"bomb\.png is too large"):
        read_square(tmp_path / "bomb.png", 8)


def refused(made: Path, words: str, **options: Any) -> None:
    with pytest.raises(NasxError, match=words) as caught:
        task(made, **options).fingerprint()
    assert "\n" not in str(caught.value)


def test_faults_of_a_folder_are_one_sentence_each(plain: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "there is nothing at .*nowhere")
    refused(plain / "red" / "000.png", "is a file")
    refused(plain / "red", "0 class folders")
    refused(plain, "side must be a whole number from 8", side=4)
    refused(plain, "flip must be true or false", flip="yes")
    refused(plain, "has no option 'size'.*side", size=4)
    (plain / "green").mkdir()
    refused(plain, "green holds no image")
    paint(plain / "green", "red", 2, first=210)
    refused(plain, "class 'green' .* too few different images")


def test_one_image_in_two_classes_or_splits_is_refused(plain: Path, tmp_path: Path) -> None:
    (plain / "red" / "odd.png").write_bytes((plain / "blue" / "003.png").read_bytes())
    refused(plain, r"003\.png and .*odd\.png are the same image")
    root = tmp_path / "given"
    for split in ("train", "val", "test"):
        for colour in COLOURS:
            paint(root / split / colour, colour, 4, first=0 if split != "test" else 9)
    refused(root, "are the same image in two splits or classes")


def test_a_class_of_one_split_only_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for first, split in enumerate(("train", "val")):
        for colour in COLOURS:
            paint(root / split / colour, colour, 12, first=20 * first)
    paint(root / "val" / "pink", "red", 2, first=90)
    refused(root, "class 'pink' is not in both")
