"""Images as rough as photographs, for tests of near duplicates."""

import numpy as np
from scipy.ndimage import gaussian_filter


def scenes(count, seed, side=32):
    """Blurred noise of several widths, tinted: uint8 (count, side, side, 3). No two images are similar."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, side, side, 1)) * random.uniform(0.5, 1, (count, 1, 1, 3))
    widths = side / 32 * np.array([1, 2, 4])
    layers = [gaussian_filter(noise, (0, width, width, 0), mode="wrap") * width for width in widths]
    return np.clip(128 + 60 * sum(layers), 0, 255).astype(np.uint8)
