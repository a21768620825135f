import numpy as np
import pytest

from pipeline.duel import duel, mcnemar_mid_p


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
def test_mid_p_is_that_of_fair_coins(only_one, only_other, expected):
    assert mcnemar_mid_p(only_one, only_other) == pytest.approx(expected, abs=1e-12)


def test_the_figures_are_those_of_the_same_images():
    champion = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    challenger = np.array([1, 1, 0, 1, 1, 0, 0, 0], bool)
    result = duel(champion, challenger)
    assert (result.images, result.only_champion, result.only_challenger) == (8, 1, 2)
    assert (result.champion_accuracy, result.challenger_accuracy) == (0.375, 0.5)


def test_a_challenger_wins_only_beyond_chance():
    wrong, right = np.zeros(8, bool), np.ones(8, bool)
    assert duel(wrong, right).won(0.05)
    assert not duel(right, wrong).won(0.05)  # as sure, the other way round
    assert not duel(wrong[:3], right[:3]).won(0.05)  # p = 0.125
    assert not duel(right, right).won(0.6)  # p = 0.5, no difference
