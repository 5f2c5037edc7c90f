"""Classification: batches, resizing, augmentation, loss and score."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nasx.errors import NasxError
from nasx.tasks.augment import Augment, draw, move
from nasx.tasks.base import Batch
from nasx.tasks.classify import Classify
from nasx.tasks.data import Dataset, Labelled, balanced_order, stratified
from nasx.tasks.digits import digit_parts, digits, handwritten
from nasx.tasks.resize import Resized, resize


def made(count: int = 20, side: int = 12, channels: int = 3) -> Dataset:
    rng = np.random.default_rng(3)

    def part(n: int) -> Labelled:
        images = rng.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
        return Labelled(images, np.arange(n, dtype=np.int64) % 2)

    splits = {"train": part(count), "valid": part(7), "test": part(5)}
    return Dataset("made", ("cat", "dog"), splits, "0" * 64)  # type: ignore[arg-type]


def task(augment: Augment | None = None) -> Classify:
    return Classify("made", (3, 12, 12), 2, made, augment=augment)


def test_a_pass_in_order_holds_every_sample_once() -> None:
    batches = list(task().batches("valid", (3, 12, 12), 3))
    assert [len(b.inputs) for b in batches] == [3, 3, 1]
    assert torch.cat([b.targets["label"] for b in batches]).tolist() == [0, 1, 0, 1, 0, 1, 0]
    for batch in batches:
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
        assert batch.targets["label"].dtype == torch.int64


def test_inputs_are_normalised_by_the_training_split() -> None:
    subject = task()
    (batch,) = subject.batches("train", (3, 12, 12), 20)
    torch.testing.assert_close(batch.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    spread = batch.inputs.std((0, 2, 3), correction=0)
    torch.testing.assert_close(spread, torch.ones(3), atol=1e-4, rtol=0)
    pixels = torch.from_numpy(subject.data.splits["train"].images).permute(0, 3, 1, 2).double()
    mean = pixels.mean((0, 2, 3), keepdim=True)
    deviation = pixels.std((0, 2, 3), keepdim=True, correction=0)
    expected = ((pixels - mean) / deviation).float()
    torch.testing.assert_close(batch.inputs, expected, atol=1e-5, rtol=1e-5)


def test_a_shuffled_pass_drops_the_incomplete_batch_and_repeats_with_its_generator() -> None:
    def run(seed: int) -> list[Batch]:
        generator = torch.Generator().manual_seed(seed)
        return list(task().batches("train", (3, 8, 8), 6, generator, augment=True))

    first, again, other = run(1), run(1), run(2)
    assert [len(b.inputs) for b in first] == [6, 6, 6]
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets["label"], b.targets["label"])
    assert not torch.equal(first[0].inputs, other[0].inputs)


def test_two_passes_differ_and_each_takes_one_number() -> None:
    generator, expected = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    passes = [list(task().batches("train", (3, 8, 8), 6, generator)) for _ in range(2)]
    assert not torch.equal(passes[0][0].inputs, passes[1][0].inputs)
    for _ in range(2):
        torch.randint(2**62, (), generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_without_augmentation_a_shuffled_pass_is_a_permutation() -> None:
    subject, generator = task(), torch.Generator().manual_seed(0)
    shuffled = next(subject.batches("train", (3, 12, 12), 20, generator)).inputs
    plain = next(subject.batches("train", (3, 12, 12), 20)).inputs
    assert not torch.equal(shuffled, plain)
    assert torch.equal(shuffled.sum((1, 2, 3)).sort().values, plain.sum((1, 2, 3)).sort().values)


def test_augmentation_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="generator"):
        next(task().batches("train", (3, 12, 12), 4, augment=True))


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12), (3, 0, 4)])
def test_a_shape_the_images_cannot_take_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(NasxError, match="input_shape"):
        next(task().batches("train", shape, 4))


@pytest.mark.parametrize("side", [5, 8, 10, 24, 31])
def test_resizing_agrees_with_pillow(side: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 20, 20, 3), dtype=np.uint8)
    found = resize(images, side, side)
    assert found.shape == (4, side, side, 3)
    for image, ours in zip(images, found, strict=True):
        theirs = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        assert np.abs(ours.astype(int) - np.asarray(theirs).astype(int)).max() <= 1


def test_shrinking_averages_and_does_not_alias() -> None:
    board = (np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8)
    small = resize(board[None, :, :, None], 8, 8)
    assert small.shape == (1, 8, 8, 1)
    assert np.abs(small.astype(int) - 127).max() <= 12  # grey, not stripes of black and white


def test_images_kept_or_not_are_the_same() -> None:
    images = made().splits["train"].images
    kept, passing = Resized(images, 7, 9), Resized(images, 7, 9, keep=0)
    for indices in (np.array([3, 1, 4]), np.array([1, 5, 9, 2]), np.arange(20)):
        np.testing.assert_array_equal(kept.take(indices), passing.take(indices))
    taken = kept.take(np.arange(2))
    taken[:] = 0  # what a batch does to its pixels does not reach the store
    np.testing.assert_array_equal(kept.take(np.arange(2)), passing.take(np.arange(2)))


def test_moving_shifts_and_repeats_the_edge() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    still = np.array([False])
    np.testing.assert_array_equal(move(image, np.array([[0, 0]]), still), image)
    down_right = move(image, np.array([[1, 2]]), still)[0, :, :, 0]
    np.testing.assert_array_equal(down_right, [[0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]])
    up_left = move(image, np.array([[-1, -1]]), still)[0, :, :, 0]
    np.testing.assert_array_equal(up_left, [[5, 6, 7, 7], [9, 10, 11, 11], [9, 10, 11, 11]])
    mirrored = move(image, np.array([[0, 0]]), np.array([True]))[0, :, :, 0]
    np.testing.assert_array_equal(mirrored, np.arange(12).reshape(3, 4)[:, ::-1])


def test_draws_stay_within_their_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = draw(Augment(1 / 16, 0.2), 500, (3, 64, 32), generator)
    assert set(np.unique(draws.shifts[:, 0])) == set(range(-4, 5))
    assert set(np.unique(draws.shifts[:, 1])) == set(range(-2, 3))
    assert 0.8 <= draws.gains.min() < 0.85 < 1.15 < draws.gains.max() <= 1.2
    assert not draws.flips.any()
    flipped = draw(Augment(flip=True), 500, (3, 64, 32), generator).flips.mean()
    assert 0.4 < flipped < 0.6


def test_an_augmentation_of_nothing_changes_nothing() -> None:
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    subject = task(Augment(shift=0, gain=0))
    varied = next(subject.batches("train", (3, 12, 12), 6, generators[0], augment=True))
    plain = next(subject.batches("train", (3, 12, 12), 6, generators[1]))
    assert torch.equal(varied.inputs, plain.inputs)


class Told(nn.Module):
    """Answer the class that stands in the first pixel, to know the score beforehand."""

    def __init__(self, answers: list[int], bad: bool = False) -> None:
        super().__init__()
        self.answers, self.bad, self.seen = answers, bad, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        now = self.answers[self.seen : self.seen + len(x)]
        self.seen += len(x)
        logits = nn.functional.one_hot(torch.tensor(now), 2).float()
        return logits * float("nan") if self.bad else logits


def test_top1_is_the_share_of_right_answers_in_percent() -> None:
    score = task().score(Told([0, 1, 0, 1, 0, 0, 1]), "valid", (3, 12, 12))
    assert score == {"top1": pytest.approx(100 * 5 / 7)}


def test_a_net_that_answers_nan_scores_nan() -> None:
    assert np.isnan(task().score(Told([0] * 7, bad=True), "valid", (3, 12, 12))["top1"])


def test_the_loss_is_cross_entropy_with_the_smoothing_asked() -> None:
    logits, label = torch.tensor([[2.0, 0.0], [0.5, 1.0]]), torch.tensor([0, 0])
    batch = Batch(torch.empty(2), {"label": label})
    log_p = logits.log_softmax(1)
    torch.testing.assert_close(task().loss(logits, batch), -log_p[:, 0].mean())
    smoothed = Classify("made", (3, 12, 12), 2, made, smoothing=0.1)
    expected = -(0.95 * log_p[:, 0] + 0.05 * log_p[:, 1]).mean()
    torch.testing.assert_close(smoothed.loss(logits, batch), expected)


def test_pictures_show_valid_images(tmp_path: Path) -> None:
    paths = task().illustrate(Told([0] * 7), (3, 8, 8), 3, tmp_path / "images")
    assert [p.name for p in paths] == ["valid-00000.png", "valid-00003.png", "valid-00006.png"]
    drawn = []
    for path in paths:
        with Image.open(path) as image:
            drawn.append(np.asarray(image))
    assert {d.shape for d in drawn} == {(128 + 32, 128, 3)}
    assert not np.array_equal(drawn[0][-14:], drawn[1][-14:])  # right in green, wrong in red
    few = task().illustrate(Told([0] * 7), (3, 8, 8), 50, tmp_path / "images")
    assert len(few) == 7


def test_the_fingerprint_changes_with_labels_splits_and_names() -> None:
    whole = made()
    assert whole.fingerprint() == made().fingerprint()
    relabelled = copy.deepcopy(whole)
    relabelled.splits["valid"].labels[0] = 1
    renamed = Dataset("made", ("cat", "cow"), whole.splits, whole.pixels)
    repainted = Dataset("made", whole.classes, whole.splits, "1" * 64)
    prints = {d.fingerprint() for d in (whole, relabelled, renamed, repainted)}
    assert len(prints) == 4


def test_a_pickled_task_carries_no_data() -> None:
    subject = task()
    before = next(subject.batches("train", (3, 6, 6), 4)).inputs
    text = pickle.dumps(subject)
    assert len(text) < 2_000
    assert torch.equal(next(pickle.loads(text).batches("train", (3, 6, 6), 4)).inputs, before)


def test_digits_are_split_by_class_without_overlap() -> None:
    subject, parts = digits(), digit_parts()
    labels = handwritten()[1]
    joined = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(np.sort(joined), np.arange(1797))
    for split, share in (("train", 4 / 6), ("valid", 1 / 6), ("test", 1 / 6)):
        counts = np.bincount(labels[parts[split]])  # type: ignore[index]
        assert np.abs(counts - share * np.bincount(labels)).max() <= 1
    assert subject.shape.input == (1, 8, 8)
    assert subject.shape.classes == 10
    (batch,) = subject.batches("test", (1, 8, 8), 400)
    assert batch.inputs.shape == (subject.size("test"), 1, 8, 8)
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    assert subject.fingerprint() == digits().fingerprint()


def test_a_linear_net_learns_digits() -> None:
    subject, generator = digits(), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weights = list(model.parameters())
    for _ in range(4):
        for batch in subject.batches("train", (1, 8, 8), 32, generator):
            loss = subject.loss(model(batch.inputs), batch)
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.data -= 0.1 * slope
    assert subject.score(model.eval(), "valid", (1, 8, 8))["top1"] > 90


def test_stratified_parts_are_a_partition_and_balanced() -> None:
    labels = np.repeat(np.arange(4), [10, 21, 33, 7])
    parts = stratified(labels, (6, 2, 2), np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(71))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        assert np.abs(np.bincount(labels[part]) - share * np.bincount(labels)).max() <= 1


def test_in_balanced_order_every_ten_hold_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 8))
    order = balanced_order(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(80))
    for start in range(0, 80, 10):
        assert sorted(labels[order[start : start + 10]]) == list(range(10))
