"""The table of predictions that evaluate writes, as other stages read it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.common.files import Json, read_csv
from pipeline.data.splits import Split

REMEDY = "`dvc repro evaluate` writes it again."


def read_is_correct(predictions: Path, split: Split) -> np.ndarray:
    """Whether each image is predicted correctly: bool (n,); `PipelineError` if the table does not fit `split`."""
    try:
        rows = [(int(row["archive_index"]), row["actual"], row["predicted"]) for row in read_csv(predictions)]
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"cannot read {predictions}, a table of predictions: {error!r}. {REMEDY}") from None
    expected = list(zip(split.archive_index.tolist(), split.class_names[split.labels].tolist(), strict=True))
    if len(rows) != len(expected):
        raise PipelineError(
            f"{predictions} has {len(rows):,} rows, but the test split has {len(expected):,} images. {REMEDY}"
        )
    for (index, actual, _), (expected_index, label) in zip(rows, expected, strict=True):
        if (index, actual) != (expected_index, label):
            raise PipelineError(
                f"{predictions} lists image {index} ({actual}), but the test split has image {expected_index} "
                f"({label}) in that row. {REMEDY}"
            )
    return np.array([actual == predicted for _, actual, predicted in rows], bool)


def confused_pairs(rows: Iterable[Mapping[str, str]], count: int) -> list[Json]:
    """The `count` most frequent pairs of an actual class and another predicted class, from rows of the table.

    Keys: actual, predicted, images, share (of the images of the actual class, 0 to 1).
    """
    classes = [(row["actual"], row["predicted"]) for row in rows]
    images = Counter(actual for actual, _ in classes)
    found = Counter(pair for pair in classes if pair[0] != pair[1])
    pairs = [(number, number / images[pair[0]], pair) for pair, number in found.items()]
    pairs.sort(key=lambda pair: (-pair[0], -pair[1], pair[2]))
    return [
        {"actual": actual, "predicted": predicted, "images": number, "share": share}
        for number, share, (actual, predicted) in pairs[:count]
    ]
