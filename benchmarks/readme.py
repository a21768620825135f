"""Write the saved figures into README.md and docs/: python -m benchmarks.readme"""

import json
import statistics
from pathlib import Path

from benchmarks.ablation import ablation_table
from benchmarks.drift import drift_text
from benchmarks.evidence_report import evidence_text
from benchmarks.inference import inference_text
from benchmarks.rows import read_rows
from benchmarks.skewed import skewed_table
from benchmarks.training_report import (
    RESNET20,
    Groups,
    by_network,
    draw,
    matmul_peaks,
    short_table,
    torch_modes,
    torch_sentence,
    training_table,
)
from pipeline.common.errors import PipelineError
from pipeline.common.files import Json

RESULTS = Path("benchmarks/results.json")
TRAINING = Path("benchmarks/training.json")
ABLATION = Path("benchmarks/ablation.json")
DRIFT = Path("benchmarks/drift.json")
INFERENCE = Path("benchmarks/inference.json")
SKEWED = Path("benchmarks/skewed.json")
PICTURE = Path("docs/pictures/training.png")
BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"


def write_reports() -> None:
    """Write every table, and the plot of the training, from the saved figures."""
    rows = read_rows(TRAINING)
    for page, text in generated_texts(rows).items():
        replace_generated(Path(page), text)
    draw(by_network(rows), conditions_of(rows), PICTURE)


def generated_texts(rows: dict[str, Json]) -> dict[str, str]:
    """The generated part of each page, by the page's path."""
    results = json.loads(RESULTS.read_text())
    require_same_data(results, rows)
    return {
        "README.md": summary_text(results, rows),
        "docs/results.md": results_text(results, rows),
        "docs/evidence.md": evidence_text(results),
        "docs/training.md": ablation_table(read_rows(ABLATION)),
        "docs/drift.md": drift_text(read_rows(DRIFT)),
        "docs/own-pictures.md": skewed_table(read_rows(SKEWED)),
        "docs/deployment.md": inference_text(read_rows(INFERENCE)),
    }


def replace_generated(page: Path, text: str, begin: str = BEGIN) -> None:
    """Replace the part of a page between the two markers."""
    before, rest = page.read_text().split(begin)
    after = rest.split(END)[1]
    page.write_text(f"{before}{begin}\n{text}\n{END}{after}")


def conditions_of(rows: dict[str, Json]) -> dict[str, str]:
    """The data and the machine, which `Rows` keeps the same for all rows."""
    return next(iter(rows.values()))["conditions"]


def require_same_data(results: Json, rows: dict[str, Json]) -> None:
    """Raise `PipelineError` if the pipeline and the trainings were measured on different data."""
    data = conditions_of(rows)["data"]
    if results["data"] != data:
        raise PipelineError(
            f"{RESULTS} is about {results['data']}, {TRAINING} about {data}, but a page shows one data set. "
            "Run `make bench` for both on the same archive."
        )


def summary_text(results: Json, rows: dict[str, Json]) -> str:
    """The README's table."""
    conditions, metrics = conditions_of(rows), results["metrics"]
    duplicates, robustness = metrics["near_duplicates"], metrics["robustness"]
    parts = [
        f"Data: **{conditions['data']}**; {conditions['machine']}; means of accuracies and medians of times if "
        "there are several seeds.",
        short_table(by_network(rows)),
        f"Test accuracy of the pipeline with `{results['model']}`: {metrics['evaluate']['accuracy']:.2%}; "
        f"{duplicates['accuracy_without_duplicates']:.2%} without near duplicates of training images, "
        f"{robustness['corrupted_accuracy']:.2%} on corrupted images.",
    ]
    return "\n\n".join(parts)


