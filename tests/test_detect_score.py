"""Suppression, matching to points, losses and average precision, on cases counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.detectcard import finding
from nasx.tasks.boxed import Boxed
from nasx.tasks.boxpictures import Drawn, matched, sure_from
from nasx.tasks.boxsizes import COCO, SizeBin
from nasx.tasks.dense import REACH, Truth, assign, detection_loss, focal, giou, padded, points
from nasx.tasks.precision import Detections, average_precision
from nasx.tasks.suppress import OVERLAP, decode, overlaps, survivors

NONE = torch.full((1, 1, 4), math.nan)


def truth(*images, crowd=(), sizes=(100, 100)):
    """Each image is a list of (class, x0, y0, x1, y1); `crowd` numbers boxes that are crowds."""
    flat = [box for boxes in images for box in boxes]
    corners = np.array([box[1:] for box in flat], np.float64).reshape(-1, 4)
    return Boxed(
        images=np.zeros((len(images), *sizes, 3), np.uint8),
        names=tuple(map(str, range(len(images)))),
        sizes=np.tile(np.array(sizes), (len(images), 1)),
        scales=np.ones(len(images)),
        offsets=np.cumsum([0, *map(len, images)]),
        labels=np.array([box[0] for box in flat], np.int64),
        corners=corners,
        areas=(corners[:, 2:] - corners[:, :2]).prod(1),
        crowd=np.isin(np.arange(len(flat)), crowd),
    )


def found(*rows):
    """Each row is (image, class, chance, x0, y0, x1, y1)."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Detections(
        table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3:]
    )


BOX = (0, 10, 10, 30, 30)


def test_what_is_found_exactly_scores_a_hundred():
    got = average_precision(truth([BOX]), found((0, 0, 0.9, *BOX[1:])), 2, COCO)
    assert got == pytest.approx({"ap50": 100, "ap": 100, "ap_small": 100})


def test_a_false_box_before_the_right_one_halves_the_precision():
    rows = (0, 0, 0.9, 60, 60, 80, 80), (0, 0, 0.8, *BOX[1:])
    assert average_precision(truth([BOX]), found(*rows), 1, COCO)["ap50"] == pytest.approx(50)
    back = tuple(reversed([(0, 0, 0.7, 60, 60, 80, 80), rows[1]]))
    assert average_precision(truth([BOX]), found(*back), 1, COCO)["ap50"] == pytest.approx(100)


def test_one_of_two_objects_found_is_51_of_101_recalls():
    both = truth([BOX, (0, 60, 60, 80, 80)])
    got = average_precision(both, found((0, 0, 0.9, *BOX[1:])), 1, COCO)
    assert got["ap50"] == pytest.approx(100 * 51 / 101)


def test_an_overlap_of_07_counts_at_five_of_ten_thresholds():
    # 20 x 20 against 20 x 14 within it: 0.7, which reaches .5, .55, .6, .65 and .7
    got = average_precision(truth([BOX]), found((0, 0, 0.9, 10, 10, 30, 24)), 1, COCO)
    assert (got["ap50"], got["ap"]) == (pytest.approx(100), pytest.approx(50))


def test_a_wrong_class_is_no_find_and_absent_classes_do_not_count():
    got = average_precision(truth([BOX]), found((0, 1, 0.9, *BOX[1:])), 3, COCO)
    assert got["ap50"] == 0


def test_an_image_without_objects_can_only_cost():
    empty = truth([BOX], [])
    rows = (0, 0, 0.8, *BOX[1:]), (1, 0, 0.9, *BOX[1:])
    assert average_precision(empty, found(rows[0]), 1, COCO)["ap50"] == pytest.approx(100)
    assert average_precision(empty, found(*rows), 1, COCO)["ap50"] == pytest.approx(50)


def test_boxes_within_a_crowd_count_neither_way():
    crowded = truth([BOX, (0, 50, 50, 100, 100)], crowd=[1])
    rows = (0, 0, 0.9, 60, 60, 70, 70), (0, 0, 0.8, *BOX[1:])
    assert average_precision(crowded, found(*rows), 1, COCO)["ap50"] == pytest.approx(100)


