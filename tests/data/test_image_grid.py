import numpy as np

from pipeline.data.image_grid import GAP, TILE, captioned_grid, draw_contact_sheet
from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES


def test_the_contact_sheet_has_a_row_per_class_with_images_of_that_class():
    labels = np.arange(10, dtype=np.uint8)
    images = np.repeat(labels * 20, 32 * 32 * 3).reshape(10, 32, 32, 3)  # class k is grey level 20 k
    sheet = np.asarray(draw_contact_sheet(Split(images, labels, labels, np.array(CLASS_NAMES), ""), columns=1))
    middle = sheet[GAP + TILE // 2 :: TILE + GAP, -GAP - TILE // 2, 0]
    assert middle.tolist() == (labels * 20).tolist()


def test_each_image_has_its_caption_below_it_in_its_colour():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    grid = np.asarray(captioned_grid(images, [("cat", "")] * 3, ["#ff0000"] * 3, columns=2))
    red = (grid == (255, 0, 0)).all(-1)
    assert grid.shape[0] > 2 * 2 * TILE  # two rows
    assert red.any()
    assert not red[: 2 * TILE].any()


def test_without_images_the_sheet_is_empty():
    assert captioned_grid(np.zeros((0, 32, 32, 3), np.uint8), [], []).size[0] > 0
