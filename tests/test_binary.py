"""The binary space: sizes, mappings in training, and the network that is deployed."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from nasx import registry
from nasx.cost.card import card_of
from nasx.errors import SpaceError
from nasx.shape import TaskShape
from nasx.training import Training
from search_spaces._layers.signs import sign
from search_spaces._layers.xnor import XnorConv2d
from search_spaces.binary import Binary, binary_layers, clamp, refresh

MEMORY = json.loads((Path(__file__).parent / "golden" / "weight_memory.json").read_text())
DIGITS = TaskShape("classify", (1, 8, 8), 10)
POINTS = {
    "resnet20": "resnet20_cifar10",
    "vgg_small": "vgg_small_cifar10",
    "resnet18": "resnet18_imagenet",
}
SMALL = {"width": 0.25, "depth": 2, "times": 1, "share": 0.5}


def point(name: str) -> tuple[Binary, TaskShape]:
    found = next(p for p in Binary.published if p.name == name)
    return Binary.from_json(found.candidate), found.shape


def trained(candidate: Binary, samples: int, seed: int = 0, until: int | None = None) -> Training:
    training = Training(candidate, registry.task("digits"), full=samples, seed=seed)
    for _ in training.run(until or samples):
        pass
    return training


@pytest.mark.parametrize("name", POINTS)
def test_built_networks_take_the_memory_that_arithmetic_says(name):
    candidate, shape = point(name)
    golden = MEMORY[POINTS[name]]
    model = candidate.build(shape)
    binary = sum(layer.weight.numel() for layer in binary_layers(model))
    assert binary == golden["quantised_weights"]
    card = card_of(candidate.decide(copy.deepcopy(model)), shape.input, trained=model)
    assert card.params == card.params_trained == golden["total"]
    assert 8 * card.bytes == golden["mem"]["1"]["bits_total"]
    floats = candidate.control(shape).build(shape)
    assert 8 * card_of(floats, shape.input).bytes == 32 * golden["total"]


def test_bit_operations_of_resnet18():
    candidate, shape = point("resnet18")
    card = card_of(candidate.decide(candidate.build(shape)), shape.input)
    golden = MEMORY["bnn_ops_resnet18"]
    assert (card.bit_ops, card.macs) == (golden["binary_conv_macs"], golden["fp_macs"])
    assert card.bit_ops / 64 + card.macs == golden["total_ops"]


@pytest.mark.parametrize("backbone", ["micro", "resnet20", "vgg_small", "resnet18"])
@pytest.mark.parametrize("weights", ["sign", "scaled", "dorefa"])
def test_decide_gives_the_network_that_was_trained(backbone, weights):
    """To the last bit: signs, convolutions, logits, with mappings that have moved signs."""
    shape = TaskShape("classify", (3, 32, 32), 10)
    candidate = Binary(backbone=backbone, width=0.125, weights=weights, times=1)
    torch.manual_seed(0)
    model = candidate.build(shape)
    candidate.attach(model)
    for layer in binary_layers(model):
        nn.init.normal_(layer.mapping.convs[-1].weight, std=0.1)
        assert not torch.equal(layer.signs(), layer.mapping.labels)
    x = torch.randn(3, *shape.input)
    model(x)  # statistics of its own
    decided = candidate.decide(copy.deepcopy(model)).eval()
    assert not binary_layers(decided)
    seen: dict[str, list[torch.Tensor]] = {}
    for network in (model.eval(), decided):
        for name, layer in network.named_modules():
            if isinstance(layer, XnorConv2d) or hasattr(layer, "mapping"):
                layer.register_forward_hook(
                    lambda m, i, y, n=name: seen.setdefault(n, []).append(y)
                )
    with torch.no_grad():
        assert torch.equal(model(x), decided(x))
    assert seen
    assert all(torch.equal(*pair) for pair in seen.values())
    packed = [m.weight_codes() for m in decided.modules() if isinstance(m, XnorConv2d)]
    for layer, codes in zip(binary_layers(model), packed, strict=True):
        assert torch.equal(codes.float() * 2 - 1, layer.signs())


@pytest.mark.parametrize("supervision", ["mapping", "noisy"])
def test_attaching_changes_no_logit_and_is_written_down(supervision):
    """The step that first meets the mappings sees the network that the last one left."""
    candidate = Binary(**SMALL, supervision=supervision)
    training = trained(candidate, 640, until=320)
    assert training.recipe.phases[1].name == "tune"
    before = copy.deepcopy(training.model)
    training.recipe.phases[1].begin(training.state)
    x = torch.randn(4, 1, 8, 8)
    for mode in (True, False):
        assert torch.equal(training.model.train(mode)(x), before.train(mode)(x))
    for layer in binary_layers(training.model):
        assert torch.equal(layer.mapping.labels, sign(layer.weight))
    assert training.state.decisions == {"mapped": True}
    rebuilt = candidate.rebuild(DIGITS, training.state.decisions)
    assert rebuilt.state_dict().keys() == training.model.state_dict().keys()


def test_every_supervision_deploys_at_the_same_cost_and_for_the_same_budget():
    cards = []
    for supervision in ("none", "mapping", "noisy"):
        training = trained(Binary(**SMALL, supervision=supervision), 128)
        assert training.samples == 128
        assert ("mapped" in training.state.decisions) == (supervision != "none")
        cards.append(card_of(training.deployed(), (1, 8, 8)))
    assert cards[0] == cards[1] == cards[2]


def test_noisy_supervision_keeps_signs_that_a_mapping_alone_turns():
    for seed in range(3):
        mapping, noisy = (
            trained(Binary(**SMALL, supervision=name), 960, seed).state.notes["flips"]
            for name in ("mapping", "noisy")
        )
        assert mapping > 0.03
        assert noisy <= 0.7 * mapping


def test_the_deployed_network_scores_as_the_trained_one():
    training = trained(Binary(**SMALL, weights="scaled"), 640)
    trained_one = training.recalibrated(copy.deepcopy(training.model))
    batch = next(training.task.batches("valid", training.input, 64))
    with torch.no_grad():
        assert torch.equal(trained_one(batch.inputs), training.deployed()(batch.inputs))


def test_a_training_resumed_with_its_mappings_equals_the_uninterrupted_one(tmp_path):
    candidate = Binary(**SMALL, labels="epoch")
    whole = trained(candidate, 640)
    part = trained(candidate, 640, until=480)
    part.save(tmp_path / "checkpoint")
    again = Training(candidate, part.task, full=640, seed=0)
    again.load(tmp_path / "checkpoint")
    for _ in again.run(640):
        pass
    mine, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_mappings_have_a_rate_of_their_own_and_latents_do_not_decay():
    training = trained(Binary(**SMALL, mapping_rate=0.25), 128, until=96)
    groups = training.steps[0].optimizer.param_groups
    layers = binary_layers(training.model)
    assert groups[2]["initial_lr"] == 0.25 * groups[0]["initial_lr"]
    assert {id(p) for p in groups[2]["params"]} == {
        id(p) for layer in layers for p in layer.mapping.parameters()
    }
    held = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(held) == len(list(training.model.parameters()))
    assert all(held[id(layer.weight)] == 0 for layer in layers)
    assert held[id(training.model.classifier[-1].weight)] > 0


def test_labels_are_frozen_or_taken_afresh_every_epoch():
    training = trained(Binary(**SMALL, labels="epoch"), 256, until=192)
    assert training.recipe.phases[1].steps[0].after is refresh
    assert Binary(**SMALL).recipe(DIGITS).phases[1].steps[0].after is clamp
    state, layer = training.state, binary_layers(training.model)[0]
    begun, size = layer.mapping.labels.clone(), training.task.size("train")
    layer.weight.data.neg_()
    layer.mapping.seen.fill_(size - 2 * len(state.batch.inputs))
    refresh(state)
    assert torch.equal(layer.mapping.labels, begun)
    refresh(state)  # with this batch, a pass over the data is complete
    assert torch.equal(layer.mapping.labels, sign(layer.weight))
    assert not torch.equal(layer.mapping.labels, begun)
    assert layer.mapping.seen == 0


def test_bits_that_are_no_choice_are_refused_in_one_sentence():
    with pytest.raises(SpaceError, match=r"^Binary.stages = \(2, 1, 1, 1\) .*[^\n]$"):
        Binary(stages=(2, 1, 1, 1))


def test_fields_that_do_not_matter_give_the_same_key():
    key = Binary().key(DIGITS)
    assert Binary(stages=(1, 1, 32, 32)).key(DIGITS) == key  # micro has two stages
    assert Binary(stages=(1, 32, 1, 1)).key(DIGITS) != key
    floats = Binary(stages=(32,) * 4)
    for change in ({"supervision": "none"}, {"weights": "scaled"}, {"act": "clip"}, {"rho": 0.0}):
        same = Binary.from_json({**floats.values(), **change})
        assert same.key(DIGITS) == floats.key(DIGITS)
    none = Binary(supervision="none")
    assert Binary(supervision="none", depth=1, rho=0.0).key(DIGITS) == none.key(DIGITS)
    assert none.key(DIGITS) != key
    assert Binary(supervision="mapping", alpha=1e-3).key(DIGITS) == Binary(
        supervision="mapping"
    ).key(DIGITS)
    assert Binary(width=1.0001).key(DIGITS) == key  # the same channels


def test_a_float_network_has_no_mapping_and_no_sign():
    training = trained(Binary(width=0.25, stages=(32,) * 4), 64)
    assert training.state.decisions == {}
    assert not [m for m in training.deployed().modules() if isinstance(m, XnorConv2d)]
    assert Binary().diagnose(training.deployed(), training.task) == {}


def test_the_share_of_ones_is_diagnosed():
    model = Binary(width=0.25).build(DIGITS)
    for layer in binary_layers(model):
        nn.init.constant_(layer.weight, 0.0)  # sign(0) = +1
    decided = Binary().decide(model)
    assert Binary().diagnose(decided, registry.task("digits")) == {"plus_share": 1.0}
