"""What a network costs whose work depends on the input: the most before, the mean after."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from gatednets import Bright, Coloured, images
from nasx.cost.card import CostCard, card_of
from nasx.cost.mean import mean_card
from nasx.errors import NasxError
from nasx.varying import paths_of, varies, ways_of, widest_of

SHAPE = (3, 16, 16)
STEM, HEAD, BLOCK = 8 * 3 * 9 * 256, 80, (8 * 8 * 25 + 8 * 8 * 9) * 256  # MACs of Bright, by hand


def test_before_training_the_card_is_that_of_the_widest_form():
    net = Bright().eval()
    card = card_of(net, SHAPE)
    assert card.macs == card.macs_max == STEM + HEAD + 2 * BLOCK
    assert any("depends on the input" in note for note in card.notes)
    assert net.open is False  # left as it was
    assert card_of(Coloured().eval(), SHAPE).macs_max == 18 * 25 * 256
    plain = nn.Conv2d(3, 3, 1)
    assert widest_of(plain) is plain
    assert card_of(plain, SHAPE).notes == ()


def test_the_mean_counts_one_sample_of_each_path_and_weighs_it_by_its_share():
    net, x = Bright().eval(), images(40)
    opened = net.paths(x).double().mean(0)
    assert 0 < opened[1] < opened[0] < 1
    most = card_of(net, SHAPE)
    card = mean_card(net, x.split(16), most)
    assert card.macs == pytest.approx(STEM + HEAD + BLOCK * float(opened.sum()), abs=0.5)
    assert card.macs_max == most.macs_max
    assert (card.params, card.bytes, card.peak_bytes) == (most.params, most.bytes, most.peak_bytes)
    assert card.energy_uj is not None
    assert 0 < card.energy_uj < most.energy_uj
    layers = {layer.name: layer.macs for layer in card.by_layer}
    assert layers["stem"] == STEM
    assert layers["blocks.1.0"] == pytest.approx(8 * 8 * 25 * 256 * float(opened[1]), abs=0.5)
    assert sum(layers.values()) == pytest.approx(card.macs, abs=len(layers))
    assert CostCard.from_json(card.to_json()) == card


def test_all_open_is_the_most_and_all_shut_is_the_least():
    net = Bright().eval()
    most = card_of(net, SHAPE)
    bright, dark = images(3) * 0 + 5, images(3) * 0 - 5
    assert mean_card(net, [bright], most).macs == most.macs
    shut = mean_card(net, [dark], most)
    assert shut.macs == STEM + HEAD
    assert next(layer for layer in shut.by_layer if layer.name == "blocks.0.0").params == 1608


def test_choosing_one_branch_counts_that_branch():
    net, x = Coloured().eval(), images(12)
    share = nn.functional.one_hot(net.paths(x)[:, 0], 3).double().mean(0)
    by_hand = sum(float(s) * 18 * k * k * 256 for s, k in zip(share, (1, 3, 5), strict=True))
    assert mean_card(net, [x], card_of(net, SHAPE)).macs == pytest.approx(by_hand, abs=0.5)


def test_a_network_too_large_to_follow_without_its_numbers_is_followed_on_them():
    net = Bright(width=64, middle=64, at=(-1.0,)).eval()
    side = (3, 100, 100)
    most = card_of(net, side)  # on shapes: above 1 GMAC
    assert most.macs_max > 10**9
    assert mean_card(net, [torch.full((1, *side), 0.5)], most).macs == most.macs_max
    with pytest.raises(NasxError, match="looks at values"):
        card_of(_Hidden(net), side)


class _Hidden(nn.Module):
    """The same network, which does not say that its work varies."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


class Understated(Bright):
    """Its widest form leaves the second block out."""

    def widest(self):
        return nn.Sequential(self.stem, self.blocks[0])


class Misspelt(Bright):
    def paths(self, inputs):
        return self.gates(inputs)


def test_a_path_dearer_than_the_widest_form_and_paths_of_another_kind_are_refused():
    net, bright = Understated().eval(), [images(2) * 0 + 5]
    with pytest.raises(NasxError, match=r"path \(1, 1\) takes .* make widest\(\) run everything"):
        mean_card(net, bright, card_of(net, SHAPE))
    net = Misspelt().eval()
    with pytest.raises(NasxError, match=r"must answer \(2, k\) int64 .* float32"):
        mean_card(net, bright, card_of(net, SHAPE))


def test_ways_are_those_declared_else_two_or_as_many_as_seen():
    assert ways_of(Bright(), torch.zeros(3, 2, dtype=torch.int64)) == [2, 2]
    assert varies(Bright())
    assert not varies(nn.Linear(1, 1))
    bare = type("Bare", (), {"paths": None, "widest": None})()
    assert ways_of(bare, torch.tensor([[0, 4], [0, 1]])) == [2, 5]
    assert paths_of(Bright(), images(3)).shape == (3, 2)


def test_the_record_and_the_front_carry_the_mean_and_the_most():
    from nasx.rows import Progress, with_progress
    from nasx.trial import RungScore, State, Trial

    most = dataclasses.asdict(CostCard(1, 1, 4, 1000, 1000, elementwise=7))
    scored = RungScore(0, 10, {"top1": 50.0, "macs": 640.0, "flops": 1280.0, "params": 1.0})
    trial = Trial(0, "s", {}, "k", State.RUNNING, card=most)
    trial = with_progress(trial, Progress(rungs=[scored]), State.COMPLETE)
    assert (trial.card["macs"], trial.card["macs_max"], trial.card["params"]) == (640, 1000, 1)
    assert isinstance(trial.card["macs"], int)