def test_sizes_are_told_apart_by_the_bins_of_the_task():
    own = (SizeBin("ap_tiny", 0, 15), SizeBin("ap_huge", 15, None))
    both = truth([BOX, (0, 60, 60, 70, 70)])
    got = average_precision(both, found((0, 0, 0.9, *BOX[1:])), 1, own)
    assert (got["ap_tiny"], got["ap_huge"]) == (0, pytest.approx(100))


def test_nothing_found_is_zero_and_nothing_there_has_no_score():
    assert average_precision(truth([BOX]), found(), 1, COCO)["ap"] == 0
    assert average_precision(truth([]), found(), 1, COCO) == {}


def test_boxes_are_drawn_from_the_chance_on_that_finds_most_for_least_wrong():
    def drawn(*rows):
        table = np.array(rows, float).reshape(-1, 6)
        return Drawn(table[:, 2:], table[:, 0].astype(int), table[:, 1])

    here, far = (0.0, 0, 10, 10), (50.0, 50, 60, 60)
    there = [drawn((1, 1, *here)), drawn((1, 1, *here))]
    sure = [drawn((1, 0.2, *here), (1, 0.1, *far)), drawn((1, 0.15, *here), (0, 0.12, *here))]
    assert sure_from(sure, there) == 0.15  # two right of two: 2 2 / (2 + 2)
    wrong_first = [drawn((1, 0.9, *far), (1, 0.8, *far)), drawn((1, 0.3, *here))]
    assert sure_from(wrong_first, there) == 0.3  # 2 1 / (3 + 2), nothing before
    assert sure_from([drawn((0, 0.9, *here)), drawn()], there) == 1


def greedy(corners, labels, valid):
    shared = overlaps(corners[None])[0]
    kept: list[int] = []
    for i in range(len(corners)):
        rivals = [j for j in kept if labels[j] == labels[i] and shared[i, j] > OVERLAP]
        if valid[i] and not rivals:
            kept.append(i)
    return kept


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60))
def test_suppression_is_the_greedy_one(seed, count):
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(2, count, 2, generator=rng) * 12
    corners = torch.cat([low, low + 4 + 6 * torch.rand(2, count, 2, generator=rng)], -1)
    labels = torch.randint(0, 2, (2, count), generator=rng)
    valid = torch.rand(2, count, generator=rng) < 0.8
    stays = survivors(corners, labels, valid)
    for i in range(2):
        assert stays[i].nonzero()[:, 0].tolist() == greedy(corners[i], labels[i], valid[i])


def test_points_are_the_middles_of_cells_level_by_level():
    places, steps = points((8, 12), (4, 8))
    first = [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]
    assert places.tolist() == [*first, [4, 4], [12, 4]]
    assert steps.tolist() == [4.0] * 6 + [8.0] * 2


def test_answers_become_boxes_cut_off_at_the_border():
    places, _ = points((8, 8), (4,))
    output = torch.full((1, 4, 6), -9.0)
    output[..., :4] = torch.tensor([1.0, 1, 1, 1])
    output[0, 3] = torch.tensor([5.0, 1, 3, 9, -9, 2])
    (one,) = decode(output, places, (8, 8))
    assert one.corners.tolist() == [[1, 5, 8, 8]]
    assert one.labels.tolist() == [1]
    assert one.chances.item() == pytest.approx(1 / (1 + math.exp(-2)))


def test_the_cards_recipe_finds_the_same_boxes(capsys):
    rng = torch.Generator().manual_seed(3)
    places, _ = points((24, 16), (4, 8))
    output = torch.randn(2, len(places), 7, generator=rng)
    output[..., :4] = output[..., :4].abs() * 4
    output[..., 5:] = -9  # one class: the recipe takes the best one of each point
    lines = finding({"strides": [4, 8]}, ["a", "b", "c"], (3, 24, 16))
    exec("\n".join(lines), {"np": np, "output": output.numpy()})
    printed = [eval(line) for line in capsys.readouterr().out.splitlines()]
    for image, one in zip(printed, decode(output, places, (24, 16)), strict=True):
        sure = one.chances >= 0.3
        assert len(image) == int(sure.sum()) > 0
        for (name, chance, box), c, p in zip(image, one.corners, one.chances, strict=False):
            assert name == "a"
            assert chance == pytest.approx(p.item(), abs=1e-6)
            assert box == pytest.approx(c.tolist(), abs=1e-4)


