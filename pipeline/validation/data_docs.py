"""Data Docs: one page about the validation of the data, for readers who do not know the tools."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.html.page import render
from pipeline.validation.image_statistics import STATISTICS
from pipeline.validation.reference import QUANTILES

if TYPE_CHECKING:
    from pipeline.validation.expectations import Outcome

PAGES = "great_expectations"  # folder of the pages of Great Expectations, beside ours
RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME, NO_TIME = re.compile(r"\d{8}T\d{6}\.\d{6}Z"), "19800101T000000.000000Z"
BINS, WIDTH, HEIGHT = 40, 240, 90  # of a histogram
SVG = Markup(
    '<svg viewBox="0 0 {} {}"><rect width="100%" height="100%" fill="#f6f8fa"/><path fill="#9ec5fe" d="{}Z"/>'
    '<path fill="none" stroke="#b35900" stroke-width="1.5" d="{}"/></svg>'
)


def write_page(
    folder: Path, facts: Mapping[str, str], outcomes: dict[str, list["Outcome"]], histograms: dict[str, Markup]
) -> None:
    """Write index.html, with links to the pages of Great Expectations in folder `PAGES` beside it.

    Args:
        facts: about the data, shown below the title.
        outcomes: by table; tables that were not checked are absent.
        histograms: from `draw_histograms`; empty if the images could not be measured.
    """
    pages = {table: next((folder / PAGES / "validations" / table).rglob("*.html")) for table in outcomes}
    text = render(
        "data_docs",
        facts=facts,
        outcomes=outcomes,
        histograms=histograms,
        pages=PAGES,
        links={table: page.relative_to(folder) for table, page in pages.items()},
        failed={table: sum(not outcome.success for outcome in each) for table, each in outcomes.items()},
        count=sum(map(len, outcomes.values())),
    )
    (folder / "index.html").write_text(text, encoding="utf-8")


def number_ids(folder: Path) -> None:
    """Number the random ids in the pages of Great Expectations, and fix the times: equal data gives equal pages."""
    for page in folder.rglob("*.html"):
        text = TIME.sub(NO_TIME, page.read_text(encoding="utf-8"))
        for number, random_id in enumerate(dict.fromkeys(RANDOM_ID.findall(text))):
            text = text.replace(random_id, str(UUID(int=number)))
        page.write_text(text, encoding="utf-8")


def draw_histograms(images: pd.DataFrame, quantiles: dict[str, list[float]] | None) -> dict[str, Markup]:
    """By caption, a histogram of an image statistic over the training images, with another distribution as a line.

    Args:
        images: from `tables.image_table`.
        quantiles: of the reference's training images by statistic, at `QUANTILES`; None: the line is the test images.
    """
    parts, figures = dict(list(images.groupby("part"))), {}
    for name in STATISTICS:
        values = np.quantile(parts["training"][name], QUANTILES)
        other = np.quantile(parts["test"][name], QUANTILES) if quantiles is None else np.array(quantiles[name])
        low, high = min(values[1], other[1]), max(values[-2], other[-2])
        space = 0 if low < high else 0.5  # around the value that all images have
        edges = np.linspace(low - space, high + space, BINS + 1)
        shares = [_shares(each, edges) for each in (values, other)]
        highest = max(np.max(shares), 1e-12)
        svg = SVG.format(WIDTH, HEIGHT, *(_outline(each / highest) for each in shares))
        figures[f"{name}, {edges[0]:.3g} to {edges[-1]:.3g}"] = svg
    return figures


def _shares(quantiles: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the images between neighbouring edges: float64 (bins,)."""
    values, last = np.unique(quantiles[::-1], return_index=True)  # the last of equal values
    return np.diff(np.interp(edges, values, QUANTILES[::-1][last], left=0, right=1))


def _outline(heights: np.ndarray) -> str:
    """The upper edge of a histogram as an SVG path, from heights between 0 and 1."""
    right, down = np.arange(BINS + 1).repeat(2)[1:-1] * WIDTH / BINS, HEIGHT * (1 - 0.95 * heights.repeat(2))
    steps = " ".join(f"L{x:.4g} {y:.1f}" for x, y in zip(right, down, strict=True))
    return f"M0 {HEIGHT} {steps} L{WIDTH} {HEIGHT}"
