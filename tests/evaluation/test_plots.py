import numpy as np
import pytest
from PIL import Image

from pipeline.data.splits import Split
from pipeline.evaluation.plots import ABOVE, LEFT, draw_confusion_matrix, draw_test_plots
from pipeline.evaluation.reliability import reliability_bins


@pytest.mark.parametrize(("classes", "block"), [(26, 30), (120, 6), (1000, 1)])
def test_the_confusion_matrix_of_many_classes_has_an_equal_square_for_each_cell(tmp_path, classes, block):
    actual = np.arange(1, classes, dtype=np.uint16)  # class 0 has no image
    predicted = actual.copy()
    predicted[[4, 19]] = 0, classes - 1
    draw_confusion_matrix(actual, predicted, [f"class {number}" for number in range(classes)], tmp_path / "plot.png")
    drawn = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    assert max(drawn.shape) < 1500
    side = classes * block
    cells = drawn[ABOVE : ABOVE + side, LEFT : LEFT + side].reshape(classes, block, classes, block, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    expected = np.zeros((classes, classes), bool)
    expected[actual, predicted] = True
    assert np.array_equal(cells[:, 0, :, 0, 0] < 100, expected)


@pytest.mark.parametrize("classes", [2, 3, 25, 120])
def test_every_plot_can_be_drawn_for_any_number_of_classes(tmp_path, classes):
    labels = np.arange(1, classes, dtype=np.uint16)  # class 0 has no image
    names = np.array([f"class {number}" for number in range(classes)])
    split = Split(np.zeros((len(labels), 48, 48, 3), np.uint8), labels, labels, names, "")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), len(labels)).astype(np.float32)
    bins = reliability_bins(probabilities, labels)
    draw_test_plots(split, probabilities, bins, bins, 10, tmp_path / "plots")
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "plots").iterdir()}
    assert sizes.keys() == {"confusion_matrix", "reliability", "predictions", "mistakes"}
    assert sizes["confusion_matrix"] == ((825, 770) if classes <= 25 else (1070, 970))
