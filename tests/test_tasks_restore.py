"""The task of photographs to restore: its batches, its scores, one degradation at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasx import registry
from nasx.errors import NasxError
from nasx.order import Order
from nasx.tasks.base import Batch
from nasx.tasks.bicubic import shrink

ALL = ["x2", "x3", "x4", "denoise", "denoise30", "derain"]
PATCH = (3, 16, 16)


@pytest.fixture(scope="module")
def every() -> Any:
    return registry.task({"name": "photos", "degradations": ALL, "patch": 16, "patches": 96})


@pytest.fixture(scope="module")
def x2() -> Any:
    return registry.task({"name": "photos", "patch": 16, "patches": 64})


def passes(task: Any, seed: int) -> Iterator[Batch]:
    yield from task.batches("train", PATCH, 8, torch.Generator().manual_seed(seed), True)


class Nearest(nn.Module):
    """Repeats every pixel, for whatever scale the head names."""

    def forward(self, inputs: Tensor, head: str = "x2") -> Tensor:
        scale = int(head[1]) if head.startswith("x") else 1
        return F.interpolate(inputs, scale_factor=scale, mode="nearest")


def test_a_batch_has_one_degradation_and_all_come_equally_often(every: Any) -> None:
    seen = []
    for batch in passes(every, 0):
        scale = int(batch.head[1]) if batch.head.startswith("x") else 1
        assert batch.inputs.shape == (8, *PATCH)
        assert batch.targets["image"].shape == (8, 3, 16 * scale, 16 * scale)
        for images in (batch.inputs, batch.targets["image"]):
            assert images.dtype == torch.float32
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert 0 <= float(images.min()) <= float(images.max()) <= 1
        seen.append(batch.head)
    assert sorted(seen) == sorted(ALL * 2)
    assert [b.head for b in passes(every, 1)] != seen


def test_a_pass_is_decided_by_its_generator_alone(every: Any) -> None:
    once, again, other = (list(passes(every, seed)) for seed in (0, 0, 1))
    for a, b in zip(once, again, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets["image"], b.targets["image"])
    assert not all(torch.equal(a.inputs, b.inputs) for a, b in zip(once, other, strict=True))


def test_an_order_put_back_goes_on_bit_for_bit(every: Any) -> None:
    first = Order(every, PATCH, 7, augment=True)
    for _ in range(15):
        first.next("train", 8)
    second = Order(every, PATCH, 7, augment=True)
    second.put_back(first.where())
    for _ in range(5):
        a, b = first.next("train", 8), second.next("train", 8)
        assert a.head == b.head
        assert torch.equal(a.inputs, b.inputs)


def test_training_inputs_are_cut_from_the_shrunk_photographs(x2: Any) -> None:
    batch = next(x2.batches("train", PATCH, 64, torch.Generator().manual_seed(0)))
    inner = 0
    for small, large in zip(batch.inputs, batch.targets["image"], strict=True):
        bytes_of = (large * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        own = shrink(np.ascontiguousarray(bytes_of), 2)
        given = (small * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        # Alone, a patch is mirrored at its edges; within, shrinking sees the same pixels.
        assert np.array_equal(own[2:-2, 2:-2], given[2:-2, 2:-2])
        inner += not np.array_equal(own, given)
    assert inner > 32


def test_validation_patches_cover_the_photographs_in_a_fixed_order(every: Any) -> None:
    batches = list(every.batches("valid", PATCH, 64))
    assert sum(len(b.inputs) for b in batches) == every.size("valid")
    heads = [b.head for b in batches]
    assert list(dict.fromkeys(heads)) == ALL
    assert heads == sorted(heads, key=ALL.index)
    larger = list(every.batches("valid", (3, 24, 20), 64))
    assert sum(len(b.inputs) for b in larger) == every.size("valid")
    for a, b in zip(batches, every.batches("valid", PATCH, 64), strict=True):
        assert torch.equal(a.inputs, b.inputs)


def test_scores_are_by_head_and_their_mean(every: Any) -> None:
    scores = every.score(Nearest(), "valid", PATCH)
    assert tuple(scores) == every.metrics
    for name in ("psnr", "ssim"):
        each = [scores[f"{name}_{head}"] for head in ALL]
        assert scores[name] == pytest.approx(np.mean(each))
    without = every.without_net("valid")
    for head in ("denoise", "denoise30", "derain"):  # the network gives its input back
        assert scores[f"psnr_{head}"] == pytest.approx(without[f"psnr_{head}"])
    for head in ("x2", "x3", "x4"):
        assert without[f"psnr_{head}"] > scores[f"psnr_{head}"] + 0.5
    assert without["psnr_x2"] > without["psnr_x3"] > without["psnr_x4"]


def test_an_answer_of_another_size_is_one_sentence(x2: Any) -> None:
    class Still(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

    batch = next(passes(x2, 0))
    with pytest.raises(NasxError, match=r"for x2 the network turns .* another scale"):
        x2.loss(batch.inputs, batch)
    with pytest.raises(NasxError, match="another scale"):
        x2.score(Still(), "valid", PATCH)


def test_an_answer_that_is_not_finite_scores_nan(x2: Any) -> None:
    class Lost(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return F.interpolate(inputs, scale_factor=2) * float("nan")

    assert all(np.isnan(v) for v in x2.score(Lost(), "valid", PATCH).values())


def test_wrong_options_are_one_sentence_each() -> None:
    for options, said in (
        ({"degradations": ["x5"]}, "no degradation 'x5'"),
        ({"degradations": []}, "one or more of"),
        ({"degradations": ["x2", "x2"]}, "named twice"),
        ({"degradations": ["denoise80"]}, "no degradation 'denoise80'"),
        ({"sigma": 5}, "from 10 to 70"),
        ({"sigma": [50, 20]}, "from 10 to 70"),
        ({"patch": 4}, "patch must be a whole number from 8"),
        ({"path": "/nowhere/at/all"}, "nothing at /nowhere/at/all"),
        ({"valid": "."}, "training images' folder"),
    ):
        with pytest.raises(NasxError, match=said) as caught:
            registry.task({"name": "photos", **options})
        assert "\n" not in str(caught.value)
