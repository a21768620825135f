"""Champion against challenger: a paired test on the same validation images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.onnx_model import open_session, probabilities
from pipeline.splits import Split

BATCH_SIZE = 250  # images


class Duel(NamedTuple):
    """How two models fare on the same images."""

    images: int
    champion_accuracy: float
    challenger_accuracy: float
    only_champion: int  # images that only the champion got right
    only_challenger: int
    p_value: float  # of a difference at least as large, either way, between equally good models

    def won(self, significance: float) -> bool:
        """Whether the challenger is better beyond chance."""
        return self.only_challenger > self.only_champion and self.p_value < significance


def right(model: Path, split: Split) -> np.ndarray:
    """For each image of the split whether the ONNX model names its class, bool (n,)."""
    return probabilities(open_session(model), split.images, BATCH_SIZE).argmax(1) == split.labels


def duel(champion_right: np.ndarray, challenger_right: np.ndarray) -> Duel:
    """McNemar's test with mid-p, on the images that only one of the two got right.

    Args:
        champion_right, challenger_right: bool (n,), of the same images in the same order.
    """
    only_champion = int((champion_right & ~challenger_right).sum())
    only_challenger = int((challenger_right & ~champion_right).sum())
    return Duel(
        len(champion_right),
        float(champion_right.mean()),
        float(challenger_right.mean()),
        only_champion,
        only_challenger,
        mcnemar_mid_p(only_champion, only_challenger),
    )


def mcnemar_mid_p(only_one: int, only_other: int) -> float:
    """Two-sided mid-p value, 0 to 1, from the counts of images that only one and only the other got right.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013), who
    recommend mid-p, since the exact test is too cautious.
    """
    from scipy.stats import binom

    fewer, differing = min(only_one, only_other), only_one + only_other
    at_the_count = float(binom.pmf(fewer, differing, 0.5))
    if only_one == only_other:  # the two tails share this count
        return 1 - at_the_count / 2
    return 2 * float(binom.cdf(fewer, differing, 0.5)) - at_the_count
