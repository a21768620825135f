"""What can befall a picture on its way to the model: ten corruptions, each at three strengths.

After Hendrycks and Dietterich, arXiv 1903.12261, in strengths that suit 32 x 32 pixels. The same
draw serves all strengths of a corruption, so that between them nothing but the strength changes.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.cifar10 import SIDE

CLEAN, STRENGTHS = "none", (1, 2, 3)  # as tables name them; clean images have strength 0
FOG_GREY = 220  # grey level of the densest fog
GREY = 128  # grey level of what hides


class Corruption(NamedTuple):
    """How to spoil images, by how much, and how to say it with the unit.

    `spoil` takes float32 (n, 32, 32, 3), RGB, 0 to 255, one of `strengths` and a generator, and gives
    the same shape, not yet cut to 0 to 255.
    """

    spoil: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, float, float]
    told: str  # a format


def corrupted(images: np.ndarray, name: str, strength: int, seed: list[int]) -> np.ndarray:
    """Images spoilt by one of `CORRUPTIONS`; equal arguments give equal pixels.

    Args:
        images: uint8 (n, 32, 32, 3), RGB.
        strength: 1, 2 or 3.

    Returns:
        uint8 (n, 32, 32, 3).
    """
    corruption = CORRUPTIONS[name]
    random = np.random.default_rng([*seed, list(CORRUPTIONS).index(name)])
    spoilt = corruption.spoil(images.astype(np.float32), corruption.strengths[strength - 1], random)
    return np.clip(np.rint(spoilt), 0, 255).astype(np.uint8)


def noise(images: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to every sub-pixel, as a sensor does in the dark."""
    return images + deviation * random.standard_normal(images.shape, np.float32)


def blur(images: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Blur as out of focus, by a Gaussian."""
    from scipy.ndimage import gaussian_filter1d

    return _through(images, gaussian_filter1d(np.eye(SIDE), deviation, axis=0, mode="reflect"))


def fog(images: np.ndarray, density: float, random: np.random.Generator) -> np.ndarray:
    """Lay a fog over the images, here denser and there thinner, by `density` on average."""
    from scipy.ndimage import zoom

    wide = zoom(np.eye(5), (SIDE / 5, 1), order=1, grid_mode=True, mode="nearest")  # (32, 5), each row sums to 1
    clouds = np.einsum("ri,nij,sj->nrs", wide, random.uniform(0.5, 1.5, (len(images), 5, 5)), wide, optimize=True)
    share = np.minimum(density * clouds, 1)[..., None].astype(np.float32)  # (n, 32, 32, 1)
    return images * (1 - share) + FOG_GREY * share


def contrast(images: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Bring each pixel nearer to its image's mean."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + factor * (images - mean)


def brightness(images: np.ndarray, levels: float, random: np.random.Generator) -> np.ndarray:
    """Make all pixels brighter, as overexposure does; what is white already stays so."""
    return images + levels


def darkness(images: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Let less light in, as underexposure does."""
    return images * factor


def jpeg(images: np.ndarray, quality: float, random: np.random.Generator) -> np.ndarray:
    """Encode as JPEG and decode again.

    All images are one tall picture: without colour subsampling JPEG's blocks are 8 x 8 pixels, so none
    reaches into two images, and each becomes what it would become alone.
    """
    file = io.BytesIO()
    tall = Image.fromarray(images.astype(np.uint8).reshape(-1, SIDE, 3))
    tall.save(file, "JPEG", quality=int(quality), subsampling="4:4:4")
    return np.asarray(Image.open(file), np.float32).reshape(images.shape)


def pixelate(images: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Scale down to so many pixels a side, each the mean of what it covers, and up again in squares."""
    count = int(pixels)
    edges = np.arange(count + 1) * SIDE / count
    places = np.arange(SIDE)
    covered = np.clip(np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places), 0, None)
    return _through(images, (covered * count / SIDE)[(2 * places + 1) * count // (2 * SIDE)])


def shift(images: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Move each image so far in a random direction; what that uncovers is its mirror image."""
    turn = random.uniform(0, 2 * np.pi, (len(images), 1))
    reach = int(pixels)
    mirrored = np.pad(np.arange(SIDE), reach, mode="symmetric")
    moves = np.rint(np.stack([np.sin(turn), np.cos(turn)]) * reach).astype(int) + reach  # (2, n, 1)
    rows, columns = mirrored[moves + np.arange(SIDE)]  # (n, 32) each: where a pixel comes from
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def occlusion(images: np.ndarray, side: float, random: np.random.Generator) -> np.ndarray:
    """Hide a square of each image, wholly inside of it, behind grey."""
    start = np.floor(random.uniform(0, 1, (2, len(images), 1)) * (SIDE - side + 1))
    rows, columns = (np.arange(SIDE) >= start) & (np.arange(SIDE) < start + side)  # (n, 32) each
    return np.where((rows[:, :, None] & columns[:, None, :])[..., None], np.float32(GREY), images)


def _through(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Make each row and each column of the images anew, as sums weighted by a row of (32, 32)."""
    matrix = weights.astype(np.float32)
    down = np.matmul(matrix, images.reshape(len(images), SIDE, -1))  # (n, 32, 96)
    across = down.reshape(-1, SIDE * 3) @ np.kron(matrix.T, np.eye(3, dtype=np.float32))
    return across.reshape(images.shape)


CORRUPTIONS = {
    "noise": Corruption(noise, (10, 20, 30), "± {:g} grey levels"),  # standard deviation
    "blur": Corruption(blur, (0.6, 0.9, 1.2), "over {:g} pixels"),  # standard deviation
    "fog": Corruption(fog, (0.3, 0.5, 0.7), "hides {:.0%}"),
    "contrast": Corruption(contrast, (0.5, 0.3, 0.15), "times {:g}"),
    "brightness": Corruption(brightness, (30, 60, 90), "+ {:g} grey levels"),
    "darkness": Corruption(darkness, (0.6, 0.4, 0.2), "light times {:g}"),
    "jpeg": Corruption(jpeg, (60, 30, 15), "quality {:g}"),  # of libjpeg, 1 to 100
    "pixelate": Corruption(pixelate, (24, 16, 12), "{0:g} x {0:g} pixels"),
    "shift": Corruption(shift, (4, 8, 12), "by {:g} pixels"),
    "occlusion": Corruption(occlusion, (8, 12, 16), "{0:g} x {0:g} pixels"),
}
