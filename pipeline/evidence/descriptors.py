"""Descriptors of image content: oriented-gradient histograms for fast search, and a correlation to compare two images.

Both use only luminance, so a recoloured copy is still found. Neither uses labels. Images of another side are scaled to
`SIDE`: all lengths here are for it, and stay the same share of the picture.
"""

import numpy as np

from pipeline.data.large_arrays import blocks
from pipeline.data.luminance import luminance

SIDE = 32  # pixels; copies of a picture still agree at this size, and other pictures do not
BLOCK = 6_144_000  # bytes of pixels, 2,000 images of 32 x 32; bounds the memory of intermediate float arrays
ROWS = 2_000  # histograms; bounds the memory likewise
DIRECTIONS = 8  # of edges, over half a turn
CELLS = 8  # along each side
COMPONENTS = 128  # of a whitened descriptor; 64 find the same near duplicates, but rank them a little worse
SHRINKAGE = 0.01  # of the mean variance, added to each variance; without it, rare directions are mostly noise
SHIFT = 3  # pixels; the largest shift between two images that are compared, in each direction
SCALES = (1.0, 0.92, 1.09)  # of the first image; two crops of one photo can differ by a pixel or two in size
MINIMUM_GRADIENT = 0.5  # grey levels per pixel; rounding causes as much, and a flat image must have no edges
MINIMUM_DETAIL = 2.0  # grey levels; re-encoding causes as much, so weaker detail counts as flat


