"""Classification metrics with 95 % confidence intervals."""

import numpy as np

RESAMPLES = 2000  # of the bootstrap
TOP = 3  # top-3 accuracy


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, top-3 accuracy and macro F1, each with `_low` and `_high` of its interval, and the number of images.

    Labels are integers (n,), 0 to classes - 1; probabilities are (n, classes), and rows sum to 1.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, probabilities.argmax(1), labels=range(probabilities.shape[1]))
    top_classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    return {
        **wilson_interval("accuracy", np.trace(counts), len(labels)),
        **wilson_interval(f"top{TOP}_accuracy", (top_classes == labels[:, None]).any(1).sum(), len(labels)),
        **bootstrap_interval("macro_f1", f1_scores(counts).mean(-1), f1_scores(resample(counts)).mean(-1)),
        "images": len(labels),
    }


def per_class_metrics(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, object]]:
    """One row per class: class_name, precision, recall and F1 with their intervals, and images."""
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    f1, resampled_f1 = f1_scores(counts), f1_scores(resample(counts))
    return [
        {
            "class_name": name,
            **wilson_interval("precision", counts[i, i], counts[:, i].sum()),
            **wilson_interval("recall", counts[i, i], counts[i].sum()),
            **bootstrap_interval("f1", f1[i], resampled_f1[:, i]),
            "images": int(counts[i].sum()),
        }
        for i, name in enumerate(class_names)
    ]


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


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """F1 of each class, float64 (..., classes), from confusion matrices (..., actual class, predicted class).

    It is 0 for a class that has no image and is never predicted.
    """
    actual_and_predicted = counts.sum(-1) + counts.sum(-2)
    return 2 * np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(actual_and_predicted, 1)


def resample(counts: np.ndarray) -> np.ndarray:
    """Confusion matrices of seeded bootstrap resamples of the images: integers (resamples, classes, classes)."""
    images = counts.sum()
    resampled = np.random.default_rng(0).multinomial(images, (counts / images).ravel(), RESAMPLES)
    return resampled.reshape(RESAMPLES, *counts.shape)
