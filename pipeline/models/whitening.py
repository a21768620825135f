"""A first convolution that whitens: its outputs on small patches of the training images are uncorrelated.

Source: Keller Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv 2404.00498, section 3.2. Here the kernel
has no bias, and stays as it is computed.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.data.cifar10 import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import keras

NAME = "whitening"
SIZE = 2  # of a patch, in pixels
FILTERS = 2 * SIZE * SIZE * CHANNELS  # each direction of the patches, and its negative, because a ReLU follows
BATCH = 250  # images
SAMPLE = 5000  # images, evenly spaced, from which the kernel is computed
LEAST_VARIANCE = 5e-4  # added to the variances, for directions in which the patches hardly differ


def whitening() -> "keras.Layer":
    """The convolution, before `whiten`: maps (n, side, side, 3) to (n, side - 1, side - 1, 24)."""
    from keras import layers

    return layers.Conv2D(FILTERS, SIZE, use_bias=False, trainable=False, name=NAME)


def whiten(model: "keras.Model", images: np.ndarray) -> None:
    """Compute the kernel of the model's whitening convolution, if it has one.

    Args:
        images: the training images, uint8 (n, side, side, 3), RGB.
    """
    import keras

    if NAME not in [layer.name for layer in model.layers]:
        return
    layer = model.get_layer(NAME)
    scaled = keras.Model(model.inputs, layer.input)
    chosen = images[:: -(-len(images) // SAMPLE)]
    batches = (np.asarray(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH))
    layer.set_weights([kernel(scaled.predict_on_batch(batch) for batch in batches)])


def kernel(batches: "Iterable[np.ndarray]") -> np.ndarray:
    """The whitening kernel, float32 (2, 2, 3, 24), of batches of scaled images, float (n, side, side, 3)."""
    products, count = np.zeros((FILTERS // 2, FILTERS // 2)), 0
    for images in batches:
        windows = sliding_window_view(images.astype(np.float32), (SIZE, SIZE), (1, 2))  # (n, y, x, 3, 2, 2)
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, FILTERS // 2)
        products, count = products + (patches.T @ patches).astype(np.float64), count + len(patches)
    variances, directions = np.linalg.eigh(products / count)
    found = directions / np.sqrt(variances + LEAST_VARIANCE)
    found = found * np.where(found.sum(0) < 0, -1, 1)  # the sign of an eigenvector is open
    return np.concatenate([found, -found], axis=1).reshape(SIZE, SIZE, CHANNELS, FILTERS).astype(np.float32)
