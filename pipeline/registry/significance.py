"""The paired comparison of champion and challenger, on the same validation images."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.splits import Split
from pipeline.onnx.isolated import IsolatedModel


class Comparison(NamedTuple):
    """Two models on the same images."""

    images: int
    champion_accuracy: float
    challenger_accuracy: float
    only_champion: int  # images that only the champion classifies correctly
    only_challenger: int
    p_value: float  # probability of a difference at least as large, either way, between equally good models

    def is_improvement(self, significance: float) -> bool:
        """Whether the challenger is better, with statistical significance."""
        return self.only_challenger > self.only_champion and self.p_value < significance

    def describe(self) -> str:
        """The comparison in one sentence."""
        return (
            f"validation accuracy {self.challenger_accuracy:.2%} against {self.champion_accuracy:.2%} of the champion "
            f"on {self.images:,} images; only the challenger is correct on {self.only_challenger}, "
            f"only the champion on {self.only_champion}; p = {self.p_value:.3f}"
        )


def is_correct(model: Path, split: Split) -> np.ndarray:
    """Whether the ONNX model predicts the label of each image: bool (n,); `UnusableModel` as from `IsolatedModel`."""
    with IsolatedModel(model.read_bytes(), len(split.class_names), strict=True) as isolated:
        return isolated.predict(split.images).argmax(1) == split.labels


def compare(champion: np.ndarray, challenger: np.ndarray) -> Comparison:
    """McNemar's test with mid-p; arguments as from `is_correct`, in the same order of images."""
    accuracies = float(champion.mean()), float(challenger.mean())
    only_one = int((champion & ~challenger).sum()), int((challenger & ~champion).sum())
    return Comparison(len(champion), *accuracies, *only_one, mcnemar_mid_p(*only_one))


def mcnemar_mid_p(only_one: int, only_other: int) -> float:
    """Two-sided mid-p value, 0 to 1, from the numbers of images that only one and only the other classifies correctly.

    Source: Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91 (2013), who
    recommend mid-p because the exact test is too conservative.
    """
    from scipy.stats import binom

    fewer, differing = min(only_one, only_other), only_one + only_other
    at_the_count = float(binom.pmf(fewer, differing, 0.5))
    if only_one == only_other:  # both tails contain this count
        return 1 - at_the_count / 2
    return 2 * float(binom.cdf(fewer, differing, 0.5)) - at_the_count
