"""Detection: assignment, loss, suppression and precision on hand cases; scenes; batches."""

import pytest
import torch

from nasx.contract import check
from nasx.registry import task
from nasx.training import Training
from tinydetect import TinyDetect

SIZE = (3, 96, 96)


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    monkeypatch.setenv("NASX_CACHE", str(tmp_path))
    return task({"name": "digit-scenes", "train": 32, "valid": 8, "test": 8})


def test_a_space_of_ones_own_keeps_the_contract_on_detection():
    assert [str(fault) for fault in check(TinyDetect)] == []


def test_a_detector_trains_and_is_scored(scenes):
    training = Training(TinyDetect(), scenes, full=64, seed=0)
    for _ in training.run(64):
        pass
    scores = training.score("valid")
    assert set(scores) <= set(scenes.metrics)
    assert 0 <= scores["ap"] <= scores["ap50"] <= 100
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]


def test_targets_of_a_batch_are_the_boxes_of_its_images(scenes):
    batch = next(scenes.batches("valid", SIZE, 8))
    held = scenes.data.splits["valid"]
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert batch.targets["offsets"].tolist() == held.offsets.tolist()
    assert torch.equal(batch.targets["boxes"][:, 0].long(), torch.from_numpy(held.labels))
    small = next(scenes.batches("valid", (3, 48, 48), 8))
    assert torch.equal(small.targets["boxes"][:, 1:] * 2, batch.targets["boxes"][:, 1:])
