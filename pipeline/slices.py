"""Slices stage: accuracy on parts of the test split, by properties of the images."""

from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, read_csv, write_csv
from pipeline.common.params import Params, run_stage
from pipeline.data.image_grid import NO_VERSION, new_figure
from pipeline.data.large_arrays import blocks
from pipeline.data.luminance import brightness, contrast, luminance
from pipeline.data.splits import read_split, require_validated
from pipeline.evaluation.metrics import wilson_interval
from pipeline.evaluation.predictions import read_is_correct

BLOCK = 15_360_000  # bytes of pixels, 5,000 images of 32 x 32; bounds the memory of intermediate float arrays

Part = dict[str, float]  # part, low, high, images, accuracy, accuracy_low, accuracy_high


SLICES = {  # title, and names of the lowest and highest values, in the plot
    "brightness": ("brightness", "dark", "bright"),
    "contrast": ("contrast", "low", "high"),
    "colourfulness": ("colourfulness", "grey", "vivid"),
    "similarity": ("similarity to training", "low", "high"),
}


class SlicesParams(Params):
    """Section `slices`."""

    parts: int = Field(ge=2, le=20)


def slices(
    params: SlicesParams, test_split: Path, verdict: Path, predictions: Path, nearest: Path, table: Path, plot: Path
) -> None:
    """Write accuracy by brightness, contrast, colourfulness and similarity to the nearest training image.

    `PipelineError` if the split was not validated, or a table lists other images.
    """
    require_validated(verdict, test=test_split)
    split = read_split(test_split)
    correct = read_is_correct(predictions, split)
    values = image_properties(split.images) | {"similarity": read_similarity(nearest, len(correct))}
    measured = {name: measure_parts(values[name], correct, params.parts) for name in SLICES}
    all_parts = [(name, part) for name, parts in measured.items() for part in parts]
    with atomic_outputs(table, plot) as drafts:
        write_csv(drafts[0], [{"slice": name, **part} for name, part in all_parts])
        draw_slices(measured, float(correct.mean()), drafts[1])
    lowest, highest = (
        f"{part['accuracy']:.4f} ({name} {part['low']:.4g} to {part['high']:.4g})"
        for name, part in (choose(all_parts, key=lambda each: each[1]["accuracy"]) for choose in (min, max))
    )
    print(f"slices: accuracy {correct.mean():.4f}; lowest {lowest}, highest {highest}")


def image_properties(images: np.ndarray) -> dict[str, np.ndarray]:
    """Brightness, contrast and colourfulness, floats (n,) each, of RGB images, uint8 (n, side, side, 3).

    Brightness is the mean luminance, 0 to 255, and contrast its standard deviation. Colourfulness is the
    measure of Hasler and Süsstrunk 2003 (https://doi.org/10.1117/12.477378): their test persons called
    0 "not colourful", 33 "moderately", 82 "highly" and 109 "extremely colourful".
    """
    measured = [_properties(block) for block in blocks(images, BLOCK)]
    return {name: np.concatenate([values[name] for values in measured]) for name in measured[0]}


def _properties(images: np.ndarray) -> dict[str, np.ndarray]:
    grey = luminance(images).astype(np.float64)
    red, green, blue = np.moveaxis(images.astype(np.float64), -1, 0)  # (n, row, column) each
    opponents = np.stack([red - green, (red + green) / 2 - blue])  # (2, n, row, column)
    deviation, mean = np.hypot(*opponents.std((2, 3))), np.hypot(*opponents.mean((2, 3)))
    return {"brightness": brightness(grey), "contrast": contrast(grey), "colourfulness": deviation + 0.3 * mean}


def read_similarity(nearest: Path, images: int) -> np.ndarray:
    """Similarity of each test image to its nearest training image: float64 (images,), -1 to 1; checks the table."""
    remedy = "`dvc repro evidence/dvc.yaml:near_duplicates` writes it again."
    try:
        rows = [(int(row["test_index"]), float(row["similarity"])) for row in read_csv(nearest)]
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"cannot read {nearest}, a table of nearest images: {error!r}. {remedy}") from None
    if [index for index, _ in rows] != list(range(images)):
        expected = f"each of the {images:,} test images once and in order"
        raise PipelineError(f"{nearest} must list {expected}, got {len(rows):,} rows. {remedy}")
    similarity = np.array([value for _, value in rows])
    invalid = similarity[~(np.abs(similarity) < 1.001)]  # NaN too; rounding can give slightly more than 1
    if len(invalid):
        raise PipelineError(f"{nearest} has the similarity {invalid[0]}, expected -1 to 1. {remedy}")
    return similarity


def measure_parts(values: np.ndarray, correct: np.ndarray, parts: int) -> list[Part]:
    """Accuracy on parts with equal numbers of images, from the lowest values to the highest.

    Images with equal values are in the same part, so a part can be missing.
    """
    edges = np.quantile(values, np.arange(1, parts) / parts)
    part_of = np.searchsorted(edges, values, side="left")  # 0 to parts - 1; a value on an edge is below it
    groups = [(part, part_of == part) for part in np.unique(part_of)]
    return [
        {
            "part": int(part) + 1,
            "low": round(float(values[inside].min()), 4),
            "high": round(float(values[inside].max()), 4),
            "images": int(inside.sum()),
            **wilson_interval("accuracy", correct[inside].sum(), inside.sum()),
        }
        for part, inside in groups
    ]


def draw_slices(measured: dict[str, list[Part]], overall: float, path: Path) -> None:
    """Draw one panel per slice: accuracy of its parts with 95 % intervals, and the accuracy of all images as a line."""
    # 1280 pixels wide, readable at a width of 400
    figure = new_figure(12.8, 10.5)
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.15)
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (name, (title, *ends)) in zip(panels.flat, SLICES.items(), strict=True):
        keys = ("part", "accuracy", "accuracy_low", "accuracy_high")
        numbers, accuracy, low, high = np.array([[part[key] for part in measured[name]] for key in keys])
        axes.axhline(overall, color="#8c959f", linewidth=3, zorder=0)
        errors = (accuracy - low, high - accuracy)
        axes.errorbar(numbers, accuracy, errors, fmt="o", color="#0969da", markersize=11, capsize=8, linewidth=3)
        axes.set_title(title, fontsize=28)
        axes.set_xticks([numbers.min(), numbers.max()], ends)
        axes.tick_params(labelsize=24)
        axes.margins(x=0.15)
    figure.supylabel("accuracy on test", fontsize=26)
    figure.supxlabel(f"parts with equal numbers of images; grey line: all images, {overall:.3f}", fontsize=24)
    figure.savefig(path, dpi=100, metadata=NO_VERSION)


if __name__ == "__main__":
    run_stage(slices, SlicesParams)
