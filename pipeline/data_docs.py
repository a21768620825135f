"""The page on what was validated, for a reader who knows none of the tools: one file, readable without a network."""

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.appearance import MEASURES
from pipeline.drift import QUANTILES

TABLES = {  # title and introduction of each part of the page
    "splits": (
        "The three files",
        "Train, validation and test as a whole: nothing else can be measured if these are wrong.",
    ),
    "images": ("Every image", "Each image by itself; training counts the held-back validation images too."),
    "parts": ("All images together", "Figures over all training images, and over all test images."),
    "classes": ("The classes", "How many images each class has; a share of 1 is an even share."),
    "drift": (
        "Against the reference",
        "What moved since the reference was kept. Each figure is the smallest share of images that must have changed "
        "to explain the difference, less what chance alone explains.",
    ),
}
BINS, WIDTH, HEIGHT = 40, 240, 90  # of a picture
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1f2328;background:#fff;max-width:1100px;margin:0 auto;padding:16px}
h1{font-size:1.7em;margin:.3em 0}h2{margin:1.6em 0 .2em}p{margin:.4em 0 1em;overflow-wrap:anywhere}
.good{color:#1a7f37}.bad{color:#cf222e}.verdict{font-size:1.2em;font-weight:600}
table{border-collapse:collapse;width:100%;table-layout:fixed}td,th{text-align:left;vertical-align:top;padding:8px 10px;
border-top:1px solid #d0d7de;overflow-wrap:anywhere}th{color:#59636e;font-weight:600}th:first-child{width:2em}tr.failed{background:#ffebe9}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:16px}
figure{margin:0}figcaption{font-size:.85em;color:#59636e}svg{width:100%;background:#f6f8fa}
.this{fill:#9ec5fe}.other{fill:none;stroke:#b35900;stroke-width:1.5}footer{margin-top:2em;color:#59636e;font-size:.9em}
@media(max-width:700px){table,tbody,tr,td{display:block}tr.head{display:none}tr{border-top:1px solid #d0d7de;padding:8px 0}
td{border:0;padding:2px 10px}td[data-name]:before{content:attr(data-name) ": ";color:#59636e}}
"""


def write_page(path: Path, facts: dict[str, str], outcomes: dict[str, list], pictures: str, original: Path) -> None:
    """Write the page.

    Args:
        facts: what stands under the title, by name.
        outcomes: `expectations.Outcome` of each table that was checked.
        pictures: of `draw_measures`, or nothing.
        original: folder of Great Expectations' own pages, below the page's folder.
    """
    failed = sum(not outcome.success for each in outcomes.values() for outcome in each)
    count = sum(map(len, outcomes.values()))
    verdict = f"All {count} expectations are met." if not failed else f"{failed} of {count} expectations failed."
    lines = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Validation of the data</title><style>{STYLE}</style></head><body>",
        f'<h1>Validation of the data</h1><p class="verdict {"bad" if failed else "good"}">{verdict}</p>',
        "<p>An expectation is a statement that the data must meet before anything learns from it. "
        "Each says why it is there, what it wants and what was seen.</p>",
        "<p>" + "<br>".join(f"{escape(name)}: {escape(value)}" for name, value in facts.items()) + "</p>",
        _contents(outcomes),
        *(_section(table, outcomes[table], path.parent, original) for table in TABLES if table in outcomes),
        pictures,
        "<footer>Made from the results of Great Expectations. "
        f'<a href="{original.relative_to(path.parent)}/index.html">Its own pages</a> lie beside; '
        "they load their style from the network.</footer></body></html>",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _contents(outcomes: dict[str, list]) -> str:
    """A line of links to the tables, with how many expectations failed."""
    links = []
    for table in (table for table in TABLES if table in outcomes):
        failed = sum(not outcome.success for outcome in outcomes[table])
        told = f'<span class="bad">{failed} failed</span>' if failed else '<span class="good">all met</span>'
        links.append(f'<a href="#{table}">{TABLES[table][0]}</a>: {told}')
    return f"<p>{' · '.join(links)}</p>"


def _section(table: str, outcomes: list, folder: Path, original: Path) -> str:
    title, introduction = TABLES[table]
    page = next((original / "validations" / table).rglob("*.html")).relative_to(folder)
    rows = "\n".join(map(_row, sorted(outcomes, key=lambda outcome: outcome.success)))  # what failed stands first
    return (
        f'<h2 id="{table}">{title}</h2><p>{introduction} <a href="{page}">As Great Expectations shows it</a></p>'
        '<table><tr class="head"><th></th><th>why</th><th>expected</th><th>observed</th></tr>\n'
        f"{rows}</table>"
    )


def _row(outcome) -> str:
    sign = '<b class="good">✓</b>' if outcome.success else '<b class="bad">✗</b>'
    where = f" (in: {', '.join(map(str, outcome.keys))})" if outcome.keys else ""
    cells = {"why": outcome.reason, "expected": outcome.expected, "observed": outcome.observed + where}
    told = "".join(
        f'<td data-name="{name}" title="{escape(outcome.kind)}">{escape(text)}</td>' for name, text in cells.items()
    )
    return f'<tr class="{"met" if outcome.success else "failed"}"><td>{sign}</td>{told}</tr>'


def draw_measures(images: pd.DataFrame, quantiles: dict[str, list[float]] | None) -> str:
    """A histogram of each measure over the training images, with the reference's or else the test images' as a line.

    Args:
        images: of `features.image_table`.
        quantiles: of the reference's training images by measure, at `drift.QUANTILES`.
    """
    parts = dict(list(images.groupby("part")))
    line = "the test images" if quantiles is None else "the reference"
    figures = []
    for name in MEASURES:
        values = np.quantile(parts["training"][name], QUANTILES)
        other = np.quantile(parts["test"][name], QUANTILES) if quantiles is None else np.array(quantiles[name])
        edges = np.linspace(min(values[1], other[1]), max(values[-2], other[-2]), BINS + 1)
        if edges[0] == edges[-1]:  # all images alike
            edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
        shares = [_shares(kind, edges) for kind in (values, other)]
        figures.append(
            f"<figure>{_picture(*shares)}<figcaption>{name}, {edges[0]:.3g} to {edges[-1]:.3g}</figcaption></figure>"
        )
    return (
        f"<h2>What the images look like</h2><p>Blue: these training images. Orange line: {line}. Each picture spans "
        f'98 % of the images, from the lowest to the highest value.</p><div class="pictures">{"".join(figures)}</div>'
    )


def _shares(quantiles: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the images between neighbouring edges: float64 (bins,)."""
    values, last = np.unique(quantiles[::-1], return_index=True)  # of equal values the last counts
    return np.diff(np.interp(edges, values, QUANTILES[::-1][last], left=0, right=1))


def _picture(this: np.ndarray, other: np.ndarray) -> str:
    top = max(this.max(), other.max(), 1e-12)

    def steps(shares: np.ndarray) -> str:
        heights = HEIGHT * (1 - 0.95 * shares / top)
        corners = [(x, y) for place, y in enumerate(heights) for x in (place, place + 1)]
        return " ".join(f"L{x * WIDTH / BINS:.4g} {y:.1f}" for x, y in corners)

    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><path class="this" d="M0 {HEIGHT} {steps(this)} L{WIDTH} {HEIGHT}Z"/>'
        f'<path class="other" d="M0 {HEIGHT} {steps(other)} L{WIDTH} {HEIGHT}"/></svg>'
    )
