"""Evaluate stage: metrics on the test split, every image once; nothing is chosen by them."""

from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.common.files import atomic_outputs, removed_on_failure, write_csv, write_json
from pipeline.common.params import Params, run_stage
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.evaluation.metrics import classification_metrics, per_class_metrics
from pipeline.evaluation.plots import draw_test_plots
from pipeline.evaluation.reliability import Bin, calibration_error, reliability_bins, without_temperature
from pipeline.models.inference import predict
from pipeline.models.saving import load_model, read_training_record

BATCH_SIZE = 250  # images of side 32
HEADLINE = ("accuracy", "macro_f1")  # few, so that `dvc exp show --only-changed` fits a screen


class EvaluateParams(Params):
    """Section `evaluate`."""

    pictures: int = Field(gt=0, le=400)


def evaluate(
    params: EvaluateParams,
    model: Path,
    test_split: Path,
    verdict: Path,
    contact_sheet: Path,
    metrics: Path,
    headline: Path,
    per_class: Path,
    predictions: Path,
    reliability: Path,
    plots: Path,
) -> None:
    """Evaluate the model on the test split.

    Writes metrics; tables by class, by image and by confidence; and a folder of plots.
    """
    validated = require_validated(verdict, test=test_split)
    from pipeline.tracking import lineage, run_logging, store

    split = read_split(test_split)
    outputs = (metrics, headline, per_class, predictions, reliability, plots)
    with run_logging.run_of_model(model, validated, split.images[:2]), removed_on_failure(*outputs):
        import mlflow

        probabilities = predict(load_model(model), split.images, BATCH_SIZE)  # (n, classes)
        temperature = read_training_record(model).figures["temperature"]
        after = reliability_bins(probabilities, split.labels)
        before = reliability_bins(without_temperature(probabilities, temperature), split.labels)
        figures = classification_metrics(split.labels, probabilities) | {
            "calibration_error": calibration_error(after),
            "calibration_error_without_temperature": calibration_error(before),
        }
        with atomic_outputs(*outputs) as drafts:
            write_json(drafts[0], figures)
            write_json(drafts[1], {name: figures[name] for name in HEADLINE})
            write_csv(drafts[2], per_class_metrics(split.labels, probabilities.argmax(1), split.class_names.tolist()))
            write_csv(drafts[3], prediction_rows(split, probabilities))
            write_csv(drafts[4], reliability_rows(before, after))
            draw_test_plots(split, probabilities, before, after, params.pictures, drafts[5])
        with store.explain_store_errors():
            mlflow.set_tags(lineage.stage_tags("train") | {"evaluate.pictures": params.pictures})
            mlflow.log_metrics({f"test_{name}": value for name, value in figures.items()})
            mlflow.log_artifact(str(per_class))  # a table: 30 more metrics would hide the curves in MLflow's charts
            mlflow.log_artifact(str(predictions))
            mlflow.log_artifact(str(contact_sheet), "pictures")
            mlflow.log_artifacts(str(plots), "pictures")
    print(
        f"evaluate: accuracy {figures['accuracy']:.4f} (95 % interval {figures['accuracy_low']:.4f} to "
        f"{figures['accuracy_high']:.4f}) on {figures['images']:,} test images, macro F1 {figures['macro_f1']:.4f}"
    )


def prediction_rows(split: Split, probabilities: np.ndarray) -> list[dict[str, object]]:
    """One row per test image: archive_index, actual and predicted class name, probability of the predicted class.

    Args:
        probabilities: float32 (n, classes), rows sum to 1.
    """
    names = split.class_names
    return [
        {
            "archive_index": int(index),
            "actual": names[label],
            "predicted": names[row.argmax()],
            "probability": f"{row.max():.6f}",
        }
        for index, label, row in zip(split.archive_index, split.labels, probabilities, strict=True)
    ]


def reliability_rows(before: list[Bin], after: list[Bin]) -> list[dict[str, object]]:
    """Reliability bins without and with the temperature, in one table."""
    named = {"without temperature": before, "with temperature": after}
    return [{"probabilities": name, **row} for name, rows in named.items() for row in rows]


if __name__ == "__main__":
    run_stage(evaluate, EvaluateParams)
