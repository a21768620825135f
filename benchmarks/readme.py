"""Write the figures of benchmarks/results.json into README.md: python -m benchmarks.readme"""

import json
import statistics
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results: written by `make bench` -->", "<!-- end of results -->"


def write_readme(results: Path, readme: Path) -> None:
    """Replace what stands between the two markers."""
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{tables(json.loads(results.read_text()))}\n{END}{after}")


def tables(results: dict[str, Any]) -> str:
    """The result and the cost of the pipeline, in Markdown."""
    data, metrics, stages = results["data"], results["metrics"], results["stages"]
    evaluated, trained, exported = metrics["evaluate"], metrics["train"], metrics["export"]
    timing = metrics["train_timing"]
    model = f"network `basic`, {trained['epochs']} epochs in {timing['seconds']:.0f} s"
    interval = f"{evaluated['accuracy_low']:.2%} to {evaluated['accuracy_high']:.2%}"
    lines = [
        f"Measured on {results['date']} on {results['machine']}. Data: **{data}**; {model}.",
        "",
        "| result | |",
        "|---|---|",
        f"| test accuracy, {evaluated['images']:,} images, 95 % interval | {evaluated['accuracy']:.2%} ({interval}) |",
        f"| test macro F1 | {evaluated['macro_f1']:.4f} |",
        f"| validation accuracy of the kept epoch | {trained['validation_accuracy']:.2%} |",
        f"| ONNX against Keras, {exported['parity_images']:,} test images | at most "
        f"{exported['parity_max_abs_difference']:.1e} apart, {exported['parity_argmax_disagreements']} other classes |",
        f"| ONNX file | {exported['bytes']:,} bytes, opset {exported['opset']} |",
        "",
        "| cost, whole process | seconds | peak memory, MB |",
        "|---|---|---|",
        *(f"| {stage} | {row['seconds']:.1f} | {row['megabytes']:,.0f} |" for stage, row in stages.items()),
        f"| `dvc repro` with nothing to do | {results['nothing_to_do_seconds']:.1f} | |",
        f"| bare clone to the end of `make demo`, packages cached | {results['clone_to_demo_seconds']:.0f} | |",
        "",
        training_line(results["training"]),
        "",
        f"| confusion matrix on the test split of {data} | contact sheet of the demo's generated images |",
        "|---|---|",
        "| ![Counts of test images by actual and predicted class](docs/pictures/confusion_matrix.png) "
        "| ![Ten images of each generated class, a row per class](docs/pictures/contact_sheet.png) |",
    ]
    return "\n".join(lines)


def training_line(speeds: dict[str, list[float]]) -> str:
    """The train stage against the textbook script and against itself without determinism, timed in turn."""
    ratios = [ours / theirs for ours, theirs in zip(speeds["train"], speeds["textbook script"], strict=True)]
    names = ("train", "textbook script", "train without determinism")
    ours, theirs, free = (statistics.median(speeds[name]) for name in names)
    return (
        f"The fit of `train` (batch 64, 45,000 images an epoch, 5,000 for validation) takes in {ours:,.0f} images/s; that "
        "of the textbook script, `benchmarks/brief.py` (the same network on float64 arrays, batch 32, 50,000 images an "
        f"epoch, 10,000 for validation), {theirs:,.0f}: {statistics.median(ratios):.2f} times as many ({min(ratios):.2f} "
        f"to {max(ratios):.2f} in {len(ratios)} runs in turn). Without determinism `train` takes in {free:,.0f}."
    )


if __name__ == "__main__":
    write_readme(Path("benchmarks/results.json"), Path("README.md"))
