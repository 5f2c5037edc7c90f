"""The intervals of rules hold what was planted as often as they say, over simulated searches."""

import numpy as np
import pytest

from planted import LAWS, SEARCHES, outcome, simulate


def test_200_simulated_searches_hold_the_planted_rule_in_90_to_98_percent():
    """One kind after another, 200 in all; benchmarks/rule_coverage.py takes 200 of each kind."""
    kinds = [(law, search, n) for law in LAWS for search in SEARCHES for n in (40, 90)]
    inside, widths, answered = [], [], []
    for seed in range(200):
        law, search, n = kinds[seed % len(kinds)]
        found = outcome(simulate(law, search, n, 10_000 + seed), law, times=100)
        inside += found.inside[found.answered].ravel().tolist()
        widths += found.width.ravel().tolist()
        answered += found.answered.tolist()
    assert len(inside) > 1500
    assert 0.90 <= np.mean(inside) <= 0.98
    assert np.median(widths) < 0.2  # of an axis' range: an interval that says nothing holds all
    assert np.mean(answered) > 0.7


@pytest.mark.parametrize("search", SEARCHES)
def test_an_axis_of_which_the_scores_say_nothing_gets_an_interval_that_says_so(search):
    trials = simulate("power", search, 90, 5)
    blind = np.random.default_rng(0).uniform(*np.array([0.35, 1.6]), len(trials.x))
    axes = np.stack([trials.axes[:, 0], blind], axis=1)
    found = outcome(type(trials)(trials.x, axes, trials.scores, 0.0, trials.samples), "power")
    assert np.median(found.width[:, 1]) > 0.5
    assert not found.answered.all()


def test_a_training_that_went_wrong_moves_no_rule():
    trials = simulate("power", "random", 90, 7)
    best = int(np.argmax(trials.scores))
    scores = trials.scores.copy()
    for i in (best, best - 1):
        scores[i] = 11.0
    spoilt = outcome(type(trials)(trials.x, trials.axes, scores, 0.0, trials.samples), "power")
    assert spoilt.inside.mean() > 0.85
    assert np.median(spoilt.width) < 0.2
