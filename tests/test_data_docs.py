import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from test_validate import PARAMS, kept, run, spoil_all

from pipeline.appearance import MEASURES
from pipeline.data_docs import draw_measures
from pipeline.errors import PipelineError


def test_every_expectation_says_why_and_what_was_seen(splits, tmp_path):
    run(splits, tmp_path)
    page = (tmp_path / "docs/index.html").read_text()
    for why in ("The mean of blue is this data set&#x27;s.", "No class is missing.", "No image is constant"):
        assert why in page
    cells = re.findall(r'<td data-name="observed"[^>]*>([^<]*)</td>', page)
    assert len(cells) == 24
    assert all(cells)
    assert "none is kept" in page


def test_it_loads_nothing_from_the_network_and_its_links_lead_to_files(splits, tmp_path):
    kept(splits, tmp_path)
    run(splits, tmp_path)
    page = (tmp_path / "docs/index.html").read_text()
    assert not re.findall(r"https?:|<script|<link|@import|url\(", page)
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 5 + 5 + 1
    for link in links:
        assert f'id="{link[1:]}"' in page if link.startswith("#") else (tmp_path / "docs" / link).is_file()


def test_what_failed_stands_first_and_is_marked(splits, tmp_path):
    kept(splits, tmp_path)
    spoil_all(splits, images=lambda images: images // 2)
    with pytest.raises(PipelineError):
        run(splits, tmp_path, PARAMS.model_copy(update={"tolerance": 1.0}))
    page = (tmp_path / "docs/index.html").read_text()
    section = page.split('id="drift"')[1]
    verdicts = re.findall(r'<tr class="(met|failed)"', section)
    assert verdicts == sorted(verdicts)
    assert "failed" in verdicts
    assert re.search(r"\d+ of 42 expectations failed", page)
    assert "darker" in section


def test_a_picture_of_each_measure_spans_its_values_and_equal_values_are_drawn_too():
    random = np.random.default_rng(0)
    images = pd.DataFrame({name: random.normal(size=400) for name in MEASURES})
    images["part"] = np.repeat(["training", "test"], 200)
    images["noise"] = 0.25
    drawn = draw_measures(images, None)
    assert drawn.count("<svg") == len(MEASURES)
    assert "noise, -0.25 to 0.75" in drawn
    assert "nan" not in drawn
    assert "the test images" in drawn
    assert "the reference" in draw_measures(images, dict.fromkeys(MEASURES, np.linspace(-1, 1, 101).tolist()))


def test_a_browser_shows_it_offline(splits, tmp_path):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium")
    run(splits, tmp_path)
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--dump-dom",
        (tmp_path / "docs/index.html").as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown.stdout.count("<figure>") == len(MEASURES)
