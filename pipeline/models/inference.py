"""Output of a network for many images, in bounded memory."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.large_arrays import batch_of

if TYPE_CHECKING:
    import keras

BLOCK = 1 << 28  # bytes of images that Keras copies at once


def predict(model: "keras.Model", images: np.ndarray, batch_size: int) -> np.ndarray:
    """The network's output, one row per image, for uint8 images (n, side, side, 3), RGB, which may be memory-mapped.

    Args:
        batch_size: images of side 32; batches of larger images are smaller. Blocks consist of whole batches.
    """
    size = batch_of(batch_size, images)
    block = size * max(1, BLOCK // (size * images[0].nbytes))
    parts = (np.asarray(images[start : start + block]) for start in range(0, len(images), block))
    return np.concatenate([model.predict(part, batch_size=size, verbose=0) for part in parts])
