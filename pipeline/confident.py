"""Confident learning: which labels are likely to be wrong, told from out-of-sample probabilities.

Source: Northcutt, Jiang, Chuang, JAIR 2021 (arXiv 1911.00068). These are its off-diagonals of the
confident joint, ranked by the probability of the label (the paper's self-confidence).
"""

from typing import NamedTuple

import numpy as np


class Suspects(NamedTuple):
    """Images whose label is likely to be wrong, the one with the least probable label first.

    position: int64 (m,), of the image among those that were judged.
    suggested: int64 (m,), the class that it confidently looks like, never its label.
    """

    position: np.ndarray
    suggested: np.ndarray


def class_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How probable a class must be to count as confident: its mean probability among images labelled so.

    A class that no image is labelled as gets infinity.

    Args:
        probabilities: float32 (n, classes), rows sum to 1, by a network that has not learnt from the image.
        labels: uint8 (n,), 0 to classes - 1.

    Returns:
        float64 (classes,).
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> Suspects:
    """The images whose most probable confident class is not their label.

    Args:
        probabilities, labels: as `class_thresholds` takes them.
    """
    confident = probabilities >= class_thresholds(probabilities, labels)  # (n, classes)
    looks_like = np.where(confident, probabilities, -1).argmax(1)
    chosen = np.flatnonzero(confident.any(1) & (looks_like != labels))
    order = np.argsort(probabilities[chosen, labels[chosen]], kind="stable")
    return Suspects(chosen[order], looks_like[chosen][order])
