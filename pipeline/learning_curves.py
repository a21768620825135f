"""Learning curves as a picture within a page."""

from io import StringIO
from typing import Any


def draw_curves(rows: list[dict[str, str]]) -> str:
    """Accuracy and loss by epoch, on training and on validation images, as SVG.

    Args:
        rows: of curves.csv.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure, text = Figure(figsize=(9, 3.6), layout="constrained"), StringIO()
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _draw(axes, rows, name)
    with rc_context({"svg.hashsalt": "0"}):  # equal curves, equal bytes
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg") :]  # without the head of a file of its own


def _draw(axes: Any, rows: list[dict[str, str]], name: str) -> None:
    epochs = [int(row["epoch"]) for row in rows]
    for key, label, colour in ((name, "training", "#8250df"), (f"validation_{name}", "validation", "#0969da")):
        axes.plot(epochs, [float(row[key]) for row in rows], marker="o", markersize=3, color=colour, label=label)
    axes.set(xlabel="epoch", title=name)
    axes.legend()
