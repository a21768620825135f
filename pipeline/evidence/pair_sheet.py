"""A sheet of near duplicates, side by side."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.image_grid import INCORRECT, INK, PAPER, enlarged, shortened
from pipeline.data.splits import Split
from pipeline.evidence.matching import Pairs

SIDE = 96  # pixels of an image of any size; one of 32 pixels at three times its size
COLUMNS = 6  # pairs; the sheet is then as wide as the screen of a laptop
BETWEEN, AROUND = 2, 18  # pixels between the images of a pair, and between pairs
FONT_SIZE, LINE = 13, 16  # pixels


def draw_pair_sheet(pairs: Pairs, test: Split, training: Split, count: int) -> Image.Image:
    """The `count` best pairs, each test image only with its best near duplicate; different labels are red."""
    best = np.sort(np.unique(pairs.first, return_index=True)[1])[:count]
    width, height = 2 * SIDE + BETWEEN + AROUND, SIDE + 2 * LINE + AROUND
    rows = -(-len(best) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + AROUND, max(rows, 1) * height + AROUND), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    if not rows:
        draw.text((AROUND, AROUND), "No near duplicates were found.", INK, font)
    for number, (first, second) in enumerate(zip(pairs.first[best], pairs.second[best], strict=True)):
        x, y = AROUND + number % COLUMNS * width, AROUND + number // COLUMNS * height
        colour = INK if test.labels[first] == training.labels[second] else INCORRECT
        for name, split, index in (("test", test, first), ("training", training, second)):
            sheet.paste(enlarged(split.images[index], SIDE), (x, y))
            draw.text((x, y + SIDE + 1), f"{name} {index}", INK, font)
            draw.text((x, y + SIDE + 1 + LINE), shortened(split.class_names[split.labels[index]]), colour, font)
            x += SIDE + BETWEEN
    return sheet
