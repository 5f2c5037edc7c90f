"""Whatever the fields of the space of transformers say is a network; equal ones have one key."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from nasx.cost.ops import count
from nasx.domain import Choice, Integer, Real, Value
from nasx.shape import TaskShape
from search_spaces.vision_transformer import VisionTransformer

SIDES = (8, 9, 15, 16)  # squares and windows divide some of them
DOMAINS = VisionTransformer.domains()
BARE = {"layout": "flat", "depth": [1] * 4, "position": "none"}
FIELDS = [name for name in DOMAINS if name not in VisionTransformer.training]


def value(numbers: random.Random, name: str) -> Value:
    """Draw a field: depths and widths from their lower ends, all else from its whole domain."""
    domain = DOMAINS[name]
    if name.startswith("depth"):
        return numbers.randint(1, 2)
    if name.startswith("dim"):
        return numbers.choice((16, 32, 48))
    if isinstance(domain, Choice):
        return numbers.choice(domain.values)
    if isinstance(domain, Integer):
        return numbers.randrange(domain.lo, domain.hi + 1, domain.step)
    assert isinstance(domain, Real)
    return numbers.uniform(domain.lo, domain.hi)


def shape_of(side: int) -> TaskShape:
    return TaskShape("classify", (3, side, side), 7)


@pytest.mark.parametrize("seed", range(8))
def test_no_dead_ends(seed: int) -> None:
    """1,000 candidates in all are built, pruned, run and counted, at awkward sides too."""
    numbers = random.Random(seed)
    answered: list[Tensor] = []
    for i in range(125):
        shape = shape_of(SIDES[i % 4])
        one = VisionTransformer.from_flat({name: value(numbers, name) for name in DOMAINS})
        model = one.build(shape)
        trained = sum(p.numel() for p in model.parameters())
        deployed = one.decide(model).eval()
        if one.layout == "cnn":  # counted without being run
            answered.append(deployed(torch.zeros(1, *shape.input)))
        else:
            deployed.register_forward_hook(lambda _, __, out: answered.append(out))
        found = count(deployed, torch.zeros(1, *shape.input))
        assert found.macs > 0
        assert not found.unpriced
        assert len(answered) == i + 1
        assert answered[-1].shape == (1, 7)
        assert answered[-1].isfinite().all()
        assert sum(p.numel() for p in deployed.parameters()) <= trained


Signature = tuple[dict[str, torch.Size], Tensor, Tensor, str]


def signature(one: VisionTransformer, shape: TaskShape) -> Signature:
    """What a network is: its weights' shapes and, from one seed, what it answers, pruned or not."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = one.build(shape).eval()
    sizes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    x = torch.randn(2, *shape.input, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return sizes, model(x), one.decide(model)(x), one.counted().distill


def alike(first: Signature, second: Signature) -> bool:
    answers = zip(first[1:3], second[1:3], strict=True)
    return (
        first[0] == second[0]
        and first[3] == second[3]  # how it is taught is a part of the key
        and all(torch.allclose(a, b, atol=1e-5) for a, b in answers)
    )


@pytest.mark.parametrize("seed", range(3))
def test_keys_are_equal_exactly_for_equal_networks(seed: int) -> None:
    numbers, equal = random.Random(seed), 0
    for i in range(25):
        shape = shape_of((8, 15, 16, 24)[i % 4])
        flat = {name: value(numbers, name) for name in DOMAINS}
        flat["layout"] = numbers.choice(("flat", "pyramid"))
        name = numbers.choice(FIELDS)
        others = [value(numbers, name) for _ in range(8)]
        changed = next((v for v in others if v != flat[name]), flat[name])
        one = VisionTransformer.from_flat(flat)
        other = VisionTransformer.from_flat({**flat, name: changed})
        same = one.key(shape) == other.key(shape)
        said = f"{name}: {flat[name]} or {changed} at {shape.side} of {one.in_effect()}"
        assert same == alike(signature(one, shape), signature(other, shape)), said
        equal += same
    assert 0 < equal < 25


@pytest.mark.parametrize(
    ("first", "second"),
    [  # on a grid of 8 x 8, then 4 x 4
        ({"attention": ["window"] * 4, "window": 8}, {"attention": ["global"] * 4}),
        ({"attention": ["reduced"] * 4, "reduction": [1] * 4}, {"attention": ["global"] * 4}),
        (
            {"attention": ["twins"] * 4, "depth": [1] * 4},
            {"attention": ["window"] * 4, "depth": [1] * 4},
        ),
        ({"heads_kept": 0.75, "dim": [16] * 4}, {"heads_kept": 1.0, "dim": [16] * 4}),
        (
            {"attention": ["conv"] * 4, "head_dim": 32},
            {"attention": ["conv"] * 4, "head_dim": 64},
        ),
        (
            {**BARE, "tokens_kept": [0.5, 0.7, 1.0]},
            {**BARE, "tokens_kept": [0.5, 1.0, 0.7]},
        ),
    ],
)  # fmt: skip
def test_one_network_has_one_key(first: dict[str, object], second: dict[str, object]) -> None:
    one, other = (VisionTransformer.from_json(fields) for fields in (first, second))
    shape = shape_of(32)
    assert alike(signature(one, shape), signature(other, shape))
    assert one.key(shape) == other.key(shape)
    assert one.prunes == other.prunes
