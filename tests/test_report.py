"""The report on figures made by hand, read by a real browser where there is one."""

import json
import re
import shutil
import subprocess
import sys
from html import escape

import pytest
from conftest import ROOT, set_params
from PIL import Image

from pipeline.files import sha256_of, write_csv, write_json
from pipeline.keras_file import save_model
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.report import report
from pipeline.tracking import connect

INTERVAL = {"accuracy": 0.85, "accuracy_low": 0.84, "accuracy_high": 0.86}
METRICS = {
    "validate": {"archive_sha256": "ab" * 32, "splits_sha256": "cd" * 32, "images": 600, "expectations": 23},
    "drift": {"compared": True, "reference": "older images", "expectations": 18},
    "train": {"best_epoch": 2, "epochs": 2, "validation_accuracy": 0.86, "temperature": 0.7, "validation_loss": 0.5},
    "evaluate": INTERVAL
    | {"images": 100, "top3_accuracy": 0.97, "macro_f1": 0.8, "calibration_error": 0.012}
    | {"calibration_error_without_temperature": 0.09},
    "export": {"opset": 14},
    "near_duplicates": INTERVAL | {"pairs": 3, "test_images_with_twin": 2, "training_pairs": 1},
    "suspect_labels": {"images": 500, "suspects": 1, "share": 0.002},
    "robustness": {"accuracy": 0.85, "mean_corrupted_accuracy": 0.6},
}
TABLES = {
    "curves": [
        {"epoch": epoch, "accuracy": 0.5, "loss": 1.0, "validation_accuracy": 0.6, "validation_loss": 0.9}
        for epoch in (1, 2)
    ],
    "per_class": [{"class_name": "<cat>", "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10}],
    "robustness": [
        {"corruption": kind, "strength": strength} | INTERVAL
        for kind, strength in (("none", 0), ("blur", 1), ("blur", 2), ("noise", 1), ("noise", 2))
    ],
    "suspect_labels": [{"archive_index": 7, "label": "cat", "suggested": "dog", "source": "validation"}],
}
PICTURES = (
    "contact_sheet",
    "near_duplicates",
    "suspect_labels",
    "confusion_matrix",
    "reliability",
    "slices",
    "robustness",
    "corruptions",
    "mistakes",
)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """A network that has learnt nothing, with the figures of METRICS."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    start_keras()
    save_model(NETWORKS["basic"].build(3), path, METRICS["train"])
    return path


@pytest.fixture
def inputs(model_file, tmp_path, monkeypatch):
    """The files of the stages before, in a folder that is the working directory, and a model."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, download={"name": "painted <images>"})
    monkeypatch.chdir(tmp_path)
    shutil.copy(model_file, tmp_path)
    for name, content in METRICS.items():
        write_json(tmp_path / f"{name}.json", content)
    for name, rows in TABLES.items():
        write_csv(tmp_path / f"{name}.csv", rows)
    for name in PICTURES:
        Image.new("RGB", (1346, 200), "red").save(tmp_path / f"{name}.png")
    found = [path for ending in ("json", "csv", "png") for path in sorted(tmp_path.glob(f"*.{ending}"))]
    return tmp_path / "model.keras", found, tmp_path / "report.html"


def test_it_holds_the_figures_and_needs_no_other_file(inputs):
    report(*inputs)
    text = inputs[2].read_text()
    for shown in (
        "Evidence for a classifier of painted &lt;images&gt;",
        "85.0 % (84.0 to 86.0)",
        "without near duplicates",
        "none measured",
        "fitted on validation. The expected calibration error on test is 1.2 %; it would be 9.0 % without.",
        "&lt;cat&gt;",
        "older images: all 18 expectations on drift met",
        "<th>strength 2</th>",
        "ab" * 32,
    ):
        assert shown in text
    assert text.count("data:image/png;base64,") == len(PICTURES)
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<script" not in text


def test_two_reports_are_the_same_bytes(inputs):
    report(*inputs)
    first = sha256_of(inputs[2])
    report(*inputs)
    assert sha256_of(inputs[2]) == first


def test_it_stands_in_the_models_run_with_the_evidence(inputs):
    mlflow = connect()
    with mlflow.start_run(tags={"model_sha256": sha256_of(inputs[0])}) as trained:
        pass
    report(*inputs)
    client = mlflow.MlflowClient()
    assert "report.html" in {item.path for item in client.list_artifacts(trained.info.run_id)}
    evidence = {item.path for item in client.list_artifacts(trained.info.run_id, "evidence")}
    assert {"evidence/near_duplicates.png", "evidence/robustness.csv"} <= evidence
    run = client.get_run(trained.info.run_id)
    assert (run.info.status, run.data.metrics["robustness_mean_corrupted_accuracy"]) == ("FINISHED", 0.6)


def test_a_store_that_has_not_seen_the_model_gets_its_run_whole(inputs):
    """Else export would find a run that can never compete."""
    report(*inputs)
    client = connect().MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert run.data.metrics["best_validation_accuracy"] == 0.86
    assert (run.data.tags["archive_sha256"], run.data.tags["model"]) == ("ab" * 32, "basic")


def test_where_the_store_fails_no_report_is_left(inputs):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.report", *map(str, [inputs[0], *inputs[1], inputs[2]])],
        capture_output=True,
        text=True,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "",
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        },
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "report: cannot record in the MLflow store http://127.0.0.1:9" in done.stderr
    assert not inputs[2].exists()


def test_a_damaged_figure_is_told_and_no_report_is_left(inputs):
    inputs[1][0].write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.report", *map(str, [inputs[0], *inputs[1], inputs[2]])],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 1
    assert "report: " in done.stderr
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not inputs[2].exists()


MEASURE = """<script>addEventListener('load', () => {
  const sizes = [...document.querySelectorAll('p, td, th, figcaption, a')].map(e => parseFloat(getComputedStyle(e).fontSize));
  const narrowest = Math.min(...[...document.images].map(i => i.clientWidth));
  parent.document.title = JSON.stringify({
    pictures: document.images.length, loaded: [...document.images].filter(i => i.complete && i.naturalWidth).length,
    overflow: document.documentElement.scrollWidth - innerWidth, width: innerWidth, smallest: Math.min(...sizes), narrowest})
})</script>"""


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_errors_and_without_scrolling_aside(inputs, width, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium here: install Debian's package chromium")
    report(*inputs)
    page = tmp_path / "frame.html"  # since no window of Chromium is narrower than 500 pixels
    content = escape(inputs[2].read_text().replace("</body>", MEASURE + "</body>"))
    page.write_text(
        f'<title></title><iframe width="{width}" height="2000" frameborder="0" srcdoc="{content}"></iframe>'
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        + [f"--user-data-dir={tmp_path}/profile", "--window-size=1400,2000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert (found["pictures"], found["loaded"]) == (len(PICTURES), len(PICTURES))
    assert found["overflow"] <= 0
    assert found["width"] == width
    assert found["smallest"] >= 14
    assert found["narrowest"] >= 640  # letters in pictures would be too small
    assert "CONSOLE" not in done.stderr
