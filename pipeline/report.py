"""Report stage: the evidence about data and model on one page, logged to the model's MLflow run."""

import base64
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, atomic_outputs, read_csv, read_json, removed_on_failure, sha256_of
from pipeline.common.params import read_params, run_stage
from pipeline.data.cifar10 import data_name
from pipeline.data.splits import require_validated
from pipeline.evaluation.plots import NUMBERED
from pipeline.evaluation.predictions import confused_pairs
from pipeline.evidence.learning_curves import draw_curves
from pipeline.html.page import render
from pipeline.models.saving import read_input_shape
from pipeline.tracking import lineage, run_logging, store

REMEDY = "`make evidence` gives each argument its file, and recreates damaged files."
KEYS = {  # that each JSON file must have, by argument name
    "validate": ("expectations", "images", "archive_sha256", "is_cifar10"),
    "drift": ("compared",),
    "train": ("best_epoch", "epochs", "validation_accuracy", "temperature"),
    "evaluate": ("accuracy", "macro_f1", "calibration_error_without_temperature", "images"),
    "near_duplicates": ("accuracy", "pairs", "test_images_with_duplicate", "training_pairs"),
    "suspect_labels": ("images", "suspects"),
    "robustness": ("corrupted_accuracy",),
}
COLUMNS = {  # that each CSV file must have
    "curves": ("epoch", "accuracy", "loss", "validation_accuracy", "validation_loss"),
    "per_class": ("class_name", "precision", "recall", "f1", "images"),
    "predictions": ("actual", "predicted"),
    "near_duplicates_table": ("test_index", "train_index", "score"),
    "training_duplicates_table": ("train_index", "other_train_index", "score"),
    "suspect_labels_table": ("archive_index", "label", "suggested", "source"),
    "slices_table": ("slice", "accuracy", "images"),
    "robustness_table": ("corruption", "strength", "accuracy"),
}
PAIRS = 20  # of confused classes
PNG_NAMES = (
    *("contact_sheet", "near_duplicates_sheet", "suspect_labels_sheet", "confusion_matrix", "reliability"),
    *("mistakes", "slices_plot", "robustness_plot", "corruptions"),
)


def report(model: Path, page: Path, **inputs: Path) -> None:
    """Write the page, and log it with the figures, tables and images on it.

    Args:
        inputs: files of earlier stages, with the names of `KEYS`, `COLUMNS` and `PNG_NAMES`.

    Raises:
        PipelineError: an input is missing or has another content, or the model was trained on other splits.
    """
    evidence = read_evidence(inputs)
    verdict = require_validated(inputs["validate"])
    name = data_name(read_params()["download"]["name"], verdict["archive_sha256"], verdict["is_cifar10"])
    versions = lineage.data_tags(verdict) | {"model_sha256": sha256_of(model)}
    shape = read_input_shape(model)
    example = np.zeros((1, *shape), np.uint8)  # the model's input, if its run must be restored
    with run_logging.run_of_model(model, verdict, example), removed_on_failure(page):
        import mlflow

        with atomic_outputs(page) as (draft,):
            draft.write_text(describe(name, shape[0], versions, evidence), encoding="utf-8")
        with store.explain_store_errors():
            for stage in ("near_duplicates", "suspect_labels", "robustness"):  # they do not log their figures
                mlflow.log_metrics({f"{stage}_{key}": value for key, value in evidence[stage].items()})
            mlflow.log_artifact(str(page))
            for path in inputs.values():
                if path.suffix != ".json":
                    mlflow.log_artifact(str(path), "evidence")
    print(f"report: {page}, {page.stat().st_size / 1e6:.1f} MB, opens in a browser; a copy is in the MLflow run")


def read_evidence(inputs: Mapping[str, Path]) -> Json:
    """The content of each input, checked so that swapped files do not pass: JSON, rows of CSV, PNG in base64."""
    expected = dict.fromkeys(KEYS, ".json") | dict.fromkeys(COLUMNS, ".csv") | dict.fromkeys(PNG_NAMES, ".png")
    if wrong := expected.items() ^ {(name, path.suffix) for name, path in inputs.items()}:
        names = ", ".join(sorted({name for name, _ in wrong}))
        raise PipelineError(f"these arguments are missing, unknown or files of another type: {names}. {REMEDY}")
    figures = {name: read_json(inputs[name], REMEDY) for name in KEYS}
    headers = {name: inputs[name].read_text(encoding="utf-8").partition("\n")[0].split(",") for name in COLUMNS}
    for name, found in (figures | headers).items():
        kind, required = ("keys", KEYS[name]) if name in KEYS else ("columns", COLUMNS[name])
        if missing := ", ".join(key for key in required if key not in found):
            raise PipelineError(f"the argument {name} is {inputs[name]}, which has no {kind} {missing}. {REMEDY}")
    images = {name: base64.b64encode(inputs[name].read_bytes()).decode() for name in PNG_NAMES}
    return figures | {name: read_csv(inputs[name]) for name in COLUMNS} | images


def describe(name: str, side: int, versions: dict[str, str], evidence: Json) -> str:
    """The page.

    Args:
        name: of the data.
        side: height and width of the images, in pixels.
        versions: hashes of data and model, by MLflow tag.
        evidence: from `read_evidence`.
    """
    rows, columns = corruption_table(evidence["robustness_table"])
    many_classes = len(evidence["per_class"]) > NUMBERED  # the confusion matrix has no numbers
    pairs = confused_pairs(evidence["predictions"], PAIRS) if many_classes else []
    return render(
        "report",
        name=name,
        side=side,
        percent=percent,
        # Facts that can differ between equal runs are only in MLflow.
        versions=versions | lineage.stage_tags("prepare", "train", "evaluate", "export"),
        curves_svg=draw_curves(evidence["curves"]),
        class_metrics=[
            row | {name: percent(row, name) for name in ("precision", "recall", "f1")} for row in evidence["per_class"]
        ],
        many_classes=many_classes,
        pairs=[row | {"share": percent(row, "share")} for row in pairs],
        corruptions_by_severity=rows,
        corruption_columns=columns,
        **evidence,
    )


def percent(figures: Mapping[str, float] | Mapping[str, str], name: str) -> str:
    """A share in percent, with its 95 % interval if there is one: 85.3 % (84.6 to 86.0)."""
    if name not in figures:
        return "not measured"
    value, *interval = (
        f"{100 * float(figures[key]):.1f}" for key in (name, f"{name}_low", f"{name}_high") if key in figures
    )
    return f"{value} % ({' to '.join(interval)})" if interval else f"{value} %"


def corruption_table(rows: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Accuracy on corrupted images: one row per corruption, one column per severity; and the columns' headings."""
    accuracies: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["corruption"] != "none":
            accuracies.setdefault(row["corruption"], {})[row["strength"]] = percent(row, "accuracy")
    severities = sorted({severity for columns in accuracies.values() for severity in columns}, key=float)
    headings = {"corruption": "corruption"} | {severity: f"severity {severity}" for severity in severities}
    return [{"corruption": name} | row for name, row in accuracies.items()], headings


if __name__ == "__main__":
    run_stage(report)
