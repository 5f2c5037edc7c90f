"""The relaxed choice against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from nasx.relax import Schedule, decide, entropy, expected_cost, relax, weights


def logits_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_softmax_weights_sum_to_one_and_mix_values() -> None:
    logits, values = logits_of(3, 5, 4), torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0]).double()
    p = weights(logits, temperature=0.5)
    torch.testing.assert_close(p.sum(-1), torch.ones(3, 5).double())
    torch.testing.assert_close(relax(logits, values, temperature=0.5), (p * values).sum(-1))


def test_two_choices_of_plus_and_minus_one_are_a_tanh() -> None:
    logits, t = logits_of(100, 2), 3.0  # t = 1 / temperature
    w = relax(logits, torch.tensor([-1.0, 1.0]).double(), temperature=1 / t)
    torch.testing.assert_close(w, torch.tanh(t * (logits[:, 1] - logits[:, 0]) / 2))


def test_softmax_gradient_is_weight_times_distance_from_the_mean() -> None:
    logits, values = logits_of(6, 4).requires_grad_(), torch.linspace(-1, 1, 4).double()
    w = relax(logits, values, temperature=0.25)
    w.sum().backward()
    p = torch.softmax(logits.detach() * 4, -1)
    torch.testing.assert_close(logits.grad, 4 * p * (values - w.detach()[:, None]))


@pytest.mark.parametrize("rank", ["signed", "abs"])
def test_straight_through_is_hard_forward_and_soft_backward(rank: str) -> None:
    logits, values = logits_of(50, 4).requires_grad_(), torch.tensor([0.1, 0.7, -0.3, 2.0]).double()
    hard = relax(logits, values, "straight_through", noise=0, temperature=0.7, rank=rank)
    assert torch.equal(hard, values[decide(logits, rank)])
    scale = torch.arange(50).double()
    (hard_gradient,) = torch.autograd.grad((hard * scale).sum(), logits)
    soft = relax(logits, values, temperature=0.7, rank=rank)
    (soft_gradient,) = torch.autograd.grad((soft * scale).sum(), logits)
    assert torch.equal(hard_gradient, soft_gradient)


def test_straight_through_with_noise_has_the_gradient_of_gumbel() -> None:
    logits, values = logits_of(50, 4).requires_grad_(), torch.linspace(0, 1, 4).double()
    found = []
    for how in ("straight_through", "gumbel"):
        mixed = relax(logits, values, how, generator=generator(3))
        found.append(torch.autograd.grad(mixed.sum(), logits)[0])
    assert torch.equal(*found)


def test_gumbel_winners_follow_the_softmax() -> None:
    n, logits = 40_000, torch.tensor([0.0, 1.0, -1.0, 2.0])
    p = weights(logits.expand(n, 4), "straight_through", generator=generator(1))
    assert torch.equal(p.sum(-1), torch.ones(n))
    found, wanted = p.mean(0), torch.softmax(logits, 0)
    bound = 4.5 * (wanted * (1 - wanted) / n).sqrt()
    assert ((found - wanted).abs() < bound).all()


def test_gumbel_noise_repeats_with_its_seed_and_scales() -> None:
    logits = logits_of(8, 3)
    one, two = (weights(logits, "gumbel", generator=generator(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, weights(logits, "gumbel", generator=generator(6)))
    quiet = weights(logits, "gumbel", noise=1e-9, generator=generator(5))
    torch.testing.assert_close(quiet, weights(logits))
    assert torch.equal(weights(logits, "gumbel", noise=0), weights(logits))


def test_temperature_limits_are_the_winner_and_the_uniform() -> None:
    logits = logits_of(20, 5)
    cold = weights(logits, temperature=1e-6)
    assert torch.equal(cold, torch.nn.functional.one_hot(decide(logits), 5).double())
    torch.testing.assert_close(weights(logits, temperature=1e9), torch.full((20, 5), 0.2).double())


def test_rank_abs_lets_a_large_negative_logit_win() -> None:
    logits = torch.tensor([[0.5, -3.0, 1.0]])
    assert decide(logits).tolist() == [2]
    assert decide(logits, "abs").tolist() == [1]
    assert weights(logits, rank="abs").argmax().item() == 1


def test_equal_logits_go_to_the_first_choice() -> None:
    assert decide(torch.zeros(3, 4)).tolist() == [0, 0, 0]
    hard = weights(torch.zeros(1, 4), "straight_through", noise=0)
    assert hard.tolist() == [[1, 0, 0, 0]]


def test_entropy_of_the_uniform_is_log_k_and_of_a_winner_zero() -> None:
    assert entropy(torch.full((8,), 1 / 8).double()).item() == pytest.approx(math.log(8))
    winner = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    found = entropy(winner)
    assert found.item() == 0
    found.backward()
    assert torch.isfinite(winner.grad).all()


def test_expected_cost_is_the_mean_cost() -> None:
    p = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    assert expected_cost(p, [4, 8]).tolist() == [7.0, 4.0]
    assert expected_cost(p, torch.tensor([[4.0, 8.0], [1.0, 2.0]])).tolist() == [7.0, 1.0]


def test_schedules_clamp_and_meet_their_ends() -> None:
    linear = Schedule(1.0, 3.0, first=0.2, last=0.6)
    assert [linear(x) for x in (0.0, 0.2, 0.6, 1.0)] == [1.0, 1.0, 3.0, 3.0]
    assert linear(0.4) == pytest.approx(2.0)
    ratio = Schedule(1.0, 100.0, kind="exponential")
    assert ratio(0.5) == pytest.approx(10.0)
    assert (ratio(-1), ratio(1)) == (1.0, 100.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: weights(torch.zeros(2), "gumbel"), "needs a generator"),
        (lambda: weights(torch.zeros(2), temperature=0), "must be > 0"),
        (lambda: weights(torch.zeros(2), "hard"), "not one of softmax"),
        (lambda: decide(torch.zeros(2), "size"), "not one of signed"),
        (lambda: Schedule(1, 2, first=0.5, last=0.5), "must be < last"),
        (lambda: Schedule(0, 2, kind="exponential"), "both must be > 0"),
    ],
)
def test_wrong_arguments_are_named(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
