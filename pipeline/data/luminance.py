"""Luminance of images, and the two statistics that several stages compute from it."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green, blue: ITU-R BT.601, as in JPEG


def luminance(images: np.ndarray) -> np.ndarray:
    """Luminance, float32 (n, height, width), of RGB images, uint8 or float32 (n, height, width, 3); 0 to 255."""
    return images.astype(np.float32) @ LUMA


def brightness(grey: np.ndarray) -> np.ndarray:
    """Mean luminance of each image, float32 (n,), from float32 (n, height, width), in its unit."""
    return grey.mean((1, 2))


def contrast(grey: np.ndarray) -> np.ndarray:
    """Standard deviation of each image's luminance, float32 (n,), from float32 (n, height, width), in its unit."""
    return grey.std((1, 2))
