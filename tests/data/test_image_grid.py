import subprocess
import sys
import warnings

import numpy as np
import pytest
from hostile_settings import FILES, hostile_settings
from PIL import Image
from projects import ROOT

from pipeline.data.image_grid import GAP, LINE, TILE, captioned_grid, draw_contact_sheet, shortened
from pipeline.data.splits import Split
from pipeline.data.synthetic import CLASS_NAMES
from pipeline.evaluation.plots import draw_test_plots


def test_the_contact_sheet_has_a_row_per_class_with_images_of_that_class():
    labels = np.arange(10, dtype=np.uint8)
    images = np.repeat(labels * 20, 32 * 32 * 3).reshape(10, 32, 32, 3)  # class k is grey level 20 k
    sheet = np.asarray(draw_contact_sheet(Split(images, labels, labels, np.array(CLASS_NAMES), ""), columns=1))
    middle = sheet[GAP + TILE // 2 :: TILE + GAP, -GAP - TILE // 2, 0]
    assert middle.tolist() == (labels * 20).tolist()


@pytest.mark.parametrize(("classes", "rows"), [(2, 2), (40, 40), (120, 40), (1000, 40)])
def test_a_contact_sheet_has_at_most_40_rows_of_evenly_spaced_classes(classes, rows):
    labels = np.arange(1, classes, dtype=np.uint16)  # class 0 has no image
    images = np.broadcast_to((labels % 251).astype(np.uint8)[:, None, None, None], (classes - 1, 48, 48, 3))
    names = np.array([f"class {number}" for number in range(classes)])
    sheet = np.asarray(draw_contact_sheet(Split(images, labels, labels, names, ""), columns=2))
    above = LINE + GAP if classes > rows else 0
    first, second = (
        sheet[above + GAP + TILE // 2 :: TILE + GAP, -x, 0] for x in (2 * (TILE + GAP) - 9, TILE // 2 + GAP)
    )
    shown = np.linspace(0, classes - 1, rows).astype(int)
    assert first.tolist() == [255, *(shown[1:] % 251)]
    assert set(second.tolist()) == {255}  # each class has one image
    assert sheet.shape[0] == above + rows * (TILE + GAP) + GAP < 3000
    assert (sheet[: LINE + GAP, :40] < 128).any() == bool(above)


def test_each_image_has_its_caption_below_it_in_its_colour():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    grid = np.asarray(captioned_grid(images, [("cat", "")] * 3, ["#ff0000"] * 3, columns=2))
    red = (grid == (255, 0, 0)).all(-1)
    assert grid.shape[0] > 2 * 2 * TILE  # two rows
    assert red.any()
    assert not red[: 2 * TILE].any()


def test_without_images_the_sheet_is_empty():
    assert captioned_grid(np.zeros((0, 32, 32, 3), np.uint8), [], []).size[0] > 0


BINS = [{"confidence": 0.5, "accuracy": 0.5, "images": 6}]
ODD_NAMES = ["$x_{$", "猫 🐱", "n" * 100, "<b>", "\\frac{1}{2}", "{0} %s"]


def test_every_class_name_can_be_drawn_in_bounds_and_without_a_warning(tmp_path):
    labels = np.arange(6, dtype=np.uint8)
    split = Split(np.zeros((6, 32, 32, 3), np.uint8), labels, labels, np.array(ODD_NAMES), "")
    assert draw_contact_sheet(split, columns=1).width < 400
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_test_plots(split, np.eye(6, dtype=np.float32)[[1, 2, 3, 4, 5, 0]], BINS, BINS, 6, tmp_path / "plots")
    assert Image.open(tmp_path / "plots/mistakes.png").width < 2000
    assert shortened("n" * 100) == "n" * 23 + "…"


DRAW = """
from pathlib import Path
from pipeline.common.errors import exit_on_error
from pipeline.evidence.learning_curves import draw_curves
from pipeline.slices import SLICES, draw_slices
with exit_on_error("draw"):
    rows = [{"part": i, "accuracy": i / 4, "accuracy_low": i / 8, "accuracy_high": i / 3} for i in (1, 2, 3)]
    draw_slices(dict.fromkeys(SLICES, rows), 0.5, Path("plot.png"))
    names = ("accuracy", "loss", "validation_accuracy", "validation_loss")
    curves = [{"epoch": str(i)} | dict.fromkeys(names, str(i)) for i in (1, 2)]
    Path("curves.svg").write_text(draw_curves(curves))
"""


def test_plots_have_the_same_bytes_whatever_style_the_user_has(tmp_path):
    """Also with a matplotlibrc in the working directory, which Matplotlib reads first."""
    plots = {}
    for user, settings in {"plain": {}, "styled": hostile_settings(tmp_path / "home")}.items():
        folder = tmp_path / user
        folder.mkdir()
        if settings:
            (folder / "matplotlibrc").write_text(FILES[".config/matplotlib/matplotlibrc"])
        environment = {"PATH": "", "PYTHONPATH": str(ROOT)} | settings | {"PYTHONWARNINGS": ""}
        subprocess.run([sys.executable, "-c", DRAW], cwd=folder, env=environment, check=True)
        plots[user] = [(folder / name).read_bytes() for name in ("plot.png", "curves.svg")]
    assert plots["plain"] == plots["styled"]
