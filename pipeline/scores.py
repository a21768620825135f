"""How good predictions are, in figures with 95 % intervals."""

from typing import Any

import numpy as np

RESAMPLES = 2000  # of the bootstrap
TOP = 3  # classes named


def measure(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Accuracy, top-3 accuracy and macro F1, each with `_low` and `_high` of its 95 % interval, and the number of images.

    Args:
        labels: whole numbers (n,), 0 to classes - 1.
        scores: probabilities (n, classes), rows sum to 1.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, scores.argmax(1), labels=range(scores.shape[1]))
    leading = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    return {
        **wilson("accuracy", np.trace(counts), len(labels)),
        **wilson(f"top{TOP}_accuracy", (leading == labels[:, None]).any(1).sum(), len(labels)),
        **bounded("macro_f1", f1(counts).mean(-1), f1(resampled(counts)).mean(-1)),
        "images": len(labels),
    }


def measure_classes(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, Any]]:
    """One row per class: class_name, precision, recall and f1 with their 95 % intervals, images.

    Args:
        labels, predicted: whole numbers (n,), 0 to classes - 1.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    scores, spread = f1(counts), f1(resampled(counts))
    return [
        {
            "class_name": name,
            **wilson("precision", counts[place, place], counts[:, place].sum()),
            **wilson("recall", counts[place, place], counts[place].sum()),
            **bounded("f1", scores[place], spread[:, place]),
            "images": int(counts[place].sum()),
        }
        for place, name in enumerate(class_names)
    ]


def wilson(name: str, right: int, images: int) -> dict[str, float]:
    """A share with the Wilson interval; 0, with an interval of 0 to 1, of no images."""
    from scipy.stats import binomtest

    if not images:
        return {name: 0.0, f"{name}_low": 0.0, f"{name}_high": 1.0}
    interval = binomtest(int(right), int(images)).proportion_ci(0.95, method="wilson")
    return {name: float(right / images), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def bounded(name: str, value: float, resamples: np.ndarray) -> dict[str, float]:
    """A figure with the middle 95 % of what resamples give."""
    low, high = np.percentile(resamples, [2.5, 97.5])
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, float64 (..., classes), 0 where a class is neither there nor named.

    Args:
        counts: images by actual and predicted class, (..., classes, classes).
    """
    named_and_there = counts.sum(-1) + counts.sum(-2)
    return 2 * np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(named_and_there, 1)


def resampled(counts: np.ndarray) -> np.ndarray:
    """The table of counts for bootstrap resamples of its images, seeded: (resamples, classes, classes)."""
    images = counts.sum()
    drawn = np.random.default_rng(0).multinomial(images, (counts / images).ravel(), RESAMPLES)
    return drawn.reshape(RESAMPLES, *counts.shape)
