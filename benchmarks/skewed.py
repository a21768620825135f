"""Section skewed of `make bench`: `fast` on unequal classes, with and without class weights.

One training is: python -m benchmarks.skewed RATIO WEIGHT SEED TRAIN VALIDATION TEST; it prints its figures as JSON.
"""

import json
import statistics
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.rows import Rows
from benchmarks.training import run
from pipeline.common.files import Json
from pipeline.data.splits import Split, read_split
from pipeline.models.keras_backend import start_keras
from pipeline.training.settings import TrainParams

RATIOS = (10, 100)  # images of the largest class for each image of the smallest
WEIGHTS = ("none", "balanced")
RARE = 3  # classes


def measure_skewed(rows: Rows, splits: list[str], seeds: int) -> None:
    """Add a row for each ratio, class weight and seed."""
    for seed in range(seeds):
        for ratio in RATIOS:
            for weight in WEIGHTS:
                command = [sys.executable, "-m", "benchmarks.skewed", str(ratio), weight, str(seed), *splits]
                rows.measure(name_of(ratio, weight, seed), partial(run, command))


def name_of(ratio: int, weight: str, seed: int) -> str:
    """The name of a row."""
    return f"{ratio} to 1, {weight}, seed {seed}"


def skewed(split: Split, ratio: int) -> Split:
    """The first images of each class: all of class 0, and 1 / `ratio` of them of the last class.

    The shares in between fall exponentially, as in Cui et al., arXiv 1901.05555.
    """
    classes = len(split.class_names)
    kept = np.zeros(len(split.labels), bool)
    for label in range(classes):
        rows = np.flatnonzero(split.labels == label)
        kept[rows[: max(1, round(len(rows) * ratio ** (-label / (classes - 1))))]] = True
    return split._replace(images=split.images[kept], labels=split.labels[kept], archive_index=split.archive_index[kept])


def main(ratio: int, weight: str, seed: int, train_split: Path, validation_split: Path, test_split: Path) -> None:
    """Train `fast` on skewed splits; print its figures on the whole test split."""
    start_keras()
    from pipeline.evaluation.metrics import per_class_metrics
    from pipeline.training.fit import fit

    training, validation = (skewed(read_split(path), ratio) for path in (train_split, validation_split))
    params = TrainParams(
        model="fast",
        epochs=None,
        batch_size=None,
        learning_rate=None,
        class_weight=None if weight == "none" else "balanced",
        flip=None,
        shift=None,
        cutout=None,
        smoothing=None,
        seed=seed,
    )
    model, _, _ = fit(params, training, validation)
    test = read_split(test_split)
    predicted = model.predict(test.images, batch_size=250, verbose=0).argmax(1)
    rows = per_class_metrics(test.labels, predicted, test.class_names.tolist())
    figures = {
        "training_images": len(training.labels),
        "accuracy": float(np.mean(predicted == test.labels)),
        "macro_f1": float(np.mean([row["f1"] for row in rows])),
        "recall_of_rare": float(np.mean([row["recall"] for row in rows[-RARE:]])),
        "recall_of_others": float(np.mean([row["recall"] for row in rows[:-RARE]])),
    }
    print(json.dumps(figures))


def skewed_table(rows: dict[str, Json]) -> str:
    """The figures in Markdown, means over the seeds."""
    if not rows:
        return ""
    conditions = next(iter(rows.values()))["conditions"]
    lines = [
        f"Data: skewed copies of **{conditions['data']}**; network `fast`; figures on the whole, balanced test split.",
        "",
        f"| largest to smallest class | training images | class_weight | accuracy | macro F1 | recall, {RARE} rarest classes "
        "| recall, other classes | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for ratio in RATIOS:
        for weight in WEIGHTS:
            each = [row for name, row in rows.items() if name.startswith(f"{ratio} to 1, {weight},")]
            if not each:  # the measurement was interrupted
                continue
            accuracy, f1, rare, others = (
                statistics.mean(row[key] for row in each)
                for key in ("accuracy", "macro_f1", "recall_of_rare", "recall_of_others")
            )
            lines.append(
                f"| {ratio} to 1 | {each[0]['training_images']:,} | {'null' if weight == 'none' else weight} "
                f"| {accuracy:.2%} | {f1:.4f} | {rare:.1%} | {others:.1%} | {len(each)} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    ratio, weight, seed, *paths = sys.argv[1:]
    main(int(ratio), weight, int(seed), *map(Path, paths))
