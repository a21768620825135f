"""Sheets of images from the data set, and the style that plots and sheets share."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.splits import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE = 64  # pixels; a 32-pixel image at twice its size
ROWS = 40  # of a contact sheet, at most
GAP = 6  # pixels
LINE = 15  # pixels; height of a line of text
FONT_SIZE = 12
LONGEST = 24  # characters of a name
INK, PAPER = "#202020", "#ffffff"
CORRECT, INCORRECT = "#1a7f37", "#cf222e"  # colours of captions
NO_VERSION = {"Software": None}  # PNG metadata without Matplotlib's version: equal plots give equal bytes


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure with constrained layout; sizes in inches. Matplotlib has its default settings from now on."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(matplotlib.rcParamsDefault)  # it has read ./matplotlibrc
    matplotlib.rc("font", family="DejaVu Sans")  # Matplotlib contains it; other fonts depend on the machine
    matplotlib.rc("svg", hashsalt="0")  # the ids in an SVG are random without it
    matplotlib.rc("text", parse_math=False)  # a name may contain $
    warnings.filterwarnings("ignore", "Glyph")  # a character that the font does not have is drawn as a box
    return Figure(figsize=(width, height), layout="constrained")


def shortened(name: str) -> str:
    """A class name as text in a plot: a long one is cut."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def draw_contact_sheet(split: Split, columns: int = 10) -> Image.Image:
    """The first `columns` images of each class, one row per class with its name.

    Of more than `ROWS` classes, that many are shown, evenly spaced, and a first line says so.
    """
    font, classes = ImageFont.load_default(FONT_SIZE), len(split.class_names)
    shown = np.linspace(0, classes - 1, min(classes, ROWS), dtype=int)
    names = [shortened(name) for name in split.class_names[shown]]
    label_width = 10 + max(int(font.getlength(name)) for name in names)
    above = LINE + GAP if len(shown) < classes else 0  # height of the first line
    sheet = Image.new("RGB", (label_width + columns * (TILE + GAP), above + len(shown) * (TILE + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    if above:
        draw.text((GAP, GAP), f"{len(shown)} of {classes:,} classes", INK, font)
    for row, (label, name) in enumerate(zip(shown, names, strict=True)):
        top = above + GAP + row * (TILE + GAP)
        draw.text((GAP, top + (TILE - LINE) // 2), name, INK, font)
        for column, index in enumerate(np.flatnonzero(split.labels == label)[:columns]):
            sheet.paste(enlarged(split.images[index], TILE), (label_width + column * (TILE + GAP), top))
    return sheet


def captioned_grid(
    images: np.ndarray, captions: Sequence[Sequence[str]], colours: Sequence[str], columns: int = 5
) -> Image.Image:
    """RGB images, uint8 (n, side, side, 3), in rows of `columns`, with captions (of equally many lines) below them."""
    font = ImageFont.load_default(FONT_SIZE)
    lines = max(map(len, captions), default=0)
    width = GAP + max([2 * TILE, *(GAP + int(font.getlength(line)) for caption in captions for line in caption)])
    height = 2 * TILE + lines * LINE + 2 * GAP
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * width + GAP, max(rows, 1) * height + GAP), PAPER)
    draw = ImageDraw.Draw(grid)
    for number, (image, caption, colour) in enumerate(zip(images, captions, colours, strict=True)):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        grid.paste(enlarged(image, 2 * TILE), (left, top))
        draw.multiline_text((left, top + 2 * TILE + 2), "\n".join(caption), colour, font, spacing=2)
    return grid


def enlarged(image: np.ndarray, side: int) -> Image.Image:
    """A square image, uint8 (height, width, 3), RGB, scaled to `side` pixels by bicubic interpolation."""
    return Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
