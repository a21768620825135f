"""Images in blocks, so that intermediate arrays need little memory at any size of the images."""

import math
from collections.abc import Iterator

import numpy as np


def images_per_block(images: np.ndarray, nbytes: int) -> int:
    """How many `images`, uint8 (n, height, width, 3), have `nbytes` bytes together; at least 1."""
    return max(1, nbytes // math.prod(images.shape[1:]))


def blocks(images: np.ndarray, nbytes: int) -> Iterator[np.ndarray]:
    """`images`, uint8 (n, height, width, 3), in their order, `nbytes` bytes at once, or one image if it has more."""
    step = images_per_block(images, nbytes)
    return (images[start : start + step] for start in range(0, len(images), step))
