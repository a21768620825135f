"""Near duplicates stage: test images with a near duplicate in the training set, and the accuracy without them.

ciFAIR lists such duplicates for CIFAR-10 (https://arxiv.org/abs/1902.00423). Here they are found from the pixels.
"""

from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, write_csv, write_json
from pipeline.common.params import Params, run_stage
from pipeline.data.splits import Split, read_split, require_validated
from pipeline.evaluation.metrics import wilson_interval
from pipeline.evaluation.predictions import read_is_correct
from pipeline.evidence.matching import Pairs, describe, find_similar, rescore
from pipeline.evidence.pair_sheet import draw_pair_sheet

HEADLINE = "accuracy_without_duplicates"  # for `dvc metrics show` and `dvc exp show`


class NearDuplicatesParams(Params):
    """Section `near_duplicates`."""

    threshold: float = Field(gt=0.5, lt=1)
    pictures: int = Field(gt=0, le=400)


def near_duplicates(
    params: NearDuplicatesParams,
    train_split: Path,
    validation_split: Path,
    test_split: Path,
    verdict: Path,
    predictions: Path,
    pairs: Path,
    training_pairs: Path,
    nearest: Path,
    metrics: Path,
    headline: Path,
    sheet: Path,
) -> None:
    """Write pairs of test and training images, pairs of training images, each test image's nearest, metrics, a sheet.

    `PipelineError` if the splits were not validated or are not one whole archive, or `predictions` has other images.
    """
    require_validated(verdict, train=train_split, validation=validation_split, test=test_split)
    training, test = read_training(train_split, validation_split), read_split(test_split)
    require_one_archive(training, test, test_split)
    correct = read_is_correct(predictions, test)
    nearest_images, duplicates, in_training = search(training.images, test.images, params.threshold)
    figures = measure(correct, duplicates.first) | {
        "pairs_with_different_labels": count_different(duplicates, test, training),
        "training_pairs": len(in_training.first),
        "training_pairs_with_different_labels": count_different(in_training, training, training),
    }
    with atomic_outputs(pairs, training_pairs, nearest, metrics, headline, sheet) as drafts:
        write_pairs(drafts[0], duplicates, ("test_index", "train_index", "score"))
        write_pairs(drafts[1], in_training, ("train_index", "other_train_index", "score"))
        write_pairs(drafts[2], nearest_images, ("test_index", "train_index", "similarity"))
        write_json(drafts[3], figures)
        write_json(drafts[4], {name: value for name, value in figures.items() if name == HEADLINE})
        draw_pair_sheet(duplicates, test, training, params.pictures).save(drafts[5], "PNG")
    print(
        f"near_duplicates: {figures['test_images_with_duplicate']:,} of {len(correct):,} test images have a near "
        f"duplicate among {len(training.labels):,} training images; accuracy {figures['accuracy']:.4f}, "
        f"without them {figures.get(HEADLINE, float('nan')):.4f}"
    )


def read_training(train: Path, validation: Path) -> Split:
    """The training images of the archive: train and validation split together, in the archive's order."""
    first, second = (read_split(path) for path in (train, validation))
    index = np.concatenate([first.archive_index, second.archive_index])
    order = np.argsort(index)
    places = np.split(np.argsort(order), [len(first.labels)])  # of the images of each split
    images = np.empty((len(index), *first.images.shape[1:]), np.uint8)
    for split, place in zip((first, second), places, strict=True):
        images[place] = split.images  # with concatenate, memory would hold all images twice more
    labels = np.concatenate([first.labels, second.labels])[order]
    return first._replace(images=images, labels=labels, archive_index=index[order])


def require_one_archive(training: Split, test: Split, test_path: Path) -> None:
    """`PipelineError` unless these are all images of one archive: an index in the tables is a position in it."""
    remedy = "`dvc repro prepare` writes the three splits again."
    if training.archive_sha256 != test.archive_sha256:
        raise PipelineError(
            f"{test_path} is from another archive ({test.archive_sha256[:8]}) than the training images "
            f"({training.archive_sha256[:8]}). {remedy}"
        )
    index = np.concatenate([training.archive_index, test.archive_index])
    unexpected = np.flatnonzero(index != np.arange(len(index)))
    if len(unexpected):
        raise PipelineError(
            "train, validation and test must contain each image of the archive once, test images last and in order; "
            f"got {len(index):,} images, the first unexpected one at position {unexpected[0]:,}. {remedy}"
        )


def search(training: np.ndarray, test: np.ndarray, threshold: float) -> tuple[Pairs, Pairs, Pairs]:
    """The nearest training image of each test image, near duplicates of test images, and those within training.

    The images are RGB, uint8 (n, side, side, 3); `threshold` is the minimum score of a near duplicate.
    """
    above = 2 * threshold - 1  # a score is the mean of the cosine and a correlation, which is at most 1
    in_training, in_test = describe(training, test)
    nearest, across = find_similar(in_test, in_training, above, "test and training images")
    across = rescore(across, (test, training), (in_test, in_training))
    _, within = find_similar(in_training, in_training, above, "pairs of training images", within=True)
    within = rescore(within, (training, training), (in_training, in_training))
    return nearest, across.ordered(threshold), within.ordered(threshold)


def measure(correct: np.ndarray, with_duplicate: np.ndarray) -> dict[str, float]:
    """Accuracy, with its interval, of all test images, of those without and of those with a near duplicate.

    A group without images is left out. `with_duplicate` is the test image of each pair, integers (pairs,).
    """
    has_duplicate = np.isin(np.arange(len(correct)), with_duplicate)
    figures: dict[str, float] = {"pairs": len(with_duplicate), "test_images_with_duplicate": int(has_duplicate.sum())}
    groups = {"": correct, "_without_duplicates": correct[~has_duplicate], "_of_duplicates": correct[has_duplicate]}
    for name, group in groups.items():
        if len(group):
            figures |= wilson_interval(f"accuracy{name}", group.sum(), len(group))
    return figures


def count_different(pairs: Pairs, first: Split, second: Split) -> int:
    """Number of pairs whose images have different labels."""
    return int((first.labels[pairs.first] != second.labels[pairs.second]).sum())


def write_pairs(path: Path, pairs: Pairs, columns: tuple[str, str, str]) -> None:
    """Write one row per pair, with these names for its two images and its score."""
    rows = [dict(zip(columns, (i, j, f"{score:.4f}"), strict=True)) for i, j, score in zip(*pairs, strict=True)]
    write_csv(path, rows, columns)


if __name__ == "__main__":
    run_stage(near_duplicates, NearDuplicatesParams)
