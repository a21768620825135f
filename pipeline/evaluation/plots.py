"""Plots and image sheets of the evaluate stage."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipeline.data.image_grid import CORRECT, GAP, INCORRECT, NO_VERSION, captioned_grid, new_figure, shortened
from pipeline.data.splits import Split
from pipeline.evaluation.reliability import Bin, calibration_error

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110  # of the plots
NUMBERED = 25  # classes; a confusion matrix of more has no numbers
TICKS = 40  # names on an axis of one without numbers
SHADED = 800  # pixels; width of a confusion matrix without numbers, unless it has more classes
LEFT, RIGHT, BELOW, ABOVE = 230, 120, 210, 40  # pixels around it


def draw_test_plots(
    split: Split, probabilities: np.ndarray, before: list[Bin], after: list[Bin], count: int, folder: Path
) -> None:
    """Write confusion_matrix.png, reliability.png, predictions.png and mistakes.png to a new folder.

    `before` and `after` are reliability bins without and with the temperature. predictions.png has `count` images,
    evenly spaced over the split, and mistakes.png has `count` incorrect ones, the highest probability first.
    """
    folder.mkdir()
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    evenly = np.linspace(0, len(predicted) - 1, min(count, len(predicted)), dtype=int)
    mistakes = np.flatnonzero(predicted != split.labels)
    mistakes = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:count]
    for name, indices in (("predictions", evenly), ("mistakes", mistakes)):
        draw_predictions(split, predicted, confidence, indices).save(folder / f"{name}.png")
    draw_confusion_matrix(split.labels, predicted, split.class_names.tolist(), folder / "confusion_matrix.png")
    draw_reliability(before, after, folder / "reliability.png")


def draw_predictions(split: Split, predicted: np.ndarray, confidence: np.ndarray, indices: np.ndarray) -> Image.Image:
    """The images at `indices` with the predicted class, its probability, and the label if that is another class."""
    names, correct = [shortened(name) for name in split.class_names], predicted == split.labels
    captions = [
        (f"{names[predicted[i]]} {confidence[i]:.0%}", "" if correct[i] else f"label: {names[split.labels[i]]}")
        for i in indices
    ]
    return captioned_grid(split.images[indices], captions, [CORRECT if correct[i] else INCORRECT for i in indices])


def draw_confusion_matrix(labels: np.ndarray, predicted: np.ndarray, class_names: list[str], path: Path) -> None:
    """Draw the number of images by actual class (rows) and predicted class (columns), shaded by share of the row.

    For more than `NUMBERED` classes there are no numbers, only the shades.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [shortened(name) for name in class_names]
    figure = numbered_matrix(counts, shares, names) if len(names) <= NUMBERED else shaded_matrix(shares, names)
    figure.savefig(path, dpi=DPI, metadata=NO_VERSION)


def numbered_matrix(counts: np.ndarray, shares: np.ndarray, names: list[str]) -> "Figure":
    figure = new_figure(7.5, 7)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted class", ylabel="actual class", title="Confusion matrix, number of test images")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=9)
    return figure


def shaded_matrix(shares: np.ndarray, names: list[str]) -> "Figure":
    """A square of equally many pixels for each share, and the names of at most `TICKS` classes."""
    from matplotlib.colors import PowerNorm

    pixels = len(names) * max(1, SHADED // len(names))
    width, height = LEFT + pixels + RIGHT, BELOW + pixels + ABOVE
    figure = new_figure(width / DPI, height / DPI)
    figure.set_layout_engine("none")
    axes = figure.add_axes((LEFT / width, BELOW / height, pixels / width, pixels / height))
    scale = figure.add_axes(((LEFT + pixels + GAP) / width, BELOW / height, 2 * GAP / width, pixels / height))
    shade = PowerNorm(0.5, 0, 1)  # shows small shares
    image = axes.imshow(shares, cmap="Blues", norm=shade, interpolation="nearest")
    figure.colorbar(
        image, scale, label="share of the images of the actual class", ticks=[0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1]
    )
    axes.set(xlabel="predicted class", ylabel="actual class", title=f"Confusion matrix of {len(names):,} classes")
    for spine in axes.spines.values():
        spine.set(visible=False, position=("outward", 1))  # neither it nor the ticks cover a cell
    step = -(-len(names) // TICKS)
    axes.set_xticks(range(0, len(names), step), names[::step], rotation=45, ha="right")
    axes.set_yticks(range(0, len(names), step), names[::step])
    return figure


def draw_reliability(before: list[Bin], after: list[Bin], path: Path) -> None:
    """Draw accuracy against confidence without and with the temperature, and the number of images in each bin."""
    figure = new_figure(6, 6.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color="#8c959f", linestyle="--", label="perfect calibration")
    for bins, name, colour in ((before, "without temperature", "#bf8700"), (after, "with temperature", "#0969da")):
        confidence = [each["confidence"] for each in bins]
        label = f"{name}: calibration error {calibration_error(bins):.3f}"
        upper.plot(confidence, [each["accuracy"] for each in bins], marker="o", color=colour, label=label)
        lower.plot(confidence, [each["images"] for each in bins], marker="o", color=colour)
    upper.set(ylabel="accuracy", title="Reliability diagram, test split", xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel="confidence (probability of the predicted class)", ylabel="images")
    upper.legend(loc="upper left")
    figure.savefig(path, dpi=DPI, metadata=NO_VERSION)
