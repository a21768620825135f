"""Confident learning: labels that are probably wrong, found with out-of-sample probabilities.

Source: Northcutt, Jiang and Chuang, JAIR 2021 (arXiv 1911.00068): the off-diagonal entries of the
confident joint, ranked by the probability of the label ("self-confidence").
"""

import numpy as np


def class_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability from which a class counts as confident, float64 (classes,): its mean over images with that label.

    It is infinity for a class that no image has as its label. The probabilities, (n, classes) with rows
    that sum to 1, are those of a network that was not trained on these images.
    """
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=len(counts))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def find_suspects(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images whose most probable confident class is not their label: positions, and those classes, int64 (m,) each.

    An image whose label is its most probable class is no suspect, as in cleanlab: the threshold of a rare class can be
    so low that other classes are more probable. The least probable label is first. The arguments are those of
    `class_thresholds`.
    """
    is_confident = probabilities >= class_thresholds(probabilities, labels)  # (n, classes)
    suggested = np.where(is_confident, probabilities, -1).argmax(1)
    chosen = np.flatnonzero(is_confident.any(1) & (suggested != labels) & (probabilities.argmax(1) != labels))
    chosen = chosen[np.argsort(probabilities[chosen, labels[chosen]], kind="stable")]
    return chosen, suggested[chosen]
