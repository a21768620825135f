"""Image corruptions at three severities: noise, blur, weather, light, JPEG and others.

Most of them are from Hendrycks and Dietterich, arXiv 1903.12261, with severities that suit 32 x 32 pixels. For another
side, lengths are in proportion to it, so they stay the same share of the picture.
All severities of a corruption use the same random numbers, so only the severity differs between them.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

SEVERITIES = (1, 2, 3)
SIDE = 32  # pixels; of the images that the lengths in `CORRUPTIONS` are for


class Corruption(NamedTuple):
    """An operation on RGB images, float32 (n, side, side, 3), 0 to 255, and its parameter; the result is not clipped."""

    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    values: tuple[float, float, float]  # of the parameter, at severities 1, 2 and 3
    description: str  # format of a value with its unit
    decimals: int | None = None  # of a length in pixels; None if the parameter is no length

    def value(self, severity: int, side: int) -> float:
        """The parameter at a severity, for images of `side` x `side` pixels."""
        value = self.values[severity - 1]
        return value if self.decimals is None else round(value * side / SIDE, self.decimals)


def corrupted(images: np.ndarray, name: str, severity: int, seed: list[int]) -> np.ndarray:
    """RGB images, uint8 (n, side, side, 3), after one of `CORRUPTIONS`; equal arguments give equal pixels."""
    corruption = CORRUPTIONS[name]
    random = np.random.default_rng([*seed, list(CORRUPTIONS).index(name)])
    value = corruption.value(severity, images.shape[1])
    return to_uint8(corruption.apply(images.astype(np.float32), value, random))


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Pixels rounded, and clipped to 0 to 255."""
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def noise(images: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to each channel of each pixel, as a sensor does in low light."""
    return images + deviation * random.standard_normal(images.shape, np.float32)


def blur(images: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian, as a lens out of focus does; `deviation` is in pixels."""
    from scipy.ndimage import gaussian_filter1d

    return _weighted_sums(images, gaussian_filter1d(np.eye(images.shape[1]), deviation, axis=0, mode="reflect"))


def fog(images: np.ndarray, density: float, random: np.random.Generator) -> np.ndarray:
    """Blend with light grey by `density` on average, by more in some places and by less in others."""
    from scipy.ndimage import zoom

    stretch = (images.shape[1] / 5, 1)
    widen = zoom(np.eye(5), stretch, order=1, grid_mode=True, mode="nearest")  # (side, 5), rows sum to 1
    clouds = np.einsum("ri,nij,sj->nrs", widen, random.uniform(0.5, 1.5, (len(images), 5, 5)), widen, optimize=True)
    share = np.minimum(density * clouds, 1)[..., None].astype(np.float32)  # (n, side, side, 1)
    return images * (1 - share) + 220 * share


def contrast(images: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Multiply the distance of each pixel to the mean of its image by `factor`."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return mean + factor * (images - mean)


def brightness(images: np.ndarray, levels: float, random: np.random.Generator) -> np.ndarray:
    """Add `levels` to all pixels, as overexposure does."""
    return images + levels


def darkness(images: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Multiply all pixels by `factor`, as underexposure does."""
    return images * factor


def jpeg(images: np.ndarray, quality: float, random: np.random.Generator) -> np.ndarray:
    """Encode as JPEG without colour subsampling, and decode."""
    return np.stack([reencoded(image, int(quality), "4:4:4") for image in images.astype(np.uint8)]).astype(np.float32)


def reencoded(image: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """One image, uint8 (height, width, 3), RGB, after JPEG encoding and decoding; `quality` is 1 to 100."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def pixelate(images: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Scale down to `pixels` x `pixels`, each the mean of its area, and up again without interpolation."""
    count, side = int(pixels), images.shape[1]
    edges = np.arange(count + 1) * side / count
    positions = np.arange(side)
    covered = np.clip(np.minimum(edges[1:, None], positions + 1) - np.maximum(edges[:-1, None], positions), 0, None)
    return _weighted_sums(images, (covered * count / side)[(2 * positions + 1) * count // (2 * side)])


def shift(images: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Move each image by `pixels` in a random direction; the uncovered area is filled by reflection."""
    angle = random.uniform(0, 2 * np.pi, (len(images), 1))
    distance, positions = int(pixels), np.arange(images.shape[1])
    reflected = np.pad(positions, distance, mode="symmetric")
    offsets = np.rint(np.stack([np.sin(angle), np.cos(angle)]) * distance).astype(int) + distance  # (2, n, 1)
    rows, columns = reflected[offsets + positions]  # (n, side) each: the source of each pixel
    return images[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]


def occlusion(images: np.ndarray, pixels: float, random: np.random.Generator) -> np.ndarray:
    """Cover a square of `pixels` x `pixels` at a random place inside each image with grey."""
    positions = np.arange(images.shape[1])
    start = np.floor(random.uniform(0, 1, (2, len(images), 1)) * (len(positions) - pixels + 1))
    rows, columns = (positions >= start) & (positions < start + pixels)  # (n, side) each
    return np.where((rows[:, :, None] & columns[:, None, :])[..., None], np.float32(128), images)


def _weighted_sums(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Replace each column, then each row, of the images by its product with `weights` (side, side)."""
    matrix, side = weights.astype(np.float32), len(weights)
    vertical = np.matmul(matrix, images.reshape(len(images), side, -1))  # (n, side, 3 * side)
    horizontal = vertical.reshape(-1, side * 3) @ np.kron(matrix.T, np.eye(3, dtype=np.float32))
    return horizontal.reshape(images.shape)


CORRUPTIONS = {
    "noise": Corruption(noise, (10, 20, 30), "± {:g} grey levels"),  # standard deviation
    "blur": Corruption(blur, (0.6, 0.9, 1.2), "sigma {:g} pixels", decimals=2),
    "fog": Corruption(fog, (0.3, 0.5, 0.7), "density {:.0%}"),
    "contrast": Corruption(contrast, (0.5, 0.3, 0.15), "contrast x {:g}"),
    "brightness": Corruption(brightness, (30, 60, 90), "+ {:g} grey levels"),
    "darkness": Corruption(darkness, (0.6, 0.4, 0.2), "pixels x {:g}"),
    "jpeg": Corruption(jpeg, (60, 30, 15), "quality {:g}"),
    "pixelate": Corruption(pixelate, (24, 16, 12), "{0:g} x {0:g} pixels", decimals=0),
    "shift": Corruption(shift, (4, 8, 12), "by {:g} pixels", decimals=0),
    "occlusion": Corruption(occlusion, (8, 12, 16), "{0:g} x {0:g} pixels", decimals=0),
}
