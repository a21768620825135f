"""The table of predictions that evaluate wrote, read again."""

import csv
from pathlib import Path

import numpy as np

from pipeline.errors import PipelineError
from pipeline.splits import Split

REMEDY = "`dvc repro evaluate` makes it anew."


def read_correct(predictions: Path, split: Split) -> np.ndarray:
    """bool (n,): whether each image of `split` was predicted right.

    Raises:
        PipelineError: the table is damaged, or tells of other images.
    """
    try:
        with predictions.open(newline="") as file:
            rows = [(int(row["archive_index"]), row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"cannot read {predictions}, a table of predictions: {error!r}. {REMEDY}") from None
    expected = list(zip(split.archive_index.tolist(), split.class_names[split.labels].tolist(), strict=True))
    if len(rows) != len(expected):
        raise PipelineError(
            f"{predictions} is of other images: it has {len(rows):,} rows, the test split {len(expected):,} images. {REMEDY}"
        )
    for (index, actual, _), (right_index, label) in zip(rows, expected, strict=True):
        if (index, actual) != (right_index, label):
            raise PipelineError(
                f"{predictions} is of other images: it names image {index} ({actual}) "
                f"where the test split has image {right_index} ({label}). {REMEDY}"
            )
    return np.array([actual == predicted for _, actual, predicted in rows], bool)
