"""Robustness stage: accuracy of the exported ONNX model on corrupted test images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from pipeline.common.files import atomic_outputs, removed_on_failure, write_csv, write_json
from pipeline.common.params import Params, run_stage
from pipeline.data.large_arrays import images_per_block
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.evaluation.metrics import wilson_interval
from pipeline.evidence.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from pipeline.evidence.robustness_plots import draw_accuracies, draw_examples
from pipeline.onnx.session import predict_probabilities, session_for

if TYPE_CHECKING:
    import onnxruntime

BLOCK = 1_536_000  # bytes of pixels, 500 images of 32 x 32; corrupted and predicted at once: 6 MB as float32

Accuracy = dict[str, float]  # accuracy, accuracy_low and accuracy_high


class RobustnessParams(Params):
    """Section `robustness`; `images` is None for the whole test split."""

    images: int | None = Field(gt=0)
    seed: int = Field(ge=0)


def robustness(
    params: RobustnessParams,
    onnx_model: Path,
    test_split: Path,
    verdict: Path,
    table: Path,
    metrics: Path,
    headline: Path,
    plot: Path,
    examples: Path,
) -> None:
    """Evaluate the ONNX model on the test split, clean and under every corruption; write table, metrics and plots.

    `PipelineError` if the split was not validated, or the model was trained on other data.
    """
    require_validated(verdict, test=test_split)
    split = evenly(read_split(test_split), params.images)
    session = session_for(onnx_model, split.class_names.tolist(), split.archive_sha256)
    outputs = (table, metrics, headline, plot, examples)
    with removed_on_failure(*outputs), atomic_outputs(*outputs) as drafts:
        clean = measure(session, split, "none", 0, params.seed)
        print(f"robustness: clean {clean['accuracy']:.4f}", flush=True)
        rows: list[dict[str, object]] = [{"corruption": "none", "strength": 0, **clean}]  # `strength` is the severity
        by_corruption = {}
        for name in CORRUPTIONS:
            by_corruption[name] = [measure(session, split, name, severity, params.seed) for severity in SEVERITIES]
            for severity, accuracy in zip(SEVERITIES, by_corruption[name], strict=True):
                rows.append({"corruption": name, "strength": severity, **accuracy})
            shown = "  ".join(f"{each['accuracy']:.4f}" for each in by_corruption[name])
            print(f"robustness: {name:<10}  {shown}  at severity 1, 2, 3", flush=True)
        figures = summarize(clean, by_corruption) | {"images": len(split.labels)}
        write_csv(drafts[0], rows)
        write_json(drafts[1], figures)
        write_json(drafts[2], {"corrupted_accuracy": figures["corrupted_accuracy"]})
        draw_accuracies(clean, by_corruption, drafts[3])
        draw_examples(session, first_correct(session, split), params.seed, drafts[4])
    print(
        f"robustness: accuracy {figures['accuracy']:.4f} on clean images, {figures['corrupted_accuracy']:.4f} on "
        f"corrupted images ({figures['kept_share']:.0%} of it), {figures['worst_corruption_accuracy']:.4f} under the "
        "worst corruption"
    )


def evenly(split: Split, count: int | None) -> Split:
    """`count` images, evenly spaced over the split; all images if `count` is None or not smaller than the split."""
    images = len(split.labels)
    if count is None or count >= images:
        return split
    chosen = np.linspace(0, images - 1, count, dtype=int)
    arrays = {name: getattr(split, name)[chosen] for name in ("images", "labels", "archive_index")}
    return split._replace(**arrays)


def measure(session: "onnxruntime.InferenceSession", split: Split, name: str, severity: int, seed: int) -> Accuracy:
    """Accuracy, with its interval, under one corruption; severity 0 means clean images."""
    correct, count = 0, images_per_block(split.images, BLOCK)
    for start in range(0, len(split.labels), count):  # memory holds one corrupted block
        images = split.images[start : start + count]
        if severity:
            images = corrupted(images, name, severity, [seed, start])
        predicted = predict_probabilities(session, images, count).argmax(1)
        correct += int((predicted == split.labels[start : start + count]).sum())
    return wilson_interval("accuracy", correct, len(split.labels))


def first_correct(session: "onnxruntime.InferenceSession", split: Split) -> Split:
    """The first image that the model predicts correctly, of the first block; the first image if there is none."""
    count = images_per_block(split.images, BLOCK)
    predicted = predict_probabilities(session, split.images[:count], count).argmax(1)
    first = int((predicted == split.labels[:count]).argmax())
    return split._replace(images=split.images[first : first + 1], labels=split.labels[first : first + 1])


def summarize(clean: Accuracy, by_corruption: dict[str, list[Accuracy]]) -> dict[str, float]:
    """Accuracy on clean images, the mean over corruptions, that of the worst corruption, and the share that is kept."""
    means = {name: float(np.mean([each["accuracy"] for each in line])) for name, line in by_corruption.items()}
    mean = float(np.mean(list(means.values())))
    return {
        "accuracy": clean["accuracy"],
        "corrupted_accuracy": mean,
        "worst_corruption_accuracy": min(means.values()),
        "kept_share": mean / clean["accuracy"] if clean["accuracy"] else 0.0,
    } | {f"accuracy_{name}": value for name, value in means.items()}


if __name__ == "__main__":
    run_stage(robustness, RobustnessParams)
