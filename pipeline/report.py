"""Report stage: the evidence on one page that opens from disk, logged to the model's MLflow run.

python -m pipeline.report MODEL FILE... REPORT takes metrics (.json), tables (.csv) and pictures
(.png), which it knows by their names.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import lineage, tracking
from pipeline.cifar10 import CHANNELS, SIDE, data_name
from pipeline.errors import one_message
from pipeline.files import read_json, removed_on_failure, sha256_of, whole
from pipeline.learning_curves import draw_curves
from pipeline.params import read_params
from pipeline.report_page import cards, fact_table, page, paragraph, picture, read_rows, share, table

EVIDENCE = ("near_duplicates", "suspect_labels", "robustness")  # stages whose figures MLflow does not have yet
FIRST = 20  # rows of a long table
HALF = 640  # pixels; width at which a picture with large letters is shown
BLANK = np.zeros((1, SIDE, SIDE, CHANNELS), np.uint8)  # an input for the model, should its run have to be restored


def report(model: Path, inputs: list[Path], target: Path) -> None:
    """Write the page, and log it with the evidence's figures, tables and pictures.

    Args:
        inputs: of the stages before, told apart by their names without ending.
    """
    metrics = {
        path.stem: read_json(path, "`make evidence` makes it anew.") for path in inputs if path.suffix == ".json"
    }
    tables = {path.stem: read_rows(path) for path in inputs if path.suffix == ".csv"}
    pictures = {path.stem: path for path in inputs if path.suffix == ".png"}
    files = {path.name: path for path in inputs}
    name = data_name(read_params()["download"]["name"], metrics["validate"]["archive_sha256"])
    with (
        lineage.run_of(model, metrics["validate"], files["train.json"], files["curves.csv"], BLANK) as mlflow,
        removed_on_failure(target),
    ):
        with whole(target) as (draft,):
            sections = sections_of(name, sha256_of(model), metrics, tables, pictures)
            draft.write_text(page(f"Evidence for a classifier of {name}", sections, head(metrics, name)))
        with tracking.explained():
            mlflow.log_metrics({f"{stage}_{key}": value for stage in EVIDENCE for key, value in metrics[stage].items()})
            mlflow.log_artifact(target)
            for path in inputs:
                if path.suffix != ".json":
                    mlflow.log_artifact(path, "evidence")
    print(f"report: {target}, {target.stat().st_size / 1e6:.1f} MB, opens in a browser and stands in MLflow")


def head(metrics: dict[str, Any], name: str) -> str:
    """What the page is about, and its first figures."""
    test = metrics["evaluate"]
    return paragraph(
        f"Data of every figure: {name}. The model was chosen and calibrated on validation images; nothing was chosen on test "
        "images. Brackets hold 95 % intervals."
    ) + cards(
        {
            "test accuracy": share(test, "accuracy"),
            "without near duplicates": _or_none(metrics["near_duplicates"], "accuracy_without_twins"),
            "calibration error": share(test, "calibration_error"),
            "on corrupted images, mean": share(metrics["robustness"], "mean_corrupted_accuracy"),
            "suspect labels": f"{metrics['suspect_labels']['suspects']:,}",
        }
    )


def _or_none(figures: dict[str, Any], name: str) -> str:
    return "none measured" if figures.get(name) is None else share(figures, name)


def sections_of(
    name: str,
    model_sha256: str,
    metrics: dict[str, Any],
    tables: dict[str, list[dict[str, str]]],
    pictures: dict[str, Path],
) -> dict[str, str]:
    """The page's sections as HTML, by title."""
    class_names = [row["class_name"] for row in tables["per_class"]]
    return {
        "Data": data_sheet(name, metrics["validate"], metrics["drift"], class_names)
        + picture(pictures["contact_sheet"], "The first images of each class"),
        "Near duplicates": duplicates_section(metrics["near_duplicates"], pictures),
        "Suspect labels": suspects_section(metrics["suspect_labels"], tables["suspect_labels"], pictures),
        "Training": training_section(metrics["train"], tables["curves"]),
        "Classes": classes_section(metrics["evaluate"], tables["per_class"], pictures),
        "Calibration": calibration_section(metrics["train"], metrics["evaluate"], pictures),
        "Slices": picture(
            pictures["slices"], "Accuracy by what can be measured on an image, with 95 % intervals", HALF
        ),
        "Robustness": robustness_section(tables["robustness"], pictures),
        "Worst mistakes": picture(pictures["mistakes"], "The wrong answers given with most confidence"),
        "Lineage": lineage_section(model_sha256, metrics),
    }


