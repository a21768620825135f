"""Evaluate stage: the score on the test split, every image once; nothing is chosen by it."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pipeline.calibration import calibration_error, reliability, uncalibrated
from pipeline.evaluation_plots import draw
from pipeline.files import read_json, removed_on_failure, whole, write_csv, write_json
from pipeline.keras_file import load_model
from pipeline.params import Params, run_stage
from pipeline.scores import measure, measure_classes
from pipeline.splits import Split, read_split, require_validated

BATCH_SIZE = 250  # images


class EvaluateParams(Params):
    pictures: int = Field(gt=0, le=400)


def evaluate(
    params: EvaluateParams,
    model: Path,
    test: Path,
    report: Path,
    train_metrics: Path,
    curves: Path,
    contact_sheet: Path,
    metrics: Path,
    per_class: Path,
    predictions: Path,
    reliability_table: Path,
    pictures: Path,
) -> None:
    """Score the model on the test split; write figures, also by class, by image and by confidence, and a folder of pictures."""
    approved = require_validated(report, test)
    from pipeline import lineage, tracking

    split = read_split(test)
    outputs = (metrics, per_class, predictions, reliability_table, pictures)
    with (
        lineage.run_of(model, approved, train_metrics, curves, split.images[:2]) as mlflow,
        removed_on_failure(*outputs),
    ):
        scores = load_model(model).predict(split.images, batch_size=BATCH_SIZE, verbose=0)  # float32 (n, classes)
        temperature = read_json(train_metrics, "`dvc repro` restores it.")["temperature"]
        after = reliability(scores, split.labels)
        before = reliability(uncalibrated(scores, temperature), split.labels)
        figures = measure(split.labels, scores) | {
            "calibration_error": calibration_error(after),
            "calibration_error_without_temperature": calibration_error(before),
        }
        with whole(*outputs) as drafts:
            write_json(drafts[0], figures)
            write_csv(drafts[1], measure_classes(split.labels, scores.argmax(1), split.class_names.tolist()))
            write_csv(drafts[2], prediction_rows(split, scores))
            write_csv(drafts[3], reliability_rows(before, after))
            draw(split, scores, before, after, params.pictures, drafts[4])
        with tracking.explained():
            mlflow.set_tags(lineage.stage_tags("train") | {"evaluate.pictures": params.pictures})
            mlflow.log_metrics({f"test_{name}": value for name, value in figures.items()})
            mlflow.log_artifact(per_class)  # a table: 30 metrics more would bury the curves in MLflow's charts
            mlflow.log_artifact(predictions)
            mlflow.log_artifact(contact_sheet, "pictures")
            mlflow.log_artifacts(pictures, "pictures")
    print(
        f"evaluate: accuracy {figures['accuracy']:.4f} (95 % interval {figures['accuracy_low']:.4f} to "
        f"{figures['accuracy_high']:.4f}) on {figures['images']:,} test images, macro F1 {figures['macro_f1']:.4f}"
    )


def prediction_rows(split: Split, scores: np.ndarray) -> list[dict[str, Any]]:
    """One row per test image: archive_index, actual and predicted class name, probability of the predicted class.

    Args:
        scores: float32 (n, classes), rows sum to 1.
    """
    names = split.class_names
    return [
        {
            "archive_index": int(index),
            "actual": names[label],
            "predicted": names[row.argmax()],
            "probability": f"{row.max():.6f}",
        }
        for index, label, row in zip(split.archive_index, split.labels, scores, strict=True)
    ]


def reliability_rows(before: list[dict], after: list[dict]) -> list[dict[str, Any]]:
    """Rows of `reliability` without and with the temperature, in one table."""
    named = {"without temperature": before, "with temperature": after}
    return [{"probabilities": name} | row for name, rows in named.items() for row in rows]


if __name__ == "__main__":
    run_stage(evaluate, EvaluateParams)
