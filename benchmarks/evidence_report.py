"""The figures of the evidence in Markdown, for docs/evidence.md."""

from pathlib import Path

from pipeline.common.files import Json, read_csv, read_json

TABLES = ("slices", "robustness")  # of reports/, in CSV


def evidence_figures(folder: Path) -> Json:
    """Tables and metrics of the evidence in a project where it was made."""
    metrics = {path.stem: read_json(path, "Run `make bench` again.") for path in folder.glob("reports/metrics/*.json")}
    return {"metrics": metrics} | {name: read_csv(folder / f"reports/{name}.csv") for name in TABLES}


def evidence_text(results: Json) -> str:
    """The generated part of docs/evidence.md."""
    head = f"Data: **{results['data']}**; network `{results['model']}`, one seed; {results['machine']}."
    slices = _accuracies(
        results["slices"], "slice", "accuracy on equal parts of the test images, lowest to highest value"
    )
    robustness = _accuracies(results["robustness"], "corruption", "accuracy at severity 1, 2, 3")
    return "\n\n".join([head, _summary(results["metrics"]), slices, robustness])


def _summary(metrics: Json) -> str:
    train, test, pairs, labels = (metrics[name] for name in ("train", "evaluate", "near_duplicates", "suspect_labels"))
    interval = f"{pairs['accuracy_without_duplicates_low']:.2%} to {pairs['accuracy_without_duplicates_high']:.2%}"
    rows = {
        "temperature": f"{train['temperature']:.2f}",
        "expected calibration error on test, without and with it": (
            f"{test['calibration_error_without_temperature']:.1%}, {test['calibration_error']:.1%}"
        ),
        "pairs of near duplicates; test images with one": (
            f"{pairs['pairs']:,}; {pairs['test_images_with_duplicate']:,} of {test['images']:,}"
        ),
        "test accuracy; without these images (95 % interval); only on them": (
            f"{pairs['accuracy']:.2%}; {pairs['accuracy_without_duplicates']:.2%} ({interval}); "
            f"{pairs['accuracy_of_duplicates']:.2%}"
        ),
        "pairs among the training images; with different labels": (
            f"{pairs['training_pairs']:,}; {pairs['training_pairs_with_different_labels']:,}"
        ),
        "suspect labels": f"{labels['suspects']:,} of {labels['images']:,} ({labels['share']:.1%})",
        "mean accuracy on corrupted images; share of the accuracy on clean ones": (
            f"{metrics['robustness']['corrupted_accuracy']:.2%}; {metrics['robustness']['kept_share']:.0%}"
        ),
    }
    return "\n".join(["| result | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _accuracies(rows: list[dict[str, str]], key: str, heading: str) -> str:
    """A table with one line for each value of the column `key`, and the accuracies of its rows."""
    lines = [f"| {key} | {heading} |", "|---|---|"]
    for name in dict.fromkeys(row[key] for row in rows):
        values = ", ".join(f"{100 * float(row['accuracy']):.1f}" for row in rows if row[key] == name)
        lines.append(f"| {name} | {values} % |")
    return "\n".join(lines)
