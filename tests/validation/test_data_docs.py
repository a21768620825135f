import contextlib
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from validation_runs import PARAMS, change_all, run_validate, write_reference

from pipeline.common.errors import PipelineError
from pipeline.validation.data_docs import draw_histograms
from pipeline.validation.image_statistics import STATISTICS


def test_every_expectation_has_a_statement_and_what_was_observed(splits, tmp_path):
    run_validate(splits, tmp_path)
    page = (tmp_path / "docs/index.html").read_text()
    for statement in (
        "The mean of blue matches section validate of params.yaml.",
        "No class is missing.",
        "No image is constant",
        "Orange line: the test images.",
    ):
        assert statement in page
    cells = re.findall(r'<td data-name="observed"[^>]*>([^<]*)</td>', page)
    assert len(cells) == 24
    assert all(cells)
    assert "none; `make reference` writes one" in page


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(10, "label one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9<"), (1000, "label one of 0, 1, 2, …, 999<")],
)
def test_of_many_classes_the_expected_labels_are_cut(splits, tmp_path, classes, expected):
    def add_names(names):
        return np.array([*names, *(f"class {number}" for number in range(len(names), classes))])

    change_all(splits, class_names=add_names)
    with contextlib.suppress(PipelineError):  # classes are missing
        run_validate(splits, tmp_path)
    assert expected in (tmp_path / "docs/index.html").read_text()


def test_it_loads_nothing_from_the_network_and_its_links_lead_to_files(splits, tmp_path):
    write_reference(splits, tmp_path)
    run_validate(splits, tmp_path)
    page = (tmp_path / "docs/index.html").read_text()
    assert not re.findall(r"https?:|<script|<link|@import|url\(", page)
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 7 + 5 + 1  # sections, expectations in Great Expectations, its index
    for link in links:
        assert f'id="{link[1:]}"' in page if link.startswith("#") else (tmp_path / "docs" / link).is_file()


def test_failed_expectations_come_first_and_are_highlighted(splits, tmp_path):
    write_reference(splits, tmp_path)
    change_all(splits, images=lambda images: images // 2)
    with pytest.raises(PipelineError):
        run_validate(splits, tmp_path, PARAMS.model_copy(update={"tolerance": 1.0}))
    page = (tmp_path / "docs/index.html").read_text()
    section = page.split('id="drift"')[1].split("</section>")[0]
    verdicts = re.findall(r'<tr class="(met|failed)"', section)
    assert verdicts == sorted(verdicts)
    assert "failed" in verdicts
    assert re.search(r"\d+ of 42 expectations failed", page)
    assert "darker" in section
    assert "Orange line: the reference." in page


def test_a_histogram_of_each_statistic_covers_its_values_and_equal_values_are_drawn_too():
    random = np.random.default_rng(0)
    images = pd.DataFrame({name: random.normal(size=400) for name in STATISTICS})
    images["part"] = np.repeat(["training", "test"], 200)
    images["noise"] = 0.25
    quantiles = dict.fromkeys(STATISTICS, np.linspace(-1, 1, 101).tolist())
    for histograms in (draw_histograms(images, None), draw_histograms(images, quantiles)):
        svg = "".join(histograms.values())
        assert svg.count("<svg") == len(STATISTICS)
        assert "nan" not in svg
    assert "noise, -0.25 to 0.75" in draw_histograms(images, None)


def test_a_browser_shows_it_offline(splits, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed: install Debian's package chromium")
    run_validate(splits, tmp_path)
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        (tmp_path / "docs/index.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.stdout.count("<figure>") == len(STATISTICS)
