import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv, write_csv
from pipeline.data.splits import read_split
from pipeline.evaluate import prediction_rows
from pipeline.evaluation.predictions import confused_pairs, read_is_correct


@pytest.fixture
def split(splits):
    return read_split(splits["test"])


@pytest.fixture
def predictions(split, tmp_path):
    """A table in which all images but the first four are predicted correctly."""
    probabilities = np.eye(10, dtype=np.float32)[split.labels]
    probabilities[:4] = np.roll(probabilities[:4], 1, axis=1)
    write_csv(tmp_path / "predictions.csv", prediction_rows(split, probabilities))
    return tmp_path / "predictions.csv"


def test_incorrect_predictions_are_found(split, predictions):
    assert np.flatnonzero(~read_is_correct(predictions, split)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(), "99 rows, but the test split has 100 images"),
        (lambda rows: rows.reverse(), r"lists image 599 \(\w+\), but the test split has image 500"),
        (lambda rows: rows[0].update(actual="nothing"), r"lists image 500 \(nothing\), but"),
        (lambda rows: [row.pop("predicted") for row in rows], "cannot read .*predictions.csv.*'predicted'"),
        (lambda rows: rows[0].update(archive_index="first"), "cannot read .*predictions.csv.*'first'"),
    ],
)
def test_predictions_of_other_images_are_refused(split, predictions, change, message):
    rows = read_csv(predictions)
    change(rows)
    write_csv(predictions, rows)
    with pytest.raises(PipelineError, match=f"{message}.*dvc repro evaluate"):
        read_is_correct(predictions, split)


def test_the_most_frequent_pair_is_first_and_of_equally_frequent_ones_that_of_the_smaller_class():
    pairs = ["ab", "ab", "ba", "aa", "aa", "aa", "cd", "cd", "cc", "da", "dd", "ac"]
    rows = [{"actual": actual, "predicted": predicted} for actual, predicted in pairs]
    assert confused_pairs(rows, 4) == [
        {"actual": "c", "predicted": "d", "images": 2, "share": 2 / 3},
        {"actual": "a", "predicted": "b", "images": 2, "share": 1 / 3},
        {"actual": "b", "predicted": "a", "images": 1, "share": 1.0},
        {"actual": "d", "predicted": "a", "images": 1, "share": 0.5},
    ]
    assert confused_pairs(rows[3:6], 4) == []
