"""Pictures of robustness: accuracy against strength, and one image under every corruption."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corruptions import CORRUPTIONS, STRENGTHS, corrupted
from pipeline.onnx_model import probabilities
from pipeline.pictures import NO_VERSION, RIGHT, WRONG, captioned_grid
from pipeline.splits import Split

LABEL_GAP = 0.032  # least distance of two names in the plot, as a share of the accuracies' range
TILES_IN_A_ROW = 8  # two corruptions, each with the clean image before it


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy and its 95 % interval against strength, a line for each corruption with its name at the end.

    Args:
        rows: of the table, the clean images' first.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    lines = {name: [rows[0], *(row for row in rows if row["corruption"] == name)] for name in CORRUPTIONS}
    names = sorted(lines, key=lambda name: -lines[name][-1]["accuracy"])
    span = max(row["accuracy_high"] for row in rows) - min(row["accuracy_low"] for row in rows)
    places = spread([lines[name][-1]["accuracy"] for name in names], LABEL_GAP * span)
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for colour, name, place in zip(colormaps["tab10"].colors, names, places, strict=True):
        draw_line(axes, name, lines[name], colour, place)
    axes.set_xticks([0, *STRENGTHS], ["clean", *map(str, STRENGTHS)])
    axes.set(xlabel="strength", ylabel="accuracy", xlim=(-0.08, 3.75), title="Accuracy on corrupted test images")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata=NO_VERSION)


def draw_line(axes: Any, name: str, line: list[dict[str, Any]], colour: Any, place: float) -> None:
    """Draw one corruption's line, its name at the height `place`."""
    strengths, accuracies, low, high = (
        [row[key] for row in line] for key in ("strength", "accuracy", "accuracy_low", "accuracy_high")
    )
    axes.plot(strengths, accuracies, color=colour, linewidth=1.8, marker="o", markersize=4)
    axes.fill_between(strengths, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.annotate(
        f"{name} {accuracies[-1]:.0%}",
        (strengths[-1], accuracies[-1]),
        (strengths[-1] + 0.12, place),
        color=colour,
        va="center",
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
    )


def spread(heights: list[float], gap: float) -> np.ndarray:
    """Places at least `gap` apart, in least squares nearest to `heights`, which fall."""
    from sklearn.isotonic import isotonic_regression

    steps = gap * np.arange(len(heights))
    return isotonic_regression(np.array(heights) + steps, increasing=False) - steps


def draw_examples(session: Any, example: Split, seed: int, path: Path) -> None:
    """Draw an image under every corruption and strength, with what the model says to each, red where it is wrong.

    Args:
        example: one image.
    """
    shown, told = [], []
    for name, corruption in CORRUPTIONS.items():
        shown += [example.images, *(corrupted(example.images, name, strength, [seed, 0]) for strength in STRENGTHS)]
        told.append(("clean", f"is {example.class_names[example.labels[0]]}"))
        told += [(f"{name} {n}", corruption.told.format(corruption.strengths[n - 1])) for n in STRENGTHS]
    images = np.concatenate(shown)
    scores = probabilities(session, images, len(images))
    captions = [
        (*lines, f"{example.class_names[row.argmax()]} {row.max():.0%}")
        for lines, row in zip(told, scores, strict=True)
    ]
    colours = [RIGHT if row.argmax() == example.labels[0] else WRONG for row in scores]
    captioned_grid(images, captions, colours, TILES_IN_A_ROW).save(path, "PNG")
