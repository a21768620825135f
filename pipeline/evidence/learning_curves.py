"""Learning curves as an SVG image."""

from collections.abc import Sequence
from io import StringIO

from markupsafe import Markup

from pipeline.data.image_grid import new_figure


def draw_curves(rows: Sequence[dict[str, str]]) -> Markup:
    """Accuracy and loss by epoch from the rows of curves.csv, as SVG; equal curves give equal text."""
    figure, text = new_figure(9, 3.6), StringIO()
    epochs = [int(row["epoch"]) for row in rows]
    for axes, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for key, label, colour in ((name, "training", "#8250df"), (f"validation_{name}", "validation", "#0969da")):
            axes.plot(epochs, [float(row[key]) for row in rows], marker="o", markersize=3, color=colour, label=label)
        axes.set(xlabel="epoch", title=name)
        axes.locator_params("x", integer=True)
        axes.legend()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return Markup(svg[svg.index("<svg") :])  # without the XML declaration, which a page must not contain
