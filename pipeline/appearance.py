"""What an image looks like, in numbers that each answer to one kind of damage."""

from typing import NamedTuple

import numpy as np
from scipy.fft import dct

from pipeline.cifar10 import SIDE

LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255  # ITU-R BT.601, as JPEG weighs the channels
GREY_LEVEL = 1 / 255
JPEG_BLOCK = 8  # pixels; side of the squares that JPEG packs one by one
FRAME = 2  # pixels; width of the border that is looked at by itself
DECIMALS = 6  # what is kept of a measure: more would be rounding errors, which differ from machine to machine


class Measure(NamedTuple):
    """In words: what a measure says, and what happened to images where it is lower or higher than it was."""

    why: str
    lower: str
    higher: str


MEASURES = {
    "brightness": Measure("Images are as bright as the reference's.", "darker", "brighter"),
    "contrast": Measure("Light and dark are as far apart as in the reference.", "lower contrast", "higher contrast"),
    "red_cast": Measure(
        "Red has the same weight against green and blue.", "colour cast away from red", "colour cast towards red"
    ),
    "blue_cast": Measure(
        "Blue has the same weight against red and green.", "colour cast away from blue", "colour cast towards blue"
    ),
    "saturation": Measure("Colours are as strong as in the reference.", "paler colours", "stronger colours"),
    "sharpness": Measure("Images are as sharp as the reference's.", "blurred", "sharpened or noisy"),
    "noise": Measure("Pixels are as noisy as in the reference.", "smoothed: blurred or re-encoded", "noisier"),
    "fine_detail": Measure(
        "The finest waves, which JPEG drops first, are as frequent.",
        "fine detail is gone: re-encoded or blurred",
        "fine detail was added: noise or hard edges",
    ),
    "blockiness": Measure(
        "Steps on JPEG's grid of 8 pixels are as large as in the reference.",
        "smoother on JPEG's grid: re-encoded or resized",
        "JPEG's blocks show: re-encoded",
    ),
    "equal_neighbours": Measure(
        "Flat areas are as frequent as in the reference.",
        "flat areas are gone: noise or re-encoding",
        "equal pixels side by side: pixelated, painted over or greyed",
    ),
    "edge_direction": Measure(
        "Edges run upright and level as often as in the reference.",
        "edges run level more often: turned or stretched",
        "edges run upright more often: turned or stretched",
    ),
    "top_light": Measure(
        "Light comes from above as often as in the reference.",
        "darker at the top: turned",
        "lighter at the top: turned",
    ),
    "side_light": Measure(
        "Left and right differ as much as in the reference.", "sides more alike", "one side is lighter: turned"
    ),
    "frame_light": Measure("The border is as light against the rest.", "a dark frame", "a light frame"),
    "frame_contrast": Measure("The border is as varied as in the reference.", "a plain frame", "a busy frame"),
}


def appearance(images: np.ndarray) -> dict[str, np.ndarray]:
    """The values of `MEASURES` by name: float64 (n,) each, of pixels scaled to 0..1.

    Args:
        images: uint8 (n, 32, 32, 3), RGB, 0 to 255; some hundreds, which fit the processor's cache.
    """
    grey = images @ LUMA  # float32 (n, 32, 32)
    found = _colour(images) | _light(grey) | _edges(grey) | {"fine_detail": _fine_detail(grey)}
    return {name: found[name].astype(np.float64).round(DECIMALS) for name in MEASURES}


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
    half = SIDE // 2
    border = np.ones((SIDE, SIDE), bool)
    border[FRAME:-FRAME, FRAME:-FRAME] = False
    frame = grey[:, border]
    return {
        "brightness": _mean(grey),
        "contrast": grey.std((1, 2)),
        "top_light": _mean(grey[:, :half]) - _mean(grey[:, half:]),
        "side_light": abs(_mean(grey[:, :, :half]) - _mean(grey[:, :, half:])),  # the same for a mirrored image
        "frame_light": frame.mean(1) - _mean(grey[:, ~border]),
        "frame_contrast": frame.std(1),
    }


def _edges(grey: np.ndarray) -> dict[str, np.ndarray]:
    across, down = np.diff(grey, axis=2), np.diff(grey, axis=1)  # (n, 32, 31), (n, 31, 32)
    bends, bends_down = np.diff(across, axis=2), np.diff(down, axis=1)
    laplacian = bends[:, 1:-1] + bends_down[:, :, 1:-1]
    # Immerkaer, Fast Noise Variance Estimation, 1996: bends of bends, to which edges give nothing.
    noise = np.sqrt(np.pi / 2) / 6 * _mean(abs(np.diff(bends, n=2, axis=1)))
    steps_across, steps_down = abs(across), abs(down)
    steps = steps_across.mean(1) + steps_down.mean(2)  # (n, 31), by place in the row or column
    on_grid = np.arange(1, SIDE) % JPEG_BLOCK == 0
    upright, level = _mean(steps_across), _mean(steps_down)
    return {
        "sharpness": _mean(abs(laplacian)),
        "noise": noise,
        "blockiness": steps[:, on_grid].mean(1) / (steps[:, ~on_grid].mean(1) + GREY_LEVEL),
        "equal_neighbours": _mean(steps_across < GREY_LEVEL / 10),
        "edge_direction": (upright - level) / (upright + level + GREY_LEVEL),
    }


def _fine_detail(grey: np.ndarray) -> np.ndarray:
    """Share of the waves in the finer half of JPEG's that are stronger than two grey levels: float32 (n,)."""
    across = SIDE // JPEG_BLOCK
    blocks = grey.reshape(-1, across, JPEG_BLOCK, across, JPEG_BLOCK).swapaxes(2, 3)  # (n, 4, 4, 8, 8)
    basis = dct(np.eye(JPEG_BLOCK, dtype=np.float32), axis=0, norm="ortho")
    waves = basis @ blocks @ basis.T
    fine = np.add.outer(np.arange(JPEG_BLOCK), np.arange(JPEG_BLOCK)) >= JPEG_BLOCK
    return _mean(abs(waves[..., fine]) > 2 * GREY_LEVEL)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of each image: float32 (n,)."""
    return values.reshape(len(values), -1).mean(1, dtype=np.float32)
