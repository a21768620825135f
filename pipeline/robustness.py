"""Robustness stage: how much accuracy the exported ONNX file keeps on images that are not as clean as the test split."""

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pipeline.corruptions import CLEAN, CORRUPTIONS, STRENGTHS, corrupted
from pipeline.files import removed_on_failure, whole, write_csv, write_json
from pipeline.onnx_model import probabilities, session_for
from pipeline.params import Params, run_stage
from pipeline.robustness_pictures import draw_curves, draw_examples
from pipeline.scores import wilson
from pipeline.splits import Split, read_split, require_validated

BLOCK = 500  # images spoilt and scored at once: 6 MB as float32


class RobustnessParams(Params):
    images: int | None = Field(gt=0)
    seed: int = Field(ge=0)


def robustness(
    params: RobustnessParams,
    model: Path,
    test: Path,
    report: Path,
    table: Path,
    metrics: Path,
    curves: Path,
    examples: Path,
) -> None:
    """Score the ONNX file on the test split, clean and under every corruption; write table, figures and two pictures.

    Raises:
        PipelineError: the split was not validated, or the model was made for other data.
    """
    require_validated(report, test)
    split = evenly(read_split(test), params.images)
    session = session_for(model, split.class_names.tolist(), split.archive_sha256)
    outputs = (table, metrics, curves, examples)
    with removed_on_failure(*outputs), whole(*outputs) as drafts:
        rows = measure(session, split, params.seed)
        figures = summarize(rows) | {"images": len(split.labels)}
        write_csv(drafts[0], rows)
        write_json(drafts[1], figures)
        draw_curves(rows, drafts[2])
        draw_examples(session, first_known(session, split), params.seed, drafts[3])
    print(
        f"robustness: accuracy {figures['accuracy']:.4f} on clean images, {figures['mean_corrupted_accuracy']:.4f} on "
        f"corrupted ones ({figures['kept_share']:.0%} of it kept), {figures['worst_corruption_accuracy']:.4f} under the worst"
    )


def evenly(split: Split, count: int | None) -> Split:
    """So many of the split's images, evenly over it; all of them where `count` is None or more than there are."""
    images = len(split.labels)
    if count is None or count >= images:
        return split
    chosen = np.linspace(0, images - 1, count, dtype=int)
    arrays = {name: getattr(split, name)[chosen] for name in ("images", "labels", "archive_index")}
    return split._replace(**arrays)


def measure(session: Any, split: Split, seed: int) -> list[dict[str, Any]]:
    """A row per corruption and strength, the first for clean images: accuracy with its 95 % Wilson interval."""
    rows = [row(CLEAN, 0, score(session, split, CLEAN, 0, seed))]
    print(f"robustness: clean {rows[0]['accuracy']:.4f}", flush=True)
    for name in CORRUPTIONS:
        spoilt = [row(name, strength, score(session, split, name, strength, seed)) for strength in STRENGTHS]
        rows += spoilt
        told = "  ".join(f"{each['accuracy']:.4f}" for each in spoilt)
        print(f"robustness: {name:<10}  {told}  at strength 1, 2, 3", flush=True)
    return rows


def score(session: Any, split: Split, name: str, strength: int, seed: int) -> np.ndarray:
    """bool (n,), which images get their label; spoilt in blocks, so that memory holds one at a time."""
    right = []
    for start in range(0, len(split.labels), BLOCK):
        images = split.images[start : start + BLOCK]
        shown = corrupted(images, name, strength, [seed, start]) if strength else images
        right.append(probabilities(session, shown, BLOCK).argmax(1) == split.labels[start : start + BLOCK])
    return np.concatenate(right)


def first_known(session: Any, split: Split) -> Split:
    """The split's first image that gets its label, of the first block; its very first where there is none."""
    head = split.labels[:BLOCK]
    place = int((probabilities(session, split.images[:BLOCK], BLOCK).argmax(1) == head).argmax())
    return split._replace(images=split.images[place : place + 1], labels=split.labels[place : place + 1])


def row(name: str, strength: int, right: np.ndarray) -> dict[str, Any]:
    """A row of the table, from bool (n,)."""
    return {"corruption": name, "strength": strength} | wilson("accuracy", right.sum(), len(right))


def summarize(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracy on clean images; its mean over corruptions, that of the worst, and the share of the clean one kept."""
    clean = rows[0]["accuracy"]
    means = by_corruption(rows)
    mean = float(np.mean(list(means.values())))
    return {
        "accuracy": clean,
        "mean_corrupted_accuracy": mean,
        "worst_corruption_accuracy": min(means.values()),
        "kept_share": mean / clean if clean else 0.0,
    } | {f"accuracy_{name}": value for name, value in means.items()}


def by_corruption(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean accuracy over the strengths of each corruption."""
    return {
        name: float(np.mean([each["accuracy"] for each in rows if each["corruption"] == name])) for name in CORRUPTIONS
    }


if __name__ == "__main__":
    run_stage(robustness, RobustnessParams)
