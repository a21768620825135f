"""Evaluate stage: the only report on the test split, every image scored once."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pipeline.files import removed_on_failure, whole, write_csv, write_json
from pipeline.keras_file import load_model
from pipeline.params import Params, run_stage
from pipeline.pictures import captioned_grid
from pipeline.splits import Split, read_split, require_validated

BATCH_SIZE = 250  # images
RIGHT, WRONG = "#1a7f37", "#cf222e"  # colours of captions


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
    pictures: Path,
) -> None:
    """Score the model on the test split; write figures, also by class and by image, and a folder of pictures."""
    approved = require_validated(report, test)
    from pipeline import lineage, tracking

    split = read_split(test)
    outputs = (metrics, per_class, predictions, pictures)
    with (
        lineage.run_of(model, approved, train_metrics, curves, split.images[:2]) as mlflow,
        removed_on_failure(*outputs),
    ):
        scores = load_model(model).predict(split.images, batch_size=BATCH_SIZE, verbose=0)  # float32 (n, classes)
        figures = measure(split.labels, scores.argmax(1))
        with whole(*outputs) as drafts:
            write_json(drafts[0], figures)
            write_csv(drafts[1], measure_classes(split.labels, scores.argmax(1), split.class_names.tolist()))
            write_csv(drafts[2], prediction_rows(split, scores))
            draw(split, scores, params.pictures, drafts[3])
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


def measure(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy with its 95 % Wilson interval, macro F1, and the number of images.

    Args:
        labels, predicted: whole numbers (n,), 0 to classes - 1.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score

    correct, images = int((labels == predicted).sum()), len(labels)
    interval = binomtest(correct, images).proportion_ci(0.95, method="wilson")
    return {
        "accuracy": correct / images,
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "images": images,
    }


def measure_classes(labels: np.ndarray, predicted: np.ndarray, class_names: list[str]) -> list[dict[str, Any]]:
    """One row per class: class_name, precision, recall, f1, images.

    Args:
        labels, predicted: whole numbers (n,), 0 to classes - 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(labels, predicted, labels=range(len(class_names)), zero_division=0)
    return [
        {
            "class_name": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "images": int(images),
        }
        for name, precision, recall, f1, images in zip(class_names, *columns, strict=True)
    ]


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


def draw(split: Split, scores: np.ndarray, count: int, folder: Path) -> None:
    """Write confusion_matrix.png, predictions.png (evenly over the split) and mistakes.png (most confident first).

    Args:
        scores: float32 (n, classes), rows sum to 1.
        count: images on each of the last two.
    """
    folder.mkdir()
    predicted = scores.argmax(1)
    wrong = np.flatnonzero(predicted != split.labels)
    chosen = {
        "predictions": np.linspace(0, len(predicted) - 1, min(count, len(predicted)), dtype=int),
        "mistakes": wrong[np.argsort(-scores.max(1)[wrong], kind="stable")][:count],
    }
    for name, indices in chosen.items():
        names = split.class_names
        captions = [
            (
                f"{names[predicted[i]]} {scores[i].max():.0%}",
                "" if predicted[i] == split.labels[i] else f"is {names[split.labels[i]]}",
            )
            for i in indices
        ]
        colours = [RIGHT if predicted[i] == split.labels[i] else WRONG for i in indices]
        captioned_grid(split.images[indices], captions, colours).save(folder / f"{name}.png")
    draw_confusion(split.labels, predicted, split.class_names.tolist(), folder / "confusion_matrix.png")


def draw_confusion(labels: np.ndarray, predicted: np.ndarray, class_names: list[str], path: Path) -> None:
    """Draw counts by actual class (rows) and predicted class (columns), shaded by share of the row.

    Args:
        labels, predicted: whole numbers (n,), 0 to classes - 1.
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(7.5, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="actual", title="Test images by actual and predicted class")
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, counts[row, column], ha="center", va="center", color=colour, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})  # no version in it: equal figures, equal bytes


if __name__ == "__main__":
    run_stage(evaluate, EvaluateParams)