def edge_histograms(images: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients, float32 (n, 512), of RGB images, uint8 (n, side, side, 3).

    Rows have length 1; 0 for a flat image. Axis 1 is cell row, cell column, direction. Each value is a sum of gradient
    magnitudes. As in Dalal and Triggs 2005 (https://doi.org/10.1109/CVPR.2005.177), a pixel counts in its two nearest
    directions. Cells overlap, so a shift by one pixel changes little. The square root limits a single strong edge.
    """
    return np.concatenate([_histograms(grey_images(block)) for block in blocks(images, BLOCK)])


def grey_images(images: np.ndarray) -> np.ndarray:
    """Luminance, float32 (n, 32, 32), 0 to 255, of RGB images, uint8 (n, side, side, 3).

    Images are scaled by triangles as wide as two pixels of the smaller image, as in Pillow's `BILINEAR`.
    """
    grey, ratio = luminance(images), images.shape[1] / SIDE
    if ratio == 1:
        return grey
    centres = (np.arange(SIDE) + 0.5) * ratio - 0.5
    weights = np.maximum(1 - np.abs(centres[:, None] - np.arange(images.shape[1])) / max(ratio, 1), 0)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)  # (32, side)
    return weights @ grey @ weights.T


def _histograms(grey: np.ndarray) -> np.ndarray:
    blurred = gaussian_blur(grey, 0.7)
    vertical, horizontal = np.gradient(blurred, axis=(1, 2))
    magnitude = np.hypot(horizontal, vertical)
    magnitude[magnitude < MINIMUM_GRADIENT] = 0
    angle = np.arctan2(vertical, horizontal) % np.pi * (DIRECTIONS / np.pi)  # 0 to DIRECTIONS, which equals 0
    cells = _gaussians(np.arange(CELLS) * (SIDE / CELLS) + (SIDE / CELLS - 1) / 2, SIDE / CELLS / 2)  # (cell, pixel)
    histograms = np.empty((len(grey), CELLS, CELLS, DIRECTIONS), np.float32)
    for direction in range(DIRECTIONS):
        distance = np.abs(angle - direction)
        votes = magnitude * np.maximum(1 - np.minimum(distance, DIRECTIONS - distance), 0)
        histograms[..., direction] = cells @ votes @ cells.T
    return unit_rows(np.sqrt(histograms).reshape(len(grey), -1))


def mirrored(histograms: np.ndarray) -> np.ndarray:
    """The histograms, float32 (n, 512), of the mirrored images: columns are reversed, and direction d becomes -d."""
    grid = histograms.reshape(-1, CELLS, CELLS, DIRECTIONS)[:, :, ::-1]
    return grid[..., -np.arange(DIRECTIONS) % DIRECTIONS].reshape(histograms.shape)


def fit_whitening(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, float32 (512,), and projection, float32 (512, components), of PCA whitening.

    After it, common structure, such as a horizon, counts like rare structure. It is fitted on the images
    and their mirrored images, so both orientations are treated alike.
    """
    covariance, mean = np.zeros(2 * histograms.shape[1:]), (histograms.mean(0) + mirrored(histograms).mean(0)) / 2
    for table in (histograms, mirrored(histograms)):
        for start in range(0, len(table), ROWS):
            centred = table[start : start + ROWS] - mean
            covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance / (2 * len(histograms)))
    variances, axes = variances[::-1][:COMPONENTS], axes[:, ::-1][:, :COMPONENTS]
    scale = np.sqrt(np.maximum(variances, 0) + SHRINKAGE * max(variances.mean(), np.finfo(np.float32).tiny))
    return mean, (axes / scale).astype(np.float32)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their Euclidean length; a row of zeros does not change."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The highest correlation of the fine detail of each pair of images over small shifts and scales.

    The images are RGB, uint8 (n, side, side, 3); a pair needs 13 times the memory of an image.
    The result is float32 (n,), -1 to 1; near 0 if one image of the pair is flat.
    """
    fixed, shifted = grey_images(first), fine_detail(grey_images(second))
    return np.max([_best_over_shifts(fine_detail(zoom(fixed, scale)), shifted) for scale in SCALES], axis=0)


def _best_over_shifts(fixed: np.ndarray, shifted: np.ndarray) -> np.ndarray:
    """Pearson correlation of the middle of `fixed` with the best window of the same size in `shifted`."""
    side = SIDE - 2 * SHIFT
    middle = fixed[:, SHIFT:-SHIFT, SHIFT:-SHIFT]
    middle = middle - middle.mean((1, 2), keepdims=True)
    window = np.sum([np.eye(2 * SHIFT + 1, SIDE, offset, dtype=np.float32) for offset in range(side)], axis=0)
    totals, squares = window @ shifted @ window.T, window @ shifted**2 @ window.T  # (n, vertical, horizontal shift)
    minimum = MINIMUM_DETAIL * side  # as the norm of side x side pixels
    norms = np.sqrt(np.maximum(squares - totals**2 / side**2, 0)).clip(minimum)
    middle /= np.linalg.norm(middle, axis=(1, 2), keepdims=True).clip(minimum)
    products = np.empty_like(norms)
    for y, x in np.ndindex(norms.shape[1:]):
        products[:, y, x] = np.einsum("nyx,nyx->n", middle, shifted[:, y : y + side, x : x + side])
    return (products / norms).max((1, 2))


def fine_detail(pixels: np.ndarray) -> np.ndarray:
    """Structures of about 2 pixels or less: lighting and large areas agree too easily."""
    return gaussian_blur(pixels, 0.5) - gaussian_blur(pixels, 2.0)


def gaussian_blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """`pixels`, float32 (n, 32, 32), blurred by a Gaussian of `sigma` pixels; border weights sum to 1 too."""
    weights = _gaussians(np.arange(SIDE), sigma)
    return weights @ pixels @ weights.T


def zoom(pixels: np.ndarray, scale: float) -> np.ndarray:
    """`pixels`, float32 (n, 32, 32), enlarged about the middle by linear interpolation; border pixels repeat."""
    middle = (SIDE - 1) / 2
    source = ((np.arange(SIDE) - middle) / scale + middle).clip(0, SIDE - 1)
    weights = np.maximum(1 - np.abs(source[:, None] - np.arange(SIDE)), 0).astype(np.float32)
    return weights @ pixels @ weights.T


def _gaussians(centres: np.ndarray, sigma: float) -> np.ndarray:
    """Weights of the 32 pixels of a line around each centre: float32 (centres, 32), rows sum to 1."""
    weights = np.exp(-((centres[:, None] - np.arange(SIDE)) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
