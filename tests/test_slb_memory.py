"""What training with relaxed weights takes: the float network and three numbers per logit."""

from __future__ import annotations

import gc
from functools import cache

import pytest

from allocator import peak_of
from nasx import registry
from nasx.training import Training
from search_spaces.low_bit import LowBit

WEIGHTS = 267_264  # of the low-bit layers of ResNet-20
BATCH = 32


@cache
def peak(bits: int) -> int:
    """Build ResNet-20, train it for two of three steps and score it, as a search does at a rung."""
    task = registry.task("digits")
    task.size("train")
    fields = {"backbone": "resnet20", "width": 1.0, "w_bits": [bits] * 4, "a_bits": [32] * 4}
    candidate = LowBit.from_json(fields)

    def work() -> None:
        training = Training(candidate, task, full=3 * BATCH, seed=0)
        for _ in training.run(2 * BATCH):
            pass
        training.score("valid")

    gc.collect()
    return peak_of(work)


@pytest.mark.parametrize("bits", [1, 4])
def test_training_takes_three_numbers_per_logit_more_than_floats(bits):
    logits = 4 * WEIGHTS * 2**bits  # bytes
    assert peak(32) > 4 * 4 * WEIGHTS  # weights, gradients and two moments are all seen
    assert peak(bits) <= 1.1 * (peak(32) + 3 * logits)
    if bits > 1:
        assert peak(bits) > 2.5 * logits  # the bound is near: nothing is left out of the count
