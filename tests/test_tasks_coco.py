"""COCO folders: layouts, what is taken as COCO's tools take it, and what is refused, and how."""

from __future__ import annotations

import json
import logging
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from nasx.errors import NasxError
from nasx.registry import task

CATEGORIES = [{"id": 7, "name": "cup"}, {"id": 3, "name": "ball"}]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NASX_CACHE", str(tmp_path / "cache"))


def split(count=2, seed=0, **more):
    """A split of images 80 wide and 60 high, each with one object."""
    images = [
        {"id": 10 * seed + i, "file_name": f"{seed}-{i}.png", "width": 80, "height": 60}
        for i in range(count)
    ]
    rows = [
        {"id": 100 + i, "image_id": one["id"], "category_id": 3, "bbox": [10, 20, 30, 20]}
        for i, one in enumerate(images)
    ]
    return {"images": images, "annotations": rows, "categories": list(CATEGORIES)} | more


def laid(root, **splits):
    """Write {split}.json and images/ into a folder."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name, content in splits.items():
        (root / f"{name}.json").write_text(json.dumps(content))
        for one in content["images"]:
            if "file_name" not in one:
                continue
            number = zlib.crc32(one["file_name"].encode())
            pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / one["file_name"])
    return root


def given(tmp_path, **options):
    return task({"name": "coco", "path": str(tmp_path), "side": 64, **options})


def whole(tmp_path, train=None, **options):
    folder = tmp_path / "set"
    laid(folder, train=train or split(4), val=split(2, 1), test=split(2, 2))
    return given(folder, **options)


def refused(tmp_path, train):
    with pytest.raises(NasxError) as error:
        whole(tmp_path, train).fingerprint()
    text = str(error.value)
    assert "\n" not in text
    assert "train.json" in text
    return text


def test_images_keep_their_proportions_and_boxes_follow(tmp_path):
    made = whole(tmp_path)
    assert made.shape.input == (3, 64, 64)
    assert made.data.classes == ("ball", "cup")  # in the order of the ids, gaps or not
    batch = next(made.batches("train", (3, 64, 64), 4))
    assert batch.targets["boxes"][0].tolist() == pytest.approx([0, 8, 16, 32, 32])  # times .8
    assert torch.all(batch.inputs[:, :, 48:] == 128 / 255)
    half = next(made.batches("train", (3, 32, 64), 4))
    assert half.targets["boxes"][0].tolist() == pytest.approx([0, 8, 8, 32, 16])


def test_scores_are_of_the_original_boxes(tmp_path):
    made = whole(tmp_path)

    class Knowing(torch.nn.Module):
        def forward(self, x):
            out = torch.full((len(x), 64 + 16 + 4, 6), -9.0)
            out[..., :4] = 1.0
            out[:, 3 * 8 + 2] = torch.tensor([12.0, 12, 12, 4, 9, -9])  # from (20, 28)
            return out

    scores = made.score(Knowing(), "valid", (3, 64, 64))
    assert scores == pytest.approx({"ap50": 100, "ap": 100, "ap_small": 100})


def test_layouts_in_use_are_found(tmp_path):
    (tmp_path / "a" / "annotations").mkdir(parents=True)
    for name, seed in (("train2017", 0), ("val2017", 1)):
        made = laid(tmp_path / "a" / name, x=split(4, seed))
        moved = tmp_path / "a" / "annotations" / f"instances_{name}.json"
        (made / "x.json").rename(moved)
        for image in (made / "images").iterdir():
            image.rename(made / image.name)
        (made / "images").rmdir()
    found = given(tmp_path / "a")
    assert [found.size(s) for s in ("valid",)] == [4]
    assert found.size("train") + found.size("test") == 4  # test is cut from train
    file = tmp_path / "a" / "annotations" / "instances_train2017.json"
    single = given(file, images=str(tmp_path / "a" / "train2017"))
    assert sum(single.size(s) for s in ("train", "valid", "test")) == 4


def test_gaps_empty_images_and_crowds_are_as_coco_has_them(tmp_path):
    train = split(4)
    del train["annotations"][1]
    train["annotations"][0]["iscrowd"] = 1
    made = whole(tmp_path, train)
    batch = next(made.batches("train", (3, 64, 64), 4))
    assert batch.targets["offsets"].tolist() == [0, 0, 0, 1, 2]
    assert batch.targets["ignored"].tolist() == [pytest.approx([8, 16, 32, 32])]
    output = torch.zeros(4, 84, 6, requires_grad=True)
    made.loss(output, batch).backward()
    silent = (output.grad[0, :, 4:] == 0).all(1)
    assert silent[3 * 8 + 2]
    assert not silent[0]


def test_a_box_over_the_border_is_learnt_cut_off_and_scored_as_annotated(tmp_path):
    train = split(4)
    train["annotations"][0]["bbox"] = [-10, 40, 30, 40]
    made = whole(tmp_path, train)
    batch = next(made.batches("train", (3, 64, 64), 4))
    assert batch.targets["boxes"][0].tolist() == pytest.approx([0, 0, 32, 16, 48])
    assert made.data.splits["train"].corners[0].tolist() == [-10, 40, 20, 80]


def test_a_box_without_area_is_told_and_never_found(tmp_path, caplog):
    train = split(4)
    train["annotations"][2]["bbox"] = [10, 20, 0, 20]
    made = whole(tmp_path, train)
    with caplog.at_level(logging.WARNING, "nasx"):
        made.fingerprint()
    (said,) = caplog.messages
    assert "annotation 102" in said
    assert "1 boxes have no area" in said
    batch = next(made.batches("train", (3, 64, 64), 4))
    assert torch.isfinite(made.loss(torch.zeros(4, 84, 6), batch))


def one(number, **changes):
    def change(train):
        train["annotations"][number] |= changes
        return train

    return change


def twice(key):
    def change(train):
        train[key].append(dict(train[key][0]))
        return train

    return change


def gone(key, number, name):
    def change(train):
        del train[key][number][name]
        return train

    return change


def sized(train):
    train["images"][1]["width"] = 90
    return train


def lost(train):
    train["images"] = [*train["images"], {"id": 99, "file_name": "lost.png"}]
    return train


FAULTS = {
    "outside": (one(1, bbox=[80, 10, 5, 5]), "annotation 101 lies outside its image 0-1.png"),
    "above": (one(1, bbox=[8, -10, 5, 5]), "annotation 101 lies outside"),
    "negative": (one(1, bbox=[8, 10, -5, 5]), "annotation 101 has a bbox -5 wide and 5 high"),
    "three numbers": (one(1, bbox=[8, 10, 5]), "annotation 101 has the bbox [8, 10, 5]"),
    "no number": (one(1, bbox=[8, 10, 5, "x"]), "annotation 101 has the bbox"),
    "not finite": (one(1, bbox=[8, 10, 5, float("nan")]), "annotation 101 has the bbox"),
    "no bbox": (gone("annotations", 1, "bbox"), "annotation 101 has the bbox None"),
    "crowd": (one(1, iscrowd=2), "annotation 101 has iscrowd 2"),
    "area": (one(1, area=-4), "annotation 101 has the area -4"),
    "image": (one(1, image_id=55), "annotation 101 is of image 55, which is not listed"),
    "category": (one(1, category_id=4), "annotation 101 is of category 4, which is not listed"),
    "no category": (gone("annotations", 1, "category_id"), "annotation 101 is of category None"),
    "no id": (gone("annotations", 1, "id"), "annotation number 2 has no id"),
    "same id": (twice("annotations"), "annotation 100 is there twice"),
    "same image": (twice("images"), "two images have the id 0"),
    "same category": (twice("categories"), "two categories have the id 7"),
    "no file": (gone("images", 1, "file_name"), "image number 2 has no id or no file_name"),
    "size": (sized, "image 1 is said to be 90 x 60 pixels"),
}


@pytest.mark.parametrize(("change", "said"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_names_the_file_and_the_annotation(tmp_path, change, said):
    assert said in refused(tmp_path, change(split(4)))


def test_a_missing_or_broken_image_is_named(tmp_path):
    whole(tmp_path)
    folder = tmp_path / "set"
    (folder / "images" / "0-2.png").unlink()
    with pytest.raises(NasxError, match=r"train.json: image 2 cannot be read at .*0-2.png"):
        given(folder).fingerprint()
    (folder / "images" / "0-2.png").write_bytes(b"no image")
    with pytest.raises(NasxError, match=r"0-2.png is a corrupt image"):
        given(folder).fingerprint()


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_split_without_an_object_is_refused(tmp_path, name):
    content = {"train": split(4), "val": split(2, 1), "test": split(2, 2)}
    for one in content[name]["annotations"]:
        one["iscrowd"] = 1
    with pytest.raises(NasxError, match=rf"{name}\.json: no image of \w+ has an object"):
        given(laid(tmp_path, **content)).fingerprint()


def test_no_coco_file_is_told_so(tmp_path):
    folder = laid(tmp_path / "x", val=split(2, 1))
    with pytest.raises(NasxError, match="holds no annotations to learn from"):
        given(folder)
    for text, said in (("{", "no JSON file"), ("[]", "no list 'images'"), ("{}", "no list")):
        (folder / "train.json").write_text(text)
        with pytest.raises(NasxError, match=said):
            given(folder)


def test_splits_share_categories_and_no_image(tmp_path):
    folder = tmp_path / "y"
    laid(folder, train=split(3), val=split(2, 1, categories=[{"id": 3, "name": "bell"}]))
    with pytest.raises(NasxError, match=r"category 3 'b.ll' is not the same in"):
        given(folder).fingerprint()
    laid(folder, val=split(2, 0))
    with pytest.raises(NasxError, match="are the same image"):
        given(folder).fingerprint()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 16}, "side must be a whole number"),
        ({"side": [64]}, "height, width"),
        ({"strides": [8, 4]}, "strides must be rising"),
        ({"strides": []}, "strides must be rising"),
        ({"flip": 1}, "flip must be true or false"),
        ({"images": "nowhere"}, "there is nothing at"),
    ],
)
def test_options_are_checked(tmp_path, options, said):
    with pytest.raises(NasxError, match=said):
        whole(tmp_path, **options)
