"""The report on made-up figures, also shown by a real browser if there is one."""

import json
import re
import shutil
import subprocess
from html import escape

import mlflow
import pytest
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image
from projects import ROOT, run, set_params
from stores import empty_store

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of, write_csv, write_json
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.models.saving import TrainingRecord, read_training_record, save_model
from pipeline.report import PNG_NAMES, report
from pipeline.tracking.store import connect

INTERVAL = {"accuracy": 0.85, "accuracy_low": 0.84, "accuracy_high": 0.86}
DATA = {"archive_sha256": "ab" * 32, "splits_sha256": "cd" * 32}
FIGURES = {
    "validate": DATA | {"success": True, "is_cifar10": False, "splits": {}, "images": 600, "expectations": 23},
    "drift": {"compared": True, "reference": "older images", "expectations": 18},
    "train": {"best_epoch": 2, "epochs": 2, "validation_accuracy": 0.86, "temperature": 0.7, "validation_loss": 0.5},
    "evaluate": INTERVAL
    | {"images": 100, "top3_accuracy": 0.97, "macro_f1": 0.8, "calibration_error": 0.012}
    | {"calibration_error_without_temperature": 0.09},
    "near_duplicates": INTERVAL | {"pairs": 3, "test_images_with_duplicate": 2, "training_pairs": 1},
    "suspect_labels": {"images": 500, "suspects": 1, "share": 0.002},
    "robustness": {"accuracy": 0.85, "corrupted_accuracy": 0.6},
}
TABLES = {
    "curves": [
        {"epoch": epoch, "accuracy": 0.5, "loss": 1.0, "validation_accuracy": 0.6, "validation_loss": 0.9}
        for epoch in (1, 2)
    ],
    "per_class": [{"class_name": "<cat>", "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10}],
    "predictions": [{"archive_index": 7, "actual": "<cat>", "predicted": "dog", "probability": 0.5}],
    "near_duplicates_table": [{"test_index": 1, "train_index": 2, "score": 0.9}],
    "training_duplicates_table": [{"train_index": 1, "other_train_index": 2, "score": 0.9}],
    "suspect_labels_table": [{"archive_index": 7, "label": "cat", "suggested": "dog", "source": "validation"}],
    "slices_table": [{"slice": "brightness", "images": 10} | INTERVAL],
    "robustness_table": [
        {"corruption": kind, "strength": strength} | INTERVAL
        for kind, strength in (("none", 0), ("blur", 1), ("blur", 2), ("noise", 1), ("noise", 2))
    ],
}


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """An untrained network with a training record."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    start_keras()
    epochs = [{name: float(value) for name, value in row.items()} for row in TABLES["curves"]]
    record = TrainingRecord(FIGURES["train"], DATA, {"download.name": "CIFAR-10", "train.epochs": 2}, epochs)
    save_model(NETWORKS["basic"].build(3, 32), path, record)
    return path


@pytest.fixture
def inputs(model_file, tmp_path, monkeypatch):
    """The arguments of the stage, in a folder that is the working directory."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, download={"name": "painted <images>"})
    monkeypatch.chdir(tmp_path)
    shutil.copy(model_file, tmp_path)
    paths = {"model": tmp_path / "model.keras"}
    for name, content in FIGURES.items():
        write_json(paths.setdefault(name, tmp_path / f"{name}.json"), content)
    for name, rows in TABLES.items():
        write_csv(paths.setdefault(name, tmp_path / f"{name}.csv"), rows)
    for name in PNG_NAMES:
        Image.new("RGB", (1346, 200), "red").save(paths.setdefault(name, tmp_path / f"{name}.png"))
    return paths | {"page": tmp_path / "report.html"}


def test_it_contains_the_figures_and_needs_no_other_file(inputs):
    report(**inputs)
    text = inputs["page"].read_text()
    for expected in (
        "Evidence for a classifier of painted &lt;images&gt;",
        "85.0 % (84.0 to 86.0)",
        "accuracy without near duplicates",
        "not measured",
        "fitted on validation images. The expected calibration error on test images is 1.2 % with it and 9.0 % without it.",
        "&lt;cat&gt;",
        "older images: all 18 expectations on drift are met",
        "<th>severity 2</th>",
        "ab" * 32,
    ):
        assert expected in " ".join(text.split())
    assert text.count("data:image/png;base64,") == len(PNG_NAMES)
    assert text.count("<svg") == 1
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<script" not in text


def test_the_size_of_the_images_is_that_of_the_models_input(inputs):
    keras = start_keras()
    report(**inputs)
    assert "600, each 32 x 32 pixels, RGB" in inputs["page"].read_text()
    layers = [keras.layers.Input((48, 48, 3), dtype="uint8"), keras.layers.GlobalAveragePooling2D()]
    save_model(keras.Sequential(layers), inputs["model"], read_training_record(inputs["model"]))
    report(**inputs)
    assert "600, each 48 x 48 pixels, RGB" in inputs["page"].read_text()


def test_it_has_a_section_for_each_kind_of_evidence(inputs):
    report(**inputs)
    assert re.findall(r"<h2>(.*)</h2>", inputs["page"].read_text()) == [
        "Data",
        "Near duplicates",
        "Suspect labels",
        "Training",
        "Test metrics",
        "Calibration",
        "Accuracy by image property",
        "Accuracy on corrupted images",
        "Most confident mistakes",
        "Versions of data and model",
    ]


def test_two_reports_are_the_same_bytes(inputs):
    report(**inputs)
    first = sha256_of(inputs["page"])
    report(**inputs)
    assert sha256_of(inputs["page"]) == first


def test_it_shows_the_top_k_accuracies_that_were_measured_and_the_balanced_accuracy(inputs):
    def shown(figures):
        write_json(inputs["evaluate"], figures)
        report(**inputs)
        return " ".join(re.search(r"<p>(On 100 test images:.*?)</p>", inputs["page"].read_text(), re.DOTALL)[1].split())

    figures = {name: value for name, value in FIGURES["evaluate"].items() if name != "top3_accuracy"}
    start = "On 100 test images: accuracy 85.0 % (84.0 to 86.0),"
    assert shown(figures) == f"{start} macro F1 80.0 %."
    assert shown(FIGURES["evaluate"]) == f"{start} top-3 accuracy 97.0 %, macro F1 80.0 %."
    top5 = "top-3 accuracy 97.0 %, top-5 accuracy 99.0 %, macro F1 80.0 %, balanced accuracy 70.0 %."
    assert shown(FIGURES["evaluate"] | {"top5_accuracy": 0.99, "balanced_accuracy": 0.7}) == f"{start} {top5}"


@pytest.mark.parametrize(("classes", "many"), [(25, False), (26, True), (1000, True)])
def test_for_many_classes_it_shows_the_most_confused_pairs_and_tables_that_scroll(inputs, classes, many):
    names = [f"class {number:04}" for number in range(classes)]
    rows = [TABLES["per_class"][0] | {"class_name": name} for name in names]
    write_csv(inputs["per_class"], rows)
    predictions = [{"actual": names[i], "predicted": names[j]} for i, j in ((1, 2), (1, 2), (1, 1), (1, 3), (4, 4))]
    write_csv(inputs["predictions"], predictions)
    report(**inputs)
    text = inputs["page"].read_text()
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", text)]
    assert sum(row[1:] == ["50.0 %", "25.0 %", "75.0 %", "10"] for row in cells) == classes
    assert [row for row in cells if row[:1] == ["class 0001"]][1:] == [
        ["class 0001", "class 0002", "2", "50.0 %"],
        ["class 0001", "class 0003", "1", "25.0 %"],
    ] * many
    assert text.count("max-height: 600px") == (classes > 40)
    assert (f"{classes:,}, listed in the section Test metrics" in text) == many
    assert len(text) < 300_000


def test_without_suspects_there_is_no_table_of_them(inputs):
    write_csv(inputs["suspect_labels_table"], [], list(TABLES["suspect_labels_table"][0]))
    report(**inputs)
    assert "<th>predicted class</th>" not in inputs["page"].read_text()


def test_it_is_logged_to_the_models_run_with_the_evidence(inputs):
    client = connect()
    with mlflow.start_run(tags={"model_sha256": sha256_of(inputs["model"])}) as trained:
        pass
    report(**inputs)
    assert "report.html" in {item.path for item in client.list_artifacts(trained.info.run_id)}
    evidence = {item.path for item in client.list_artifacts(trained.info.run_id, "evidence")}
    assert evidence == {f"evidence/{path.name}" for path in inputs.values() if path.suffix in (".csv", ".png")}
    logged = client.get_run(trained.info.run_id)
    assert (logged.info.status, logged.data.metrics["robustness_corrupted_accuracy"]) == ("FINISHED", 0.6)


def test_a_store_that_does_not_have_the_models_run_gets_a_complete_one(inputs):
    """Without its validation accuracy the model could never be promoted."""
    report(**inputs)
    client = connect()
    (restored,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert restored.data.metrics["best_validation_accuracy"] == 0.86
    assert (restored.data.tags["archive_sha256"], restored.data.tags["model"]) == ("ab" * 32, "basic")


def run_report(inputs, **environment):
    """The stage as a command, with PATH empty, so without git."""
    words = [f"{name}={path}" for name, path in inputs.items()]
    return run(inputs["page"].parent, "pipeline.report", *words, PYTHONPATH=str(ROOT), PATH="", **environment)


def test_if_the_store_fails_no_report_is_left(inputs):
    store = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = run_report(inputs, **store)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "report: cannot record in the MLflow store http://127.0.0.1:9" in done.stderr
    assert not inputs["page"].exists()


def test_if_the_store_fails_after_the_page_was_written_no_report_is_left(inputs, monkeypatch):
    def fail(*_):
        assert inputs["page"].exists()
        raise MlflowException("the disk is full")

    monkeypatch.setattr("mlflow.log_artifact", fail)
    with pytest.raises(PipelineError, match=r"cannot record in the MLflow store.*the disk is full"):
        report(**inputs)
    assert not inputs["page"].exists()


def test_a_damaged_file_is_one_message_and_leaves_no_report(inputs):
    inputs["drift"].write_text("{")
    done = run_report(inputs)
    assert done.returncode == 1
    assert "report: " in done.stderr
    assert "drift.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not inputs["page"].exists()


SWAPPED = [
    ("near_duplicates_table", "training_duplicates_table", "no columns test_index"),
    ("curves", "per_class", "no columns epoch, accuracy, loss, validation_accuracy, validation_loss"),
    ("slices_table", "robustness_table", "no columns slice, images"),
    ("suspect_labels_table", "slices_table", "no columns archive_index, label, suggested, source"),
    ("predictions", "suspect_labels_table", "no columns actual, predicted"),
    ("train", "evaluate", "no keys best_epoch, epochs, validation_accuracy, temperature"),
    ("near_duplicates", "robustness", "no keys pairs, test_images_with_duplicate, training_pairs"),
    ("drift", "suspect_labels", "no keys compared"),
    ("validate", "drift", "no keys images, archive_sha256, is_cifar10"),
]


@pytest.mark.parametrize(("one", "other", "message"), SWAPPED, ids=[f"{one}-{other}" for one, other, _ in SWAPPED])
def test_two_swapped_files_are_refused(inputs, one, other, message):
    swapped = inputs | {one: inputs[other], other: inputs[one]}
    with pytest.raises(
        PipelineError, match=rf"the argument {one} is \S*/{inputs[other].name}, which has {message}\. `make"
    ):
        report(**swapped)
    assert not inputs["page"].exists()


def test_an_empty_table_is_refused(inputs):
    inputs["curves"].write_text("")
    with pytest.raises(PipelineError, match=r"the argument curves is .*, which has no columns epoch, accuracy"):
        report(**inputs)


@pytest.mark.parametrize(
    "change",
    [{"mistakes": None}, {"mistakes": "curves"}, {"curves": "mistakes"}, {"drift": None}, {"other": "mistakes"}],
)
def test_missing_and_unknown_arguments_and_other_types_of_file_are_refused(inputs, change):
    changed = inputs | {name: inputs.get(source) for name, source in change.items()}
    given = {name: path for name, path in changed.items() if path}
    with pytest.raises(PipelineError, match=f"or files of another type: {', '.join(change)}. `make evidence`"):
        report(**given)


def test_data_that_failed_validation_gets_no_report(inputs):
    write_json(inputs["validate"], FIGURES["validate"] | {"success": False})
    with pytest.raises(PipelineError, match="the data failed validation"):
        report(**inputs)


def test_a_model_of_other_splits_is_refused(inputs):
    write_json(inputs["validate"], FIGURES["validate"] | {"splits_sha256": "ef" * 32})
    with pytest.raises(PipelineError, match="was trained on other splits"):
        report(**inputs)


def test_the_arguments_are_those_of_evidence_dvc_yaml(inputs):
    command = yaml.safe_load((ROOT / "evidence/dvc.yaml").read_text())["stages"]["report"]["cmd"]
    assert {word.split("=")[0] for word in command.split()[3:]} == inputs.keys()


MEASURE = """<script>addEventListener('load', () => {
  const sizes = [...document.querySelectorAll('p, td, th, figcaption, a')].map(e => parseFloat(getComputedStyle(e).fontSize));
  const narrowest = Math.min(...[...document.images].map(i => i.clientWidth));
  parent.document.title = JSON.stringify({
    images: document.images.length, loaded: [...document.images].filter(i => i.complete && i.naturalWidth).length,
    overflow: document.documentElement.scrollWidth - innerWidth, width: innerWidth, smallest: Math.min(...sizes), narrowest})
})</script>"""


@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_it_without_errors_and_without_horizontal_scrolling(inputs, width, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("Chromium is not installed: install Debian's package chromium")
    report(**inputs)
    page = tmp_path / "frame.html"  # because Chromium's windows are at least 500 pixels wide
    content = escape(inputs["page"].read_text().replace("</body>", MEASURE + "</body>"))
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
    assert (found["images"], found["loaded"]) == (len(PNG_NAMES), len(PNG_NAMES))
    assert found["overflow"] <= 0
    assert found["width"] == width
    assert found["smallest"] >= 14
    assert found["narrowest"] >= 640  # letters in plots would be too small
    assert "CONSOLE" not in done.stderr
