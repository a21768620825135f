"""The pieces of a page of HTML that needs no other file: tables, pictures, sections."""

import base64
import csv
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2328; background: #fff; margin: 0 auto; max-width: 1100px; padding: 0 16px 64px }
h1 { font-size: 28px; margin: 32px 0 8px }
h2 { font-size: 22px; margin: 48px 0 8px; border-bottom: 1px solid #d1d9e0; padding-bottom: 4px }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 16px 0 }
a { color: #0969da }
img, svg { height: auto; display: block; margin: 0 0 4px }
figure { margin: 16px 0; overflow-x: auto }
figcaption { color: #59636e; font-size: 14px }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 16px 0 }
.card { border: 1px solid #d1d9e0; border-radius: 8px; padding: 12px }
.card b { display: block; font-size: 24px; line-height: 1.3 }
.card span { color: #59636e; font-size: 14px }
.scroll { overflow-x: auto; margin: 16px 0 }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid #eaeef2; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top }
.facts td:first-child { min-width: 110px; color: #59636e }
"""


def page(title: str, sections: Mapping[str, str], head: str) -> str:
    """A whole page.

    Args:
        sections: HTML by title, in order; each is linked from the top.
        head: HTML between the title and the links.
    """
    anchors = {name: name.lower().replace(" ", "-") for name in sections}
    links = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, anchor in anchors.items())
    body = "".join(f'<h2 id="{anchors[name]}">{escape(name)}</h2>\n{content}\n' for name, content in sections.items())
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{head}\n<nav>{links}</nav>\n{body}</body>\n</html>\n"
    )


def picture(path: Path, caption: str, width: int = 1068) -> str:
    """A PNG file within the page, in a box that scrolls aside where the window is narrower.

    Args:
        width: pixels on the page at most.
    """
    content = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img style="max-width: {width}px" src="data:image/png;base64,{content}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(rows: Iterable[Mapping[str, object]], columns: Mapping[str, str]) -> str:
    """A table of some columns.

    Args:
        columns: head by key of the rows, in order.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    body = "".join("<tr>" + "".join(f"<td>{escape(str(row[key]))}</td>" for key in columns) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def fact_table(facts: Mapping[str, object]) -> str:
    """Facts with their names, a line each."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>\n" for name, value in facts.items())
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def cards(figures: Mapping[str, str]) -> str:
    """The figures to be seen first, by what they are."""
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
            for name, value in figures.items()
        )
        + "</div>"
    )


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text)}</p>"


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file, as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def share(row: Mapping[str, object], name: str) -> str:
    """A share in percent, with its 95 % interval where the row has it: 85.3 % (84.6 to 86.0)."""
    text = f"{100 * float(row[name]):.1f} %"
    if f"{name}_low" not in row:
        return text
    low, high = (100 * float(row[f"{name}_{bound}"]) for bound in ("low", "high"))
    return f"{text} ({low:.1f} to {high:.1f})"
