"""Temperature scaling: calibrated probabilities without a further layer.

Source: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, arXiv 1706.04599.
"""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.splits import Split
from pipeline.models.inference import predict

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 120  # images of side 32
BOUNDS = 0.25, 4.0  # of a temperature: if every validation image is classified correctly, the best would be 0


def calibrate(model: "keras.Model", validation: Split) -> float:
    """Divide the weights of the last layer, Dense with softmax, by the best temperature on validation; return it.

    Predicted classes do not change. No layer is added, so an exported model is calibrated too.
    """
    last = model.layers[-1]
    temperature = fit_temperature(predict_logits(model, validation.images), validation.labels)
    last.set_weights([weights / np.float32(temperature) for weights in last.get_weights()])
    return temperature


def predict_logits(model: "keras.Model", images: np.ndarray) -> np.ndarray:
    """Input of the last layer's softmax, float64 (n, classes), for uint8 images (n, side, side, 3), RGB."""
    import keras

    last = model.layers[-1]
    features = predict(keras.Model(model.inputs, last.input), images, BATCH_SIZE)
    kernel, *bias = (weights.astype(np.float64) for weights in last.get_weights())
    return features.astype(np.float64) @ kernel + sum(bias)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature between 1/4 and 4 with the smallest cross-entropy; logits are float64 (n, classes)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(labels))

    def cross_entropy(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(cross_entropy, bounds=np.log(BOUNDS), method="bounded").x))
