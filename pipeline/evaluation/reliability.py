"""Calibration of probabilities: reliability bins and the expected calibration error.

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, arXiv 1706.04599.
"""

import numpy as np

BINS = 15  # of confidence, equally wide, as in the paper
Bin = dict[str, float]  # mean confidence and accuracy of the images in one bin, and their number: images


def without_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities, float64 (n, classes), that a calibrated network would give without its temperature."""
    from scipy.special import softmax

    smallest = np.finfo(np.float32).tiny  # below it float32 is 0
    return softmax(temperature * np.log(np.maximum(probabilities.astype(np.float64), smallest)), axis=1)


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[Bin]:
    """One row per bin of confidence that contains images, from probabilities (n, classes) and labels (n,)."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(correct[bins == number].mean()),
            "images": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error, 0 to 1: the mean over images of |confidence - accuracy| of their bin."""
    images = sum(row["images"] for row in bins)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in bins) / images
