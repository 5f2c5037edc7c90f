"""Vision transformers learn in few samples: how they start, are pooled and are trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nasx.recipe import Recipe, State
from nasx.registry import task
from nasx.shape import TaskShape
from nasx.training import Training
from search_spaces._layers.attention import ConvMixing, Heads
from search_spaces._layers.transformer_block import Mlp
from search_spaces._transformer import GAIN, Transformer
from search_spaces._transformer_training import WARM, grouped
from search_spaces.tinynet import TinyNet
from search_spaces.vision_transformer import VisionTransformer

SHAPE = TaskShape("classify", (3, 16, 16), 10)


def built(seed: int = 0, **fields: object) -> Transformer:
    small = {"depth": [2, 1, 1, 1], "dim": [32, 48, 64, 64], **fields}
    torch.manual_seed(seed)
    model = VisionTransformer.from_json(small).build(SHAPE)
    assert isinstance(model, Transformer)
    return model


def ends(model: nn.Module) -> list[torch.Tensor]:
    """Return the last weights of all branches beside the tokens."""
    found = [layer.out.weight for layer in model.modules() if isinstance(layer, Heads | ConvMixing)]
    return found + [layer.narrow.weight for layer in model.modules() if isinstance(layer, Mlp)]


@pytest.mark.parametrize("kind", ["global", "window", "twins", "reduced", "induced", "conv"])
def test_branches_start_at_a_share_of_their_gain_or_at_their_scale(kind: str) -> None:
    plain = built(attention=[kind] * 4)
    scaled = built(attention=[kind] * 4, layer_scale=0.1)  # the same numbers, drawn alike
    pairs = list(zip(ends(plain), ends(scaled), strict=True))
    assert len(pairs) >= 6  # three blocks of two branches
    for ours, whole in pairs:
        torch.testing.assert_close(ours, GAIN * whole)
    torch.testing.assert_close(plain.head.weight, scaled.head.weight)  # no branch: whole


def test_class_attention_keeps_its_gain() -> None:
    """It starts from a token that holds nothing yet: what it hears is all there is."""
    plain = built(pool="class_attention")
    scaled = built(pool="class_attention", layer_scale=0.1)
    assert plain.pool is not None
    assert scaled.pool is not None
    for ours, whole in zip(ends(plain.pool), ends(scaled.pool), strict=True):
        torch.testing.assert_close(ours, whole)


def test_the_pool_adds_mean_and_maximum() -> None:
    both, mean = built(), built(pool="mean")
    mean.load_state_dict(both.state_dict())
    seen: list[torch.Tensor] = []
    both.stages[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        first, middle = both.features(x)[0], mean.features(x)[0]
    torch.testing.assert_close(first - middle, both.norm(seen[0]).amax(1))


def of_one_step(recipe: Recipe) -> tuple[object, ...]:
    """Return what there is to a recipe of one phase of one step: batch, optimiser, schedule."""
    (phase,) = recipe.phases
    assert isinstance(phase.steps, tuple)
    (step,) = phase.steps
    optimizer = step.optimizer([nn.Parameter(torch.zeros(2, 2))])
    settings = [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    factors = [step.factor(i / 50) for i in range(51)]
    return recipe.batch, recipe.augment, settings, factors, step.clip


def test_the_convolutional_network_beside_is_trained_as_tinynet() -> None:
    own = VisionTransformer.from_json({"layout": "cnn"}).recipe(SHAPE)
    assert of_one_step(own) == of_one_step(TinyNet().recipe(SHAPE))


def test_the_rate_rises_for_a_third_and_falls() -> None:
    recipe = VisionTransformer().recipe(SHAPE)
    _, _, _, factors, clip = of_one_step(recipe)
    assert isinstance(factors, list)
    assert factors.index(max(factors)) == round(50 * WARM)
    assert max(factors) == 1
    assert clip == 1


def test_matrices_decay_and_nothing_else() -> None:
    model = built(position="learned", pool="class_attention", layer_scale=0.1)
    digits = task("digits")
    batch = next(iter(digits.batches("train", (1, 8, 8), 2, torch.Generator())))
    state = State(model, digits, (3, 16, 16), batch, torch.Generator())
    decayed, spared = (set(map(id, group["params"])) for group in grouped(state))
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert decayed == matrices
    assert spared == set(map(id, model.parameters())) - matrices


def test_a_transformer_of_patches_learns_digits() -> None:
    """2,560 samples of 8 x 8 digits, chance being 10 %; 95 to 96 % by seed when written."""
    fields = {"depth": [1, 1, 2, 2], "dim": [32, 48, 64, 64], "patch": 2, "stem": "patch"}
    training = Training(VisionTransformer.from_json(fields), task("digits"), full=2560, seed=0)
    for _ in training.run(2560):
        pass
    assert training.score("valid")["top1"] > 80
