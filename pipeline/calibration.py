"""Whether a probability means what it says: temperature scaling and the calibration error.

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, arXiv 1706.04599.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.splits import Split

if TYPE_CHECKING:
    import keras

BINS = 15  # of confidence, equally wide, as in the paper
BATCH_SIZE = 250  # images
BOUNDS = 0.25, 4.0  # of a temperature: without a mistake on validation the best would be 0, which is no probability


def calibrate(model: "keras.Model", validation: Split) -> float:
    """Divide the logits of the network's last layer by the temperature that fits the validation split; the temperature.

    The most probable class of an image stays the same. The weights themselves are divided, so the
    network has no further layer, and what is exported from it carries the temperature.

    Args:
        model: its last layer is Dense with softmax.
    """
    last = model.layers[-1]
    temperature = fit_temperature(logits(model, validation.images), validation.labels)
    last.set_weights([weights / np.float32(temperature) for weights in last.get_weights()])
    return temperature


def logits(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """What the last layer's softmax receives, float64 (n, classes).

    Args:
        images: uint8 (n, 32, 32, 3), RGB.
    """
    import keras

    last = model.layers[-1]
    features = keras.Model(model.inputs, last.input).predict(images, batch_size=BATCH_SIZE, verbose=0)
    kernel, *bias = (weights.astype(np.float64) for weights in last.get_weights())
    return features.astype(np.float64) @ kernel + sum(bias)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of the least cross-entropy, between 1/4 and 4.

    Args:
        scores: logits, float64 (n, classes).
        labels: whole numbers (n,), 0 to classes - 1.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))

    def cross_entropy(logarithm: float) -> float:
        return -log_softmax(scores / np.exp(logarithm), axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(BOUNDS), method="bounded").x))


def uncalibrated(scores: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities that a calibrated network would have given without its temperature, float64 (n, classes).

    Args:
        scores: probabilities, float32 (n, classes), rows sum to 1.
    """
    from scipy.special import softmax

    smallest = np.finfo(np.float32).tiny  # where float32 ends at 0
    return softmax(temperature * np.log(np.maximum(scores.astype(np.float64), smallest)), axis=1)


def reliability(scores: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """One row for each bin of confidence that holds images: confidence and accuracy (means over its images), images.

    Args:
        scores: probabilities (n, classes), rows sum to 1.
        labels: whole numbers (n,), 0 to classes - 1.
    """
    confidence, right = scores.max(1), scores.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == place].mean()),
            "accuracy": float(right[bins == place].mean()),
            "images": int((bins == place).sum()),
        }
        for place in np.unique(bins)
    ]


def calibration_error(rows: list[dict[str, Any]]) -> float:
    """Expected calibration error, 0 to 1: how far confidence is from accuracy, the mean over the images of `reliability`."""
    images = sum(row["images"] for row in rows)
    return sum(row["images"] * abs(row["confidence"] - row["accuracy"]) for row in rows) / images