def data_sheet(name: str, validated: dict[str, Any], drift: dict[str, Any], class_names: list[str]) -> str:
    """What the data are, and that they passed validation."""
    reference = "none was kept"
    if drift["compared"]:
        reference = f"{drift['reference']}: all {drift['expectations']} expectations on drift met"
    facts = {
        "data": name,
        "archive SHA-256": validated["archive_sha256"],
        "images": f"{validated['images']:,}, each 32 x 32 pixels, red, green and blue",
        "classes": ", ".join(class_names),
        "validation": f"all {validated['expectations']} expectations met, see reports/data_docs/index.html",
        "compared with a reference": reference,
    }
    return fact_table(facts)


def duplicates_section(twins: dict[str, Any], pictures: dict[str, Path]) -> str:
    """Which test images were as good as seen in training."""
    text = (
        f"{twins['pairs']:,} pairs of a test and a training image show the same shot or nearly so; "
        f"{twins['test_images_with_twin']:,} test images have such a twin. Accuracy is {share(twins, 'accuracy')} on all "
        f"test images and {_or_none(twins, 'accuracy_without_twins')} on those without a twin. Among the training images "
        f"there are {twins['training_pairs']:,} such pairs."
    )
    caption = "The most alike pairs: test image on the left, training image on the right"
    return paragraph(text) + picture(pictures["near_duplicates"], caption)


def suspects_section(figures: dict[str, Any], rows: list[dict[str, str]], pictures: dict[str, Path]) -> str:
    """Which labels may be wrong."""
    text = (
        f"Of {figures['images']:,} images {figures['suspects']:,} have a label that networks which have not seen them "
        "hold for wrong. A suspect is worth a look, not proof."
    )
    columns = {"archive_index": "archive index", "label": "label", "suggested": "looks like", "source": "judged by"}
    return (
        paragraph(text)
        + picture(pictures["suspect_labels"], "The most suspect first")
        + (table(rows[:FIRST], columns) if rows else "")
    )


def training_section(figures: dict[str, Any], rows: list[dict[str, str]]) -> str:
    """How the training went."""
    text = (
        f"Epoch {figures['best_epoch']} of {figures['epochs']} was best on validation and was kept: validation accuracy "
        f"{share(figures, 'validation_accuracy')}."
    )
    return paragraph(text) + f"<figure>{draw_curves(rows)}</figure>"


def classes_section(figures: dict[str, Any], rows: list[dict[str, str]], pictures: dict[str, Path]) -> str:
    """Test figures, also by class."""
    text = (
        f"On {figures['images']:,} test images: accuracy {share(figures, 'accuracy')}, the class among the first three "
        f"{share(figures, 'top3_accuracy')}, macro F1 {share(figures, 'macro_f1')}."
    )
    measures = ("precision", "recall", "f1")
    shown = [row | {name: share(row, name) for name in measures} for row in rows]
    columns = {"class_name": "class", "precision": "precision", "recall": "recall", "f1": "F1", "images": "images"}
    return (
        paragraph(text)
        + table(shown, columns)
        + picture(pictures["confusion_matrix"], "Test images by actual and predicted class")
    )


def calibration_section(trained: dict[str, Any], tested: dict[str, Any], pictures: dict[str, Path]) -> str:
    """Whether probabilities mean what they say."""
    text = (
        f"Logits are divided by one temperature, {trained['temperature']:.2f}, fitted on validation. The expected "
        f"calibration error on test is {share(tested, 'calibration_error')}; it would be "
        f"{share(tested, 'calibration_error_without_temperature')} without. No answer changes."
    )
    return paragraph(text) + picture(pictures["reliability"], "Accuracy against confidence on test images")


def robustness_section(rows: list[dict[str, str]], pictures: dict[str, Path]) -> str:
    """Accuracy of the ONNX file on spoiled images."""
    kinds = list(dict.fromkeys(row["corruption"] for row in rows if row["corruption"] != "none"))
    found = {(row["corruption"], row["strength"]): share(row, "accuracy") for row in rows}
    strengths = sorted({row["strength"] for row in rows if row["corruption"] != "none"}, key=float)
    shown = [{"kind": kind} | {level: found[kind, level] for level in strengths} for kind in kinds]
    columns = {"kind": "corruption"} | {level: f"strength {level}" for level in strengths}
    return (
        table(shown, columns)
        + picture(pictures["robustness"], "Accuracy of the ONNX file on corrupted test images")
        + picture(pictures["corruptions"], "What the corruptions look like")
    )


def lineage_section(model_sha256: str, metrics: dict[str, Any]) -> str:
    """Where all this comes from; what may differ from run to run stands in MLflow alone."""
    stages = lineage.stage_tags("prepare", "train", "evaluate", "export")
    facts = lineage.data_tags(metrics["validate"]) | {"model_sha256": model_sha256} | stages
    text = "The MLflow run with this tag model_sha256 holds the git commit, the settings and the library versions."
    return fact_table(facts) + paragraph(text)


if __name__ == "__main__":
    with one_message("report"):
        model, *inputs, target = map(Path, sys.argv[1:])
        report(model, inputs, target)