def results_text(results: Json, rows: dict[str, Json]) -> str:
    """The figures of the training and of the pipeline, for docs/results.md."""
    conditions, groups, modes = conditions_of(rows), by_network(rows), torch_modes(rows)
    peaks = " and ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in sorted(matmul_peaks(groups).items()))
    input_share = statistics.median(row["input_share"] for row in groups["fast"])
    parts = [
        f"Data of all figures: **{conditions['data']}**.",
        "## Training",
        training_table(groups, modes),
        torch_sentence(groups, modes),
        f"Measured one after another on {conditions['machine']}. If there are several seeds, accuracy is the mean, with "
        "the lowest and the highest, and times are medians. The textbook script is `benchmarks/brief.py`. It trains on "
        f"50,000 images. {resnet20_text(groups)}Our networks train on 45,000 and choose the best epoch on the 5,000 "
        'others. Rows "in float32" train as on a processor without bfloat16. The last column counts the operations of '
        "convolutions and dense layers by formula, relative to a "
        f"product of 2048 x 2048 matrices in TensorFlow in the same precision, which reaches {peaks} here. Making the "
        f"batches without training takes {input_share:.1%} of the time of `fast`.",
        "![Test accuracy after each epoch over the seconds of training](pictures/training.png)",
        "## Pipeline",
        pipeline_tables(results),
    ]
    return "\n\n".join(filter(None, parts))


def resnet20_text(groups: Groups) -> str:
    """What the row of ResNet20v1 is; empty without that row."""
    if RESNET20 not in groups:
        return ""
    return (
        "ResNet20v1 (`benchmarks/resnet20.py`) runs its first epochs on the same images; its authors report 92.16 % "
        "after 200. "
    )


def pipeline_tables(results: Json) -> str:
    """The result and the cost of the pipeline."""
    return "\n".join([*_result_lines(results), "", *_cost_lines(results), "", *_picture_lines(results["data"])])


def _result_lines(results: Json) -> list[str]:
    metrics = results["metrics"]
    evaluated, trained, exported = metrics["evaluate"], metrics["train"], metrics["export"]
    duplicates, robustness = metrics["near_duplicates"], metrics["robustness"]
    images = evaluated["images"]
    interval = f"{evaluated['accuracy_low']:.2%} to {evaluated['accuracy_high']:.2%}"
    rows = {
        f"test accuracy, {images:,} images, 95 % interval": f"{evaluated['accuracy']:.2%} ({interval})",
        "test macro F1": f"{evaluated['macro_f1']:.4f}",
        f"test accuracy on the {images - duplicates['test_images_with_duplicate']:,} images without a near duplicate "
        "in the training set": f"{duplicates['accuracy_without_duplicates']:.2%}",
        "expected calibration error on test, without and with the temperature": (
            f"{evaluated['calibration_error_without_temperature']:.2%}, {evaluated['calibration_error']:.2%}"
        ),
        "mean accuracy on corrupted test images": f"{robustness['corrupted_accuracy']:.2%}",
        "validation accuracy of the best epoch": f"{trained['validation_accuracy']:.2%}",
        f"ONNX and Keras, {exported['parity_images']:,} test images": (
            f"largest difference {exported['parity_max_abs_difference']:.1e}, "
            f"{exported['parity_argmax_disagreements']} images with another class"
        ),
        "ONNX file": f"{exported['bytes']:,} bytes, opset {exported['opset']}",
    }
    return [
        f"The whole pipeline with `{results['model']}`, {trained['epochs']} epochs in "
        f"{metrics['train_timing']['seconds']:.0f} s, measured on {results['date']} on {results['machine']}:",
        "",
        "| result | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]


def _cost_lines(results: Json) -> list[str]:
    stages = results["stages"] | {f"evidence: {stage}": row for stage, row in results["evidence"].items()}
    return [
        "| cost of the whole process | seconds | peak memory, MB |",
        "|---|---|---|",
        *(f"| {stage} | {row['seconds']:.1f} | {row['megabytes']:,.0f} |" for stage, row in stages.items()),
        f"| `dvc repro` if nothing changed | {results['nothing_to_do_seconds']:.1f} | |",
        "| from `git clone` to the end of `make demo` (generated images), packages cached "
        f"| {results['clone_to_demo_seconds']:.0f} | |",
    ]


def _picture_lines(data: str) -> list[str]:
    return [
        f"| confusion matrix on the test split of {data} | contact sheet of the demo's generated images |",
        "|---|---|",
        "| ![Number of test images by actual and predicted class](pictures/confusion_matrix.png) "
        "| ![Ten images of each generated class, one row per class](pictures/contact_sheet.png) |",
    ]


if __name__ == "__main__":
    write_reports()
