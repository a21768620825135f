"""A sheet of pairs of images side by side."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.pictures import INK, PAPER, WRONG

SIDE = 96  # pixels; a 32-pixel image drawn at three times its size
COLUMNS = 6  # pairs; the sheet is then as wide as a laptop's screen
BETWEEN, AROUND = 2, 18  # pixels between the images of a pair, and between pairs
FONT_SIZE, LINE = 13, 16  # pixels

Half = tuple[np.ndarray, list[tuple[str, str]]]


def pair_sheet(left: Half, right: Half) -> Image.Image:
    """Pairs in rows of `COLUMNS`, each image with its name and its label below it; labels that differ stand in red.

    Args:
        left, right: images, uint8 (n, 32, 32, 3), RGB, and for each its name and its label.
    """
    width, height = 2 * SIDE + BETWEEN + AROUND, SIDE + 2 * LINE + AROUND
    rows = -(-len(left[0]) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + AROUND, max(rows, 1) * height + AROUND), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    if not rows:
        draw.text((AROUND, AROUND), "No pair of images is alike enough to be listed.", INK, font)
    for number, pair in enumerate(zip(zip(*left, strict=True), zip(*right, strict=True), strict=True)):
        across, down = AROUND + number % COLUMNS * width, AROUND + number // COLUMNS * height
        unlike = pair[0][1][1] != pair[1][1][1]
        for place, (image, (name, label)) in enumerate(pair):
            x = across + place * (SIDE + BETWEEN)
            sheet.paste(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x, down))
            draw.text((x, down + SIDE + 1), name, INK, font)
            draw.text((x, down + SIDE + 1 + LINE), label, WRONG if unlike else INK, font)
    return sheet
