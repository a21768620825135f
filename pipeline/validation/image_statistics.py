"""Statistics of single images; each one reacts to one kind of damage."""

from typing import NamedTuple

import numpy as np
from scipy.fft import dct

from pipeline.data.luminance import LUMA, brightness, contrast

GREY_LEVEL = 1 / 255
JPEG_BLOCK = 8  # pixels; side of the squares that JPEG encodes separately
BORDER = 2  # pixels; width of the border that is compared with the rest of the image
DECIMALS = 6  # more would be rounding errors, which differ between machines


class Statistic(NamedTuple):
    """What an expectation states about a statistic, and what happened to images if it is lower or higher."""

    same: str
    lower: str
    higher: str

    @property
    def statement(self) -> str:
        return f"{self.same} as in the reference."


STATISTICS = {
    "brightness": Statistic("Images are as bright", "darker", "brighter"),
    "contrast": Statistic("Contrast is as high", "lower contrast", "higher contrast"),
    "red_cast": Statistic(
        "Red is as strong against green and blue", "colour cast away from red", "colour cast towards red"
    ),
    "blue_cast": Statistic(
        "Blue is as strong against red and green", "colour cast away from blue", "colour cast towards blue"
    ),
    "saturation": Statistic("Colours are as strong", "paler colours", "stronger colours"),
    "sharpness": Statistic("Images are as sharp", "blurred", "sharpened or noisy"),
    "noise": Statistic("Pixels are as noisy", "smoothed: blurred or re-encoded", "noisier"),
    "fine_detail": Statistic(
        "High frequencies, which JPEG removes first, are as common",
        "fine detail is gone: re-encoded or blurred",
        "fine detail was added: noise or hard edges",
    ),
    "blockiness": Statistic(
        "Steps on JPEG's grid of 8 pixels are as large",
        "smoother on JPEG's grid: re-encoded or resized",
        "JPEG's blocks are visible: re-encoded",
    ),
    "equal_neighbours": Statistic(
        "Flat areas are as common",
        "fewer flat areas: noise or re-encoding",
        "more equal neighbouring pixels: pixelated, painted over or greyscale",
    ),
    "edge_direction": Statistic(
        "Vertical and horizontal edges are as common",
        "more horizontal edges: rotated or stretched",
        "more vertical edges: rotated or stretched",
    ),
    "top_light": Statistic(
        "The upper half is as bright against the lower half",
        "darker at the top: rotated",
        "brighter at the top: rotated",
    ),
    "side_light": Statistic(
        "The left and right halves differ as much", "left and right are more alike", "one side is brighter: rotated"
    ),
    "frame_light": Statistic("The border is as bright against the rest", "a dark frame", "a bright frame"),
    "frame_contrast": Statistic("The border is as varied", "a plain frame", "a varied frame"),
}


def image_statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """The values of `STATISTICS` by name: float64 (n,) each, of pixels scaled to 0..1.

    Args:
        images: uint8 (n, side, side, 3), RGB, 0 to 255; 1 to 2 MB of them, which fit the processor's cache.
    """
    # Not luminance(images) / 255, whose rounding differs from that of existing references.
    grey = images @ (LUMA / 255)  # float32 (n, side, side)
    values = _colour(images) | _light(grey) | _edges(grey) | {"fine_detail": _fine_detail(grey)}
    return {name: values[name].astype(np.float64).round(DECIMALS) for name in STATISTICS}


def _colour(images: np.ndarray) -> dict[str, np.ndarray]:
    red, green, blue = (images[..., channel] for channel in range(3))
    strongest, weakest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    red, green, blue = (_mean(channel) / 255 for channel in (red, green, blue))
    return {
        "red_cast": red - (green + blue) / 2,
        "blue_cast": blue - (red + green) / 2,
        "saturation": _mean(strongest - weakest) / 255,
    }


def _light(grey: np.ndarray) -> dict[str, np.ndarray]:
    half = grey.shape[1] // 2
    border = np.ones(grey.shape[1:], bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    frame = grey[:, border]
    return {
        "brightness": brightness(grey),
        "contrast": contrast(grey),
        "top_light": _mean(grey[:, :half]) - _mean(grey[:, -half:]),
        "side_light": abs(_mean(grey[:, :, :half]) - _mean(grey[:, :, -half:])),  # the same for a mirrored image
        "frame_light": frame.mean(1) - _mean(grey[:, ~border]),
        "frame_contrast": frame.std(1),
    }


def _edges(grey: np.ndarray) -> dict[str, np.ndarray]:
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)  # (n, side, side - 1), (n, side - 1, side)
    second_across, second_down = np.diff(across, axis=2), np.diff(down, axis=1)
    laplacian = second_across[:, 1:-1] + second_down[:, :, 1:-1]
    # Immerkaer, Fast Noise Variance Estimation, 1996: second differences in both directions, 0 at straight edges.
    noise = np.sqrt(np.pi / 2) / 6 * _mean(abs(np.diff(second_across, n=2, axis=1)))
    steps_across, steps_down = abs(across), abs(down)
    steps = steps_across.mean(1) + steps_down.mean(2)  # (n, side - 1), by position in the row or column
    on_grid = np.arange(1, grey.shape[1]) % JPEG_BLOCK == 0
    vertical, horizontal = _mean(steps_across), _mean(steps_down)
    return {
        "sharpness": _mean(abs(laplacian)),
        "noise": noise,
        "blockiness": steps[:, on_grid].mean(1) / (steps[:, ~on_grid].mean(1) + GREY_LEVEL),
        "equal_neighbours": _mean(steps_across < GREY_LEVEL / 10),
        "edge_direction": (vertical - horizontal) / (vertical + horizontal + GREY_LEVEL),
    }


def _fine_detail(grey: np.ndarray) -> np.ndarray:
    """Share of JPEG's coefficients of high frequency that are above two grey levels: float32 (n,).

    Pixels right of the last whole block and below it do not count.
    """
    count = grey.shape[1] // JPEG_BLOCK
    whole = grey[:, : count * JPEG_BLOCK, : count * JPEG_BLOCK]
    blocks = whole.reshape(-1, count, JPEG_BLOCK, count, JPEG_BLOCK).swapaxes(2, 3)  # (n, count, count, 8, 8)
    basis = dct(np.eye(JPEG_BLOCK, dtype=np.float32), axis=0, norm="ortho")
    coefficients = basis @ blocks @ basis.T
    is_high = np.add.outer(np.arange(JPEG_BLOCK), np.arange(JPEG_BLOCK)) >= JPEG_BLOCK
    return _mean(abs(coefficients[..., is_high]) > 2 * GREY_LEVEL)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of each image: float32 (n,)."""
    return values.reshape(len(values), -1).mean(1, dtype=np.float32)
