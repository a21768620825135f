import json

import numpy as np
import pytest
from PIL import Image
from projects import approve
from validation_runs import change_all

from pipeline.common.files import read_csv
from pipeline.data.splits import SPLIT_NAMES, read_split
from pipeline.evaluate import EvaluateParams, evaluate

OUTPUTS = {
    "metrics": "e.json",
    "headline": "h.json",
    "per_class": "c.csv",
    "predictions": "p.csv",
    "reliability": "r.csv",
    "plots": "plots",
}


@pytest.fixture
def classes(splits, request):
    """The splits with as many classes as the parameter says; the labels of some are in no image."""
    names, dtype = np.array([f"class {number}" for number in range(request.param)]), np.min_scalar_type(request.param)
    change_all(
        splits,
        labels=lambda labels: (labels.astype(int) * 29 % request.param).astype(dtype),
        class_names=lambda _: names,
    )
    approve(splits["verdict"], {name: splits[name] for name in SPLIT_NAMES})
    return request.param


@pytest.fixture
def inputs(trained_model, splits, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "sheet.png")
    return {
        "model": trained_model,
        "test_split": splits["test"],
        "verdict": splits["verdict"],
        "contact_sheet": tmp_path / "sheet.png",
    }


def outputs(folder):
    return {name: folder / file for name, file in OUTPUTS.items()}


def test_every_test_image_is_predicted_once_and_mlflow_has_the_same_metrics(inputs, tmp_path):
    out = outputs(tmp_path / "out")
    evaluate(EvaluateParams(pictures=6), **inputs, **out)
    figures, split = json.loads(out["metrics"].read_text()), read_split(inputs["test_split"])
    rows = read_csv(out["predictions"])
    assert [int(row["archive_index"]) for row in rows] == split.archive_index.tolist()
    assert [row["actual"] for row in rows] == split.class_names[split.labels].tolist()
    assert sum(row["actual"] == row["predicted"] for row in rows) == figures["accuracy"] * 100
    assert sorted(path.name for path in out["plots"].iterdir()) == [
        "confusion_matrix.png",
        "mistakes.png",
        "predictions.png",
        "reliability.png",
    ]
    rows = read_csv(out["reliability"])
    for name in ("without temperature", "with temperature"):
        assert sum(int(row["images"]) for row in rows if row["probabilities"] == name) == 100
    assert figures["calibration_error"] != figures["calibration_error_without_temperature"]
    headline = json.loads(out["headline"].read_text())
    assert headline == {name: figures[name] for name in ("accuracy", "macro_f1")}
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert run.data.metrics["test_accuracy"] == pytest.approx(figures["accuracy"])
    assert run.data.metrics["test_macro_f1"] == pytest.approx(figures["macro_f1"])
    assert {"c.csv", "p.csv"} <= {item.path for item in client.list_artifacts(run.info.run_id)}
    # The run of the training is lost: the new one is filled from the record in the model.
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


def test_two_evaluations_write_the_same_bytes_into_one_run(inputs, tmp_path):
    for name in ("a", "b"):
        evaluate(EvaluateParams(pictures=6), **inputs, **outputs(tmp_path / name))
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in ("a", "b"))
    assert first == second
    import mlflow

    client = mlflow.MlflowClient()
    assert len(client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])) == 1


@pytest.mark.parametrize("classes", [2, 3, 300], indirect=True)
def test_any_number_of_classes_can_be_evaluated_also_classes_without_images(classes, inputs, tmp_path):
    out = outputs(tmp_path / "out")
    evaluate(EvaluateParams(pictures=6), **inputs, **out)
    split, rows = read_split(inputs["test_split"]), read_csv(out["per_class"])
    assert [int(row["images"]) for row in rows] == np.bincount(split.labels, minlength=classes).tolist()
    assert [row["actual"] for row in read_csv(out["predictions"])] == split.class_names[split.labels].tolist()
    figures = json.loads(out["metrics"].read_text())
    recalls = [float(row["recall"]) for row in rows if row["images"] != "0"]
    assert figures.get("balanced_accuracy", figures["accuracy"]) == pytest.approx(np.mean(recalls))
    assert {name for name in ("top3_accuracy", "top5_accuracy") if name in figures} == (
        {"top3_accuracy", "top5_accuracy"} if classes == 300 else set()
    )
