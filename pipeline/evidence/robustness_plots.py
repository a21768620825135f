"""Plots of robustness: accuracy by severity, and one image under every corruption."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.image_grid import CORRECT, INCORRECT, NO_VERSION, captioned_grid, new_figure, shortened
from pipeline.data.splits import Split
from pipeline.evidence.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from pipeline.onnx.session import predict_probabilities

if TYPE_CHECKING:
    import onnxruntime
    from matplotlib.axes import Axes

LABEL_GAP = 0.032  # between two names in the plot at least, as a share of the range of accuracies
TILES_IN_A_ROW = 8  # two corruptions, each after the clean image


def draw_accuracies(clean: dict[str, float], by_corruption: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw accuracy and its 95 % interval by severity, one line per corruption with its name at the end."""
    lines = {name: [clean, *accuracies] for name, accuracies in by_corruption.items()}
    names = sorted(lines, key=lambda name: -lines[name][-1]["accuracy"])
    gap = LABEL_GAP * np.ptp([value for line in lines.values() for point in line for value in point.values()])
    label_heights = spread([lines[name][-1]["accuracy"] for name in names], gap)
    figure = new_figure(8, 5.5)
    axes = figure.subplots()
    for number, (name, label_height) in enumerate(zip(names, label_heights, strict=True)):
        draw_line(axes, name, lines[name], f"C{number}", label_height)
    axes.set_xticks([0, *SEVERITIES], ["clean", *map(str, SEVERITIES)])
    axes.set(xlabel="severity", ylabel="accuracy", xlim=(-0.08, 3.75), title="Accuracy on corrupted test images")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata=NO_VERSION)


def draw_line(axes: "Axes", name: str, line: list[dict[str, float]], colour: str, label_height: float) -> None:
    """Draw the line of one corruption, with its name at `label_height`, an accuracy."""
    severities = [0, *SEVERITIES]
    accuracies, low, high = ([point[key] for point in line] for key in ("accuracy", "accuracy_low", "accuracy_high"))
    axes.plot(severities, accuracies, color=colour, linewidth=1.8, marker="o", markersize=4)
    axes.fill_between(severities, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.annotate(
        f"{name} {accuracies[-1]:.0%}",
        (severities[-1], accuracies[-1]),
        (severities[-1] + 0.12, label_height),
        color=colour,
        va="center",
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
    )


def spread(heights: list[float], gap: float) -> np.ndarray:
    """The positions at least `gap` apart that are nearest to `heights` (descending) in least squares."""
    from sklearn.isotonic import isotonic_regression

    steps = gap * np.arange(len(heights))
    return isotonic_regression(np.array(heights) + steps, increasing=False) - steps


def draw_examples(session: "onnxruntime.InferenceSession", example: Split, seed: int, path: Path) -> None:
    """Draw the one image of `example` under every corruption and severity; incorrect predictions are red."""
    names, label = [shortened(name) for name in example.class_names], example.labels[0]
    side = example.side
    tiles, captions = [], []
    for name, corruption in CORRUPTIONS.items():
        tiles += [example.images, *(corrupted(example.images, name, severity, [seed, 0]) for severity in SEVERITIES)]
        captions.append(("clean", f"label: {names[label]}"))
        captions += [(f"{name} {n}", corruption.description.format(corruption.value(n, side))) for n in SEVERITIES]
    images = np.concatenate(tiles)
    probabilities = predict_probabilities(session, images, len(images))
    predictions = [f"{names[row.argmax()]} {row.max():.0%}" for row in probabilities]
    colours = [CORRECT if predicted == label else INCORRECT for predicted in probabilities.argmax(1)]
    with_predictions = [(*each, text) for each, text in zip(captions, predictions, strict=True)]
    captioned_grid(images, with_predictions, colours, TILES_IN_A_ROW).save(path, "PNG")
