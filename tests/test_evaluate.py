import csv
import json

import pytest
from conftest import ROOT
from PIL import Image

from pipeline.evaluate import EvaluateParams, evaluate
from pipeline.files import write_csv, write_json
from pipeline.keras_file import save_model
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.splits import read_split


@pytest.fixture
def trained(splits, tmp_path, monkeypatch):
    """Paths of what train leaves, made by hand: an untrained network."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(ROOT)
    keras = start_keras()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    figures = {"validation_accuracy": 0.25, "validation_loss": 2.0, "best_epoch": 1, "epochs": 2, "temperature": 2.0}
    save_model(NETWORKS["basic"].build(10), tmp_path / "model.keras", figures)
    write_json(tmp_path / "train.json", figures)
    write_csv(tmp_path / "curves.csv", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}])
    Image.new("RGB", (8, 8)).save(tmp_path / "sheet.png")
    return [tmp_path / name for name in ("model.keras", "test.npz", "validate.json", "train.json", "curves.csv")]


def outputs(folder):
    return [folder / name for name in ("e.json", "c.csv", "p.csv", "r.csv", "pictures")]


def test_every_test_image_is_scored_once_and_the_same_figures_stand_in_mlflow(trained, splits, tmp_path):
    out = tmp_path / "out"
    evaluate(EvaluateParams(pictures=6), *trained, tmp_path / "sheet.png", *outputs(out))
    figures, split = json.loads((out / "e.json").read_text()), read_split(splits["test"])
    with (out / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["archive_index"]) for row in rows] == split.archive_index.tolist()
    assert [row["actual"] for row in rows] == split.class_names[split.labels].tolist()
    assert sum(row["actual"] == row["predicted"] for row in rows) == figures["accuracy"] * 100
    assert sorted(path.name for path in (out / "pictures").iterdir()) == [
        "confusion_matrix.png",
        "mistakes.png",
        "predictions.png",
        "reliability.png",
    ]
    with (out / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("without temperature", "with temperature"):
        assert sum(int(row["images"]) for row in rows if row["probabilities"] == name) == 100
    assert figures["calibration_error"] != figures["calibration_error_without_temperature"]
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert run.data.metrics["test_accuracy"] == pytest.approx(figures["accuracy"])
    assert run.data.metrics["test_macro_f1"] == pytest.approx(figures["macro_f1"])
    assert {"c.csv", "p.csv"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    # No training run was there: what train left on disk stands in the new one.
    assert "Opened after training" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["best_validation_accuracy"] == 0.25
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.5]
    assert {item.path for item in client.list_artifacts(run.info.run_id, "pictures")} == {
        "pictures/sheet.png",
        "pictures/confusion_matrix.png",
        "pictures/mistakes.png",
        "pictures/predictions.png",
        "pictures/reliability.png",
    }


def test_two_evaluations_write_the_same_bytes_into_one_run(trained, tmp_path):
    for name in ("a", "b"):
        out = tmp_path / name
        evaluate(EvaluateParams(pictures=6), *trained, tmp_path / "sheet.png", *outputs(out))
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("a", "b"))
    assert first == second
    import mlflow

    client = mlflow.MlflowClient()
    assert len(client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])) == 1
