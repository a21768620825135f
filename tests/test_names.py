"""Names of classes and data that are legal and odd go through the whole pipeline and are escaped where they are shown."""

import csv
import json

import pytest
from PIL import Image
from projects import as_clone, make, make_project, run, set_params

from pipeline.data import synthetic

NAMES = (
    *("$x_{$", "<script>alert(1)</script>", "=1+1|cmd", '"quoted", name', "a|b *c* [l](http://e.example)"),
    *("naïve 猫 🐱", "'=2", "\\frac{1}$ % {0} {{x}}", "n" * 100, "www.example.com `code` &amp; #h"),
)
DATA = "<b>my</b> |data| $x$"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A clone in which every target ran, and what they printed."""
    folder = tmp_path_factory.mktemp("names")
    with pytest.MonkeyPatch.context() as patched:
        meta = synthetic.meta
        patched.setattr(synthetic, "meta", lambda images_per_batch, _: meta(images_per_batch, NAMES))
        synthetic.write_archive(folder / "archive.tar.gz", images_per_batch=100, seed=1)
    project = make_project(folder / "project", folder / "archive.tar.gz")
    set_params(project, download={"name": DATA}, train={"epochs": 1}, suspect_labels={"epochs": 1})
    as_clone(project)
    printed = ""
    for target in ("repro", "evidence", "export"):
        done = make(project, target)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        printed += done.stdout
    return project, printed


def test_no_page_contains_a_name_as_html(finished):
    project, _ = finished
    pages = [*(project / "reports").rglob("*.html"), *(project / "dist").rglob("README.md")]
    assert len(pages) > 3
    for page in pages:
        text = page.read_text()
        assert "<script>alert(1)" not in text, page
        assert "<b>my</b>" not in text, page
    assert "&lt;script&gt;alert(1)" in (project / "reports/report.html").read_text()


def test_no_cell_of_a_table_is_a_formula(finished):
    project, _ = finished
    tables = list((project / "reports").rglob("*.csv"))
    cells = [cell for table in tables for row in csv.reader(table.open()) for cell in row]
    assert "'=1+1|cmd" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


def test_the_bundle_predicts_these_names(finished, tmp_path):
    project, _ = finished
    (bundle,) = (project / "dist").iterdir()
    assert (bundle / "labels.txt").read_text().splitlines() == list(NAMES)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    done = run(project, "pipeline.predict", "--json", bundle, tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert {each["class"] for each in json.loads(done.stdout)["predictions"]} <= set(NAMES)


def test_every_plot_has_a_size_that_fits_a_screen(finished):
    project, _ = finished
    plots = list((project / "reports/plots").rglob("*.png"))
    assert len(plots) >= 9
    for path in plots:
        with Image.open(path) as plot:
            assert plot.width < 3000, path
