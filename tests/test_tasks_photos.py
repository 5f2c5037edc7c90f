"""Digits on photographs: nothing is shared between splits, and the same data come every time."""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest

from nasx import registry
from nasx.errors import NasxError
from nasx.tasks import photos
from nasx.tasks.data import SPLITS
from nasx.tasks.digits import handwritten
from nasx.tasks.photos import PHOTOS, SIDE, Plan, compose, digits_in_photos, photograph, plan


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NASX_CACHE", str(tmp_path))


@functools.cache
def plans() -> dict[str, Plan]:
    return {split: plan(split, 3000) for split in SPLITS}


def test_no_digit_and_no_photograph_occurs_in_two_splits() -> None:
    made = plans()
    for a, b in itertools.combinations(SPLITS, 2):
        assert not set(made[a].digit.tolist()) & set(made[b].digit.tolist())
        used = [{PHOTOS[s][i] for i in np.unique(made[s].photo)} for s in (a, b)]
        assert not used[0] & used[1]
    for split in SPLITS:  # every photograph of a split is used, and there are at least two
        assert set(made[split].photo.tolist()) == set(range(len(PHOTOS[split])))
        assert len(PHOTOS[split]) >= 2


def test_the_digits_of_two_splits_differ_as_images_too() -> None:
    images, made = handwritten()[0], plans()
    seen = {s: {images[d].tobytes() for d in np.unique(made[s].digit)} for s in SPLITS}
    for a, b in itertools.combinations(SPLITS, 2):
        assert not seen[a] & seen[b]


def test_labels_are_those_of_the_digits_and_every_ten_are_balanced() -> None:
    labels = handwritten()[1]
    for made in plans().values():
        np.testing.assert_array_equal(labels[made.digit], made.label)
        tens = np.sort(made.label.reshape(-1, 10), axis=1)
        np.testing.assert_array_equal(tens, np.tile(np.arange(10), (300, 1)))


def test_crops_and_digits_lie_inside() -> None:
    for made in plans().values():
        extent = np.array([photograph(n).shape[:2] for n in PHOTOS[made.split]])[made.photo]
        assert made.crop.min() >= SIDE
        assert (made.top + made.crop <= extent[:, 0]).all()
        assert (made.left + made.crop <= extent[:, 1]).all()
        assert made.size.min() == photos.SMALLEST
        assert made.size.max() == photos.LARGEST
        assert (made.row + made.size).max() == (made.column + made.size).max() == SIDE
        assert min(made.row.min(), made.column.min(), made.top.min(), made.left.min()) == 0


def test_a_smaller_split_is_a_prefix_of_a_larger() -> None:
    small, large = plan("train", 25), plans()["train"]
    assert small.digit.tolist() == large.digit[:25].tolist()
    assert small.ink.tolist() == large.ink[:25].tolist()
    assert small.sha256() != large.sha256()
    assert small.sha256() == plan("train", 25).sha256()


def test_an_image_is_its_photograph_except_under_the_digit() -> None:
    drawn = plan("test", 30)
    made = dataclasses.replace(drawn, crop=np.full(30, SIDE))  # no scaling: pixels stay as they are
    out = np.zeros((30, SIDE, SIDE, 3), np.uint8)
    compose(made, out)
    for i in range(30):
        top, left = int(made.top[i]), int(made.left[i])
        ground = photograph(PHOTOS["test"][made.photo[i]])[top : top + SIDE, left : left + SIDE]
        ground = ground[:, ::-1] if made.mirror[i] else ground
        row, column, size = int(made.row[i]), int(made.column[i]), int(made.size[i])
        outside = np.ones((SIDE, SIDE), bool)
        outside[row : row + size, column : column + size] = False
        np.testing.assert_array_equal(out[i][outside], ground[outside])
        assert (out[i] != ground).any()


def test_the_digit_stands_out_from_what_is_under_it() -> None:
    made = plan("valid", 60)
    out = np.zeros((60, SIDE, SIDE, 3), np.uint8)
    compose(made, out)
    contrasts = []
    for i in range(60):
        size, row, column = int(made.size[i]), int(made.row[i]), int(made.column[i])
        drawn = photos.enlarging(size) @ (handwritten()[0][made.digit[i]] / 255.0)
        cover = drawn @ photos.enlarging(size).T
        patch = out[i, row : row + size, column : column + size].mean(2)
        contrasts.append(abs(patch[cover > 0.9].mean() - patch[cover < 0.1].mean()))
    assert np.median(contrasts) > 60
    assert np.mean(np.array(contrasts) > 25) > 0.9


def test_the_task_is_the_same_every_time_and_cached(tmp_path: Path) -> None:
    first = digits_in_photos(train=30, valid=20, test=10)
    print_ = first.fingerprint()
    assert [first.size(s) for s in SPLITS] == [30, 20, 10]
    (file,) = tmp_path.glob("digits-in-photos-*.npy")
    stamp = file.stat().st_mtime_ns
    assert digits_in_photos(train=30, valid=20, test=10).fingerprint() == print_
    assert file.stat().st_mtime_ns == stamp
    file.unlink()
    assert digits_in_photos(train=30, valid=20, test=10).fingerprint() == print_
    assert digits_in_photos(train=40, valid=20, test=10).fingerprint() != print_
    assert first.shape.input == (3, 64, 64)
    (batch,) = first.batches("test", (3, 24, 24), 10)
    assert batch.inputs.shape == (10, 3, 24, 24)
    assert sorted(batch.targets["label"].tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train": 0}, "train must be a whole number from 10"),
        ({"train": "many"}, "not 'many'"),
        ({"valid": True}, "not True"),
        ({"test": 1e3}, "test must be a whole number"),
        ({"trane": 100}, "no option 'trane'.*train"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(NasxError, match=words) as caught:
        registry.task({"name": "digits-in-photos", **options})
    assert "\n" not in str(caught.value)


def test_making_the_task_reads_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(photos, "photograph", forbidden)
    task = registry.task("digits-in-photos")
    assert (task.shape.input, task.shape.classes) == ((3, 64, 64), 10)
