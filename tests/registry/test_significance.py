import numpy as np
import pytest

from pipeline.registry.significance import compare, mcnemar_mid_p


@pytest.mark.parametrize(
    ("only_one", "only_other", "expected"),
    [
        (1, 7, 2 * (1 + 8) / 256 - 8 / 256),  # by hand: 2 P(X <= 1) - P(X = 1) for 8 fair coins
        (7, 1, 2 * (1 + 8) / 256 - 8 / 256),
        (0, 3, 2 / 8 - 1 / 8),
        (1, 1, 1 - 0.5 / 2),
        (0, 0, 0.5),
    ],
)
def test_mid_p_equals_the_calculation_for_fair_coins(only_one, only_other, expected):
    assert mcnemar_mid_p(only_one, only_other) == pytest.approx(expected, abs=1e-12)


def test_the_figures_are_those_of_a_paired_comparison():
    champion = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    challenger = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    result = compare(champion, challenger)
    assert (result.images, result.only_champion, result.only_challenger) == (8, 1, 2)
    assert (result.champion_accuracy, result.challenger_accuracy) == (0.375, 0.5)


def test_an_improvement_is_positive_and_statistically_significant():
    incorrect, correct = np.zeros(8, bool), np.ones(8, bool)
    assert compare(incorrect, correct).is_improvement(0.05)
    assert not compare(correct, incorrect).is_improvement(0.05)  # the same p-value, but worse
    assert not compare(incorrect[:3], correct[:3]).is_improvement(0.05)  # p = 0.125
    assert not compare(correct, correct).is_improvement(0.6)  # p = 0.5, no difference
