"""Write the saved figures into README.md and docs/: python -m benchmarks.readme"""

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.ablation import ablation_table
from benchmarks.drift import drift_text
from benchmarks.inference import inference_text
from benchmarks.rows import read_rows
from benchmarks.training_report import by_network, draw, matmul_peaks, training_table
from pipeline.errors import PipelineError

RESULTS = Path("benchmarks/results.json")
TRAINING = Path("benchmarks/training.json")
ABLATION = Path("benchmarks/ablation.json")
DRIFT = Path("benchmarks/drift.json")
INFERENCE = Path("benchmarks/inference.json")
PICTURE = Path("docs/pictures/training.png")
BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"


def write_reports() -> None:
    """Write every table and the picture of training from what is saved."""
    rows = read_rows(TRAINING)
    put_between_marks(Path("README.md"), results_text(json.loads(RESULTS.read_text()), rows))
    put_between_marks(Path("docs/training.md"), ablation_table(read_rows(ABLATION)))
    put_between_marks(Path("docs/drift.md"), drift_text(read_rows(DRIFT)))
    put_between_marks(Path("docs/deployment.md"), inference_text(read_rows(INFERENCE)))
    draw(by_network(rows), conditions_of(rows), PICTURE)


def put_between_marks(page: Path, text: str) -> None:
    """Replace what stands between the two markers of a page."""
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def conditions_of(rows: dict[str, Any]) -> dict[str, str]:
    """The data and the machine of the rows, which are the same for all (`Rows` sees to it)."""
    return next(iter(rows.values()))["conditions"]


def input_share(rows: dict[str, Any]) -> float:
    """Median share of the time of `fast` that making its batches takes by itself."""
    return statistics.median(row["input_share"] for row in by_network(rows)["fast"])


def peaks_text(peaks: dict[str, float]) -> str:
    """The matrix products' speed in each precision, in words."""
    return " and ".join(f"{peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in sorted(peaks.items()))


def results_text(results: dict[str, Any], rows: dict[str, Any]) -> str:
    """The training's and the pipeline's figures, in Markdown."""
    conditions = conditions_of(rows)
    if results["data"] != conditions["data"]:
        raise PipelineError(
            f"{RESULTS} is about {results['data']}, {TRAINING} about {conditions['data']}: a page shows one data set. "
            "Run `make bench` for both on the same archive."
        )
    parts = [
        f"Data of all figures: **{conditions['data']}**.",
        training_table(by_network(rows)),
        f"Measured one after another on {conditions['machine']}; medians where there are several seeds. `benchmarks/brief.py` "
        "is the script; it trains on 50,000 images, ours on 45,000, choosing on the 5,000 others. The last column counts the "
        "operations of convolutions and dense layers by formula, against a product of 2048 x 2048 matrices in TensorFlow in the "
        f"same precision, which makes {peaks_text(matmul_peaks(by_network(rows)))} here. "
        f"Making the batches by itself takes {input_share(rows):.1%} of the time of `fast`.",
        "![Test accuracy after each epoch against the seconds of training](docs/pictures/training.png)",
        pipeline_tables(results),
    ]
    return "\n\n".join(parts)


def pipeline_tables(results: dict[str, Any]) -> str:
    """The result and the cost of the pipeline."""
    data, metrics, stages = results["data"], results["metrics"], results["stages"]
    evaluated, trained, exported = metrics["evaluate"], metrics["train"], metrics["export"]
    seconds, twins = metrics["train_timing"]["seconds"], metrics["near_duplicates"]
    without = evaluated["images"] - twins["test_images_with_twin"]
    interval = f"{evaluated['accuracy_low']:.2%} to {evaluated['accuracy_high']:.2%}"
    lines = [
        f"The whole pipeline with `{results['model']}`, {trained['epochs']} epochs in {seconds:.0f} s, measured on "
        f"{results['date']} on {results['machine']}:",
        "",
        "| result | |",
        "|---|---|",
        f"| test accuracy, {evaluated['images']:,} images, 95 % interval | {evaluated['accuracy']:.2%} ({interval}) |",
        f"| test macro F1 | {evaluated['macro_f1']:.4f} |",
        f"| test accuracy on the {without:,} images without a near duplicate among the training images | {twins['accuracy_without_twins']:.2%} |",
        f"| expected calibration error on test, without and with the temperature | {evaluated['calibration_error_without_temperature']:.2%}, {evaluated['calibration_error']:.2%} |",
        f"| mean accuracy on corrupted test images | {metrics['robustness']['mean_corrupted_accuracy']:.2%} |",
        f"| validation accuracy of the kept epoch | {trained['validation_accuracy']:.2%} |",
        f"| ONNX against Keras, {exported['parity_images']:,} test images | at most "
        f"{exported['parity_max_abs_difference']:.1e} apart, {exported['parity_argmax_disagreements']} other classes |",
        f"| ONNX file | {exported['bytes']:,} bytes, opset {exported['opset']} |",
        "",
        "| cost, whole process | seconds | peak memory, MB |",
        "|---|---|---|",
        *(f"| {stage} | {row['seconds']:.1f} | {row['megabytes']:,.0f} |" for stage, row in stages.items()),
        *(
            f"| evidence: {stage} | {row['seconds']:.1f} | {row['megabytes']:,.0f} |"
            for stage, row in results["evidence"].items()
        ),
        f"| `dvc repro` with nothing to do | {results['nothing_to_do_seconds']:.1f} | |",
        f"| bare clone to the end of `make demo`, packages cached | {results['clone_to_demo_seconds']:.0f} | |",
        "",
        f"| confusion matrix on the test split of {data} | contact sheet of the demo's generated images |",
        "|---|---|",
        "| ![Counts of test images by actual and predicted class](docs/pictures/confusion_matrix.png) "
        "| ![Ten images of each generated class, a row per class](docs/pictures/contact_sheet.png) |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    write_reports()
