"""What an image shows, without colour, contrast and exact place: a short descriptor, and a close comparison of two images.

Neither knows a label or was trained on one. Both look at luminance alone, so that a recoloured copy stays a copy.
"""

import numpy as np

from pipeline.cifar10 import SIDE

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601
BLOCK = 2_000  # images; bounds the memory of intermediate float arrays
DIRECTIONS = 8  # of edges, over half a turn
CELLS = 8  # along each side
COMPONENTS = 128  # of a descriptor; 64 finds the same twins but ranks them a little worse
SHRINKAGE = 0.01  # of the mean variance, added to each: rare directions of few images would be all noise
SHIFT = 3  # pixels by which one image may be moved against the other, each way
SCALES = (1.0, 0.92, 1.09)  # of the first image; crops of one shot differ by a pixel or two along the side
FAINTEST_EDGE = 0.5  # grey levels per pixel; rounding alone makes as much, and a flat image must come out as flat
FAINTEST_DETAIL = 2.0  # grey levels; fluctuations below it count as flat, since re-encoding alone makes as many


def luminance(images: np.ndarray) -> np.ndarray:
    """float32 (n, 32, 32), 0 to 255, of uint8 (n, 32, 32, 3) RGB images."""
    return images.astype(np.float32) @ LUMINANCE


def edge_histograms(images: np.ndarray) -> np.ndarray:
    """How strong the edges are in each cell and direction: histograms of oriented gradients.

    After Dalal and Triggs 2005 (https://doi.org/10.1109/CVPR.2005.177): votes go to the two nearest directions, and
    cells overlap, so that a shift by a pixel changes little. Square roots keep one hard edge from outweighing the rest.

    Args:
        images: uint8 (n, 32, 32, 3), RGB.

    Returns:
        float32 (n, 512) of length 1, or 0 where the image is flat; cell row, cell column, direction.
    """
    return np.concatenate([_histograms(images[start : start + BLOCK]) for start in range(0, len(images), BLOCK)])


def _histograms(images: np.ndarray) -> np.ndarray:
    smooth = smoothed(luminance(images), 0.7)
    down, across = np.gradient(smooth, axis=(1, 2))
    strength = np.hypot(across, down)
    strength[strength < FAINTEST_EDGE] = 0
    angle = np.arctan2(down, across) % np.pi * (DIRECTIONS / np.pi)  # 0 to DIRECTIONS, which is 0 again
    cells = _gaussians(np.arange(CELLS) * (SIDE / CELLS) + (SIDE / CELLS - 1) / 2, SIDE / CELLS / 2)  # (cell, pixel)
    histograms = np.empty((len(images), CELLS, CELLS, DIRECTIONS), np.float32)
    for direction in range(DIRECTIONS):
        away = np.abs(angle - direction)
        votes = strength * np.maximum(1 - np.minimum(away, DIRECTIONS - away), 0)
        histograms[..., direction] = cells @ votes @ cells.T
    return unit(np.sqrt(histograms).reshape(len(images), -1))


def mirrored(histograms: np.ndarray) -> np.ndarray:
    """The histograms of the same images seen in a mirror: columns swap, and a direction becomes its supplement."""
    grid = histograms.reshape(-1, CELLS, CELLS, DIRECTIONS)[:, :, ::-1]
    return grid[..., -np.arange(DIRECTIONS) % DIRECTIONS].reshape(histograms.shape)


def fit_whitening(histograms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection after which common structure (a horizon, a bright middle) counts no more than rare structure.

    Fitted on the images and their mirror images alike, so that neither way round is preferred.

    Args:
        histograms: float32 (n, 512).

    Returns:
        mean: float32 (512,).
        projection: float32 (512, components).
    """
    covariance, mean = np.zeros(2 * histograms.shape[1:]), (histograms.mean(0) + mirrored(histograms).mean(0)) / 2
    for table in (histograms, mirrored(histograms)):
        for start in range(0, len(table), BLOCK):
            centred = table[start : start + BLOCK] - mean
            covariance += centred.T @ centred
    variances, axes = np.linalg.eigh(covariance / (2 * len(histograms)))
    variances, axes = variances[::-1][:COMPONENTS], axes[:, ::-1][:, :COMPONENTS]
    scale = np.sqrt(np.maximum(variances, 0) + SHRINKAGE * max(variances.mean(), np.finfo(np.float32).tiny))
    return mean, (axes / scale).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their length; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Best correlation of two images' fine detail over small shifts and scales, pair by pair.

    Args:
        first, second: uint8 (n, 32, 32, 3), RGB; a few thousand at once, as each takes 40 kB on the way.

    Returns:
        float32 (n,), -1 to 1; near 0 where one of a pair is flat.
    """
    moved = detail(luminance(second))
    return np.max([_best_over_shifts(detail(zoomed(luminance(first), scale)), moved) for scale in SCALES], axis=0)


def _best_over_shifts(still: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the middle of `still` with equally large windows of `moved`, the best of all windows."""
    side = SIDE - 2 * SHIFT
    middle = still[:, SHIFT:-SHIFT, SHIFT:-SHIFT]
    middle = middle - middle.mean((1, 2), keepdims=True)
    window = sum(np.eye(2 * SHIFT + 1, SIDE, offset, dtype=np.float32) for offset in range(side))  # (shift, pixel)
    totals, squares = window @ moved @ window.T, window @ moved**2 @ window.T  # (n, shift down, shift across)
    faintest = FAINTEST_DETAIL * side  # as a norm: of `side` times `side` pixels
    norms = np.sqrt(np.maximum(squares - totals**2 / side**2, 0)).clip(faintest)
    middle /= np.linalg.norm(middle, axis=(1, 2), keepdims=True).clip(faintest)
    products = np.stack(
        [
            np.einsum("nyx,nyx->n", middle, moved[:, y : y + side, x : x + side])
            for y, x in np.ndindex(2 * SHIFT + 1, 2 * SHIFT + 1)
        ],
        axis=1,
    )
    return (products / norms.reshape(products.shape)).max(1)


def detail(pixels: np.ndarray) -> np.ndarray:
    """`pixels`, float32 (n, 32, 32), less what is much wider than 2 pixels: light and large areas agree too easily."""
    fine = smoothed(pixels, 0.5)
    return fine - smoothed(pixels, 2.0)


def smoothed(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """`pixels`, float32 (n, 32, 32), blurred by a Gaussian of `sigma` pixels, with weights that sum to 1 at the border too."""
    weights = _gaussians(np.arange(SIDE), sigma)
    return weights @ pixels @ weights.T


def zoomed(pixels: np.ndarray, scale: float) -> np.ndarray:
    """`pixels`, float32 (n, 32, 32), enlarged about the middle by `scale`; outside of the image its border repeats."""
    if scale == 1:
        return pixels
    middle = (SIDE - 1) / 2
    source = ((np.arange(SIDE) - middle) / scale + middle).clip(0, SIDE - 1)
    weights = np.maximum(1 - np.abs(source[:, None] - np.arange(SIDE)), 0).astype(np.float32)  # linear interpolation
    return weights @ pixels @ weights.T


def _gaussians(centres: np.ndarray, sigma: float) -> np.ndarray:
    """float32 (centres, 32): weights of the pixels of a line, each row summing to 1."""
    weights = np.exp(-((centres[:, None] - np.arange(SIDE)) ** 2) / (2 * sigma**2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