def taught(boxes, ignored=NONE, strides=(4, 8, 16), size=(64, 64)):
    rows = points(size, strides)
    table = torch.tensor([boxes], dtype=torch.float32)
    given = Truth(table[..., 1:], table[..., 0].long(), ignored)
    box, silent = assign(rows, given)
    return rows, box[0], silent[0]


def test_each_level_answers_for_boxes_of_its_range():
    for side, wanted in ((12, {4.0}), (26, {4.0, 8.0}), (80, {16.0})):
        low, high = 64 - side / 2, 64 + side / 2
        (places, steps), box, _ = taught([(0, low, low, high, high)], size=(128, 128))
        mine = box == 0
        assert set(steps[mine].tolist()) == wanted
        away = (places[mine] - 64).abs().amax(1) / steps[mine]
        assert away.max() < 1.5  # centre sampling


def test_the_range_is_that_of_the_farthest_side():
    (places, steps), box, _ = taught([(0, 0, 20, 34, 28)])
    at = {tuple(p): int(b) for p, b, s in zip(places.tolist(), box, steps, strict=True) if s == 4}
    assert at[18.0, 22.0] == -1  # 18 pixels from its left side, more than REACH x 4
    assert REACH * 4 == 16
    assert at[14.0, 22.0] == -1  # 20 pixels from its right side
    (places, steps), box, _ = taught([(0, 4, 20, 34, 28)])
    at = {tuple(p): int(b) for p, b, s in zip(places.tolist(), box, steps, strict=True) if s == 4}
    assert at[18.0, 22.0] == 0  # 14 and 16 pixels


def test_the_smaller_of_two_boxes_wins_a_point():
    _, box, _ = taught([(0, 20, 20, 44, 44), (1, 26, 26, 38, 38)])
    assert (box == 1).any()
    places, _ = points((64, 64), (4, 8, 16))
    (middle,) = ((places == torch.tensor([30.0, 30.0])).all(1)).nonzero()[0]
    assert box[middle] == 1


def test_points_in_a_crowd_teach_nothing():
    crowd = torch.tensor([[[0.0, 0, 32, 64]]])
    (places, _), box, silent = taught([(0, 40, 20, 52, 32)], ignored=crowd)
    assert silent.equal((places[:, 0] <= 32) & (box < 0))


def test_images_without_boxes_have_a_loss_that_can_be_learnt_from():
    rows = points((16, 16), (8,))
    output = torch.zeros(1, 4, 6, requires_grad=True)
    flat, offsets = torch.zeros(0, 5), torch.tensor([0, 0])
    none = padded(flat, offsets, -1.0)
    given = Truth(none[..., 1:], none[..., 0].long(), NONE)
    loss = detection_loss(output, rows, given)
    loss.backward()
    # eight logits of 0 that should be background: .75 x .5^2 x log 2 each
    assert loss.item() == pytest.approx(8 * 0.75 * 0.25 * math.log(2))
    assert output.grad[..., 4:].abs().min() > 0


def test_focal_loss_by_hand():
    got = focal(torch.tensor([0.0, 0.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]))
    p = 1 / (1 + math.exp(-2))
    wanted = [
        0.25 * 0.25 * math.log(2),
        0.75 * 0.25 * math.log(2),
        -0.25 * (1 - p) ** 2 * math.log(p),
    ]
    assert got.tolist() == pytest.approx(wanted)


def test_generalised_overlap_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    b = torch.tensor([[0.0, 0, 2, 2], [2, 0, 3, 1], [1, 1, 3, 3]])
    # alike: 1; a gap as wide as both: 0 - 1 / 3; a quarter shared: 1 / 7 - 2 / 9
    assert giou(a, b).tolist() == pytest.approx([1, -1 / 3, 1 / 7 - 2 / 9])


def test_a_box_is_right_once():
    one = Drawn(np.array([[0.0, 0, 10, 10]]), np.array([1]), np.ones(1))
    twice = Drawn(np.array([[0.0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]]),
                  np.array([1, 1, 0]), np.ones(3))  # fmt: skip
    right, hit = matched(twice, one)
    assert right.tolist() == [True, False, False]
    assert hit.tolist() == [True]
