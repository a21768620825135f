"""Classification metrics with 95 % confidence intervals."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 2000  # of the bootstrap
BLOCK = 10_000_000  # resampled cells at a time; bounds the memory
TOP = {3: 4, 5: 51}  # top-k accuracy by k: the number of classes from which on it is measured


class ClassCounts(NamedTuple):
    """Numbers of images by class, integers (..., classes): correctly predicted, of the class, predicted as the class."""

    correct: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1, float64 (..., classes); 0 for a class that has no image and is never predicted."""
        return 2 * self.correct / np.maximum(self.actual + self.predicted, 1)

    @property
    def recall(self) -> np.ndarray:
        """Share of the images of a class that are predicted correctly, float64 (..., classes); 0 without images."""
        return self.correct / np.maximum(self.actual, 1)

    def mean(self, scores: np.ndarray) -> np.ndarray:
        """The mean of scores, (..., classes), over the classes that have images: float64 (...)."""
        return np.average(scores, axis=-1, weights=self.actual > 0)


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, top-k accuracy and macro F1, each with `_low` and `_high` of its interval, and the number of images.

    Balanced accuracy, the mean recall, is added if the classes have unequal numbers of images. It and macro F1 are
    means over the classes that have images.

    Args:
        labels: integers (n,), 0 to classes - 1.
        probabilities: (n, classes); rows sum to 1.
    """
    counts, resampled = count_and_resample(labels, probabilities.argmax(1), probabilities.shape[1])
    ranks, metrics = label_ranks(labels, probabilities), wilson_interval("accuracy", counts.correct.sum(), len(labels))
    for k, fewest in TOP.items():
        if probabilities.shape[1] >= fewest:
            metrics |= wilson_interval(f"top{k}_accuracy", (ranks < k).sum(), len(labels))
    f1, resampled_f1 = counts.mean(counts.f1), resampled.mean(resampled.f1)
    metrics |= bootstrap_interval("macro_f1", float(f1), resampled_f1)
    if np.ptp(counts.actual):
        recall, resampled_recall = counts.mean(counts.recall), resampled.mean(resampled.recall)
        metrics |= bootstrap_interval("balanced_accuracy", float(recall), resampled_recall)
    return metrics | {"images": len(labels)}


def per_class_metrics(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, object]]:
    """One row per class: class_name, precision, recall and F1 with their intervals, and images."""
    counts, resampled = count_and_resample(labels, predicted, len(class_names))
    f1, resampled_f1 = counts.f1, resampled.f1
    return [
        {
            "class_name": name,
            **wilson_interval("precision", correct, as_class),
            **wilson_interval("recall", correct, images),
            **bootstrap_interval("f1", f1[i], resampled_f1[:, i]),
            "images": int(images),
        }
        for i, (name, correct, images, as_class) in enumerate(zip(class_names, *counts, strict=True))
    ]


def label_ranks(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The place of the label among the classes by probability, integers (n,), from 0; of equal ones the first leads."""
    of_label = np.take_along_axis(probabilities, labels[:, None].astype(int), axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > of_label) | ((probabilities == of_label) & earlier)).sum(1)


def wilson_interval(name: str, correct: int, images: int) -> dict[str, float]:
    """The share of correct images with its Wilson score interval, `_low` and `_high`; 0, and 0 to 1, without images."""
    from scipy.stats import binomtest

    if not images:
        return {name: 0.0, f"{name}_low": 0.0, f"{name}_high": 1.0}
    interval = binomtest(int(correct), int(images)).proportion_ci(0.95, method="wilson")
    return {name: float(correct / images), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}


def bootstrap_interval(name: str, value: float, resampled: np.ndarray) -> dict[str, float]:
    """A metric, and the 2.5 % and 97.5 % percentiles of its values on bootstrap resamples as `_low` and `_high`."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}


def count_and_resample(labels: np.ndarray, predicted: np.ndarray, classes: int) -> tuple[ClassCounts, ClassCounts]:
    """Counts, (classes,), and those in seeded bootstrap resamples of the images, (resamples, classes)."""
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    # Empty cells draw no random number, so they are left out; but the last one takes the remaining images.
    cells = np.union1d(np.flatnonzero(matrix), matrix.size - 1)
    counts, random = matrix.ravel()[cells], np.random.default_rng(0)
    size = max(1, BLOCK // len(cells))
    blocks = [
        class_counts(
            random.multinomial(len(labels), counts / len(labels), min(size, RESAMPLES - start)), cells, classes
        )
        for start in range(0, RESAMPLES, size)
    ]
    return class_counts(counts, cells, classes), ClassCounts(*map(np.concatenate, zip(*blocks, strict=True)))


def class_counts(images: np.ndarray, cells: np.ndarray, classes: int) -> ClassCounts:
    """Counts by class, (..., classes), from the numbers of images, (..., cells), in cells of a confusion matrix.

    A cell is the number classes * actual class + predicted class.
    """
    from scipy.sparse import csr_array

    actual, predicted = np.divmod(cells, classes)
    each = np.arange(len(cells))

    def add_up(column: np.ndarray, counted: np.ndarray) -> np.ndarray:
        of_class = csr_array((counted.astype(int), (each, column)), shape=(len(cells), classes))
        return np.ascontiguousarray(images @ of_class)

    everywhere = np.ones(len(cells))
    return ClassCounts(add_up(actual, actual == predicted), add_up(actual, everywhere), add_up(predicted, everywhere))
