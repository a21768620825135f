"""The pictures of evaluate."""

from pathlib import Path

import numpy as np

from pipeline.calibration import calibration_error
from pipeline.pictures import NO_VERSION, RIGHT, WRONG, captioned_grid
from pipeline.splits import Split


def draw(split: Split, scores: np.ndarray, before: list[dict], after: list[dict], count: int, folder: Path) -> None:
    """Write confusion_matrix.png, reliability.png, predictions.png (evenly over the split) and mistakes.png (most confident first).

    Args:
        scores: float32 (n, classes), rows sum to 1.
        before, after: rows of `reliability` without and with the temperature.
        count: images on each of the last two.
    """
    folder.mkdir()
    predicted = scores.argmax(1)
    wrong = np.flatnonzero(predicted != split.labels)
    chosen = {
        "predictions": np.linspace(0, len(predicted) - 1, min(count, len(predicted)), dtype=int),
        "mistakes": wrong[np.argsort(-scores.max(1)[wrong], kind="stable")][:count],
    }
    for name, indices in chosen.items():
        names = split.class_names
        captions = [
            (
                f"{names[predicted[i]]} {scores[i].max():.0%}",
                "" if predicted[i] == split.labels[i] else f"is {names[split.labels[i]]}",
            )
            for i in indices
        ]
        colours = [RIGHT if predicted[i] == split.labels[i] else WRONG for i in indices]
        captioned_grid(split.images[indices], captions, colours).save(folder / f"{name}.png")
    draw_confusion(split.labels, predicted, split.class_names.tolist(), folder / "confusion_matrix.png")
    draw_reliability(before, after, folder / "reliability.png")


def draw_confusion(labels: np.ndarray, predicted: np.ndarray, class_names: list[str], path: Path) -> None:
    """Draw counts by actual class (rows) and predicted class (columns), shaded by share of the row.

    Args:
        labels, predicted: whole numbers (n,), 0 to classes - 1.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7.5, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Test images by actual and predicted class")
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    figure.savefig(path, dpi=110, metadata=NO_VERSION)


def draw_reliability(before: list[dict], after: list[dict], path: Path) -> None:
    """Draw accuracy against confidence without and with the temperature, and how many images have which confidence.

    Args:
        before, after: rows of `reliability`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 1], [0, 1], color="#8c959f", linestyle="--", label="means what it says")
    for rows, name, colour in ((before, "without the temperature", "#bf8700"), (after, "with it", "#0969da")):
        confidence, accuracy, images = ([row[key] for row in rows] for key in ("confidence", "accuracy", "images"))
        label = f"{name}: error {calibration_error(rows):.3f}"
        upper.plot(confidence, accuracy, marker="o", color=colour, label=label)
        lower.plot(confidence, images, marker="o", color=colour)
    upper.set(
        ylabel="accuracy", title="Is a probability what it says? Test images by confidence", xlim=(0, 1), ylim=(0, 1)
    )
    lower.set(xlabel="confidence (probability of the class named)", ylabel="images")
    upper.legend(loc="upper left")
    figure.savefig(path, dpi=110, metadata=NO_VERSION)
