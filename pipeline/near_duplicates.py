"""Near duplicates stage: test images whose shot, or nearly so, was trained on, and how accurate the model is without them.

Duplicates of the kind that ciFAIR lists for CIFAR-10 (https://arxiv.org/abs/1902.00423), found from pixels alone.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field

from pipeline.errors import PipelineError
from pipeline.files import whole, write_json
from pipeline.pair_sheet import pair_sheet
from pipeline.params import Params, run_stage
from pipeline.predictions import read_correct
from pipeline.scores import wilson
from pipeline.splits import Split, read_split, require_validated
from pipeline.twins import Pairs, confirmed, describe, nearest


class NearDuplicatesParams(Params):
    threshold: float = Field(gt=0.5, lt=1)
    pictures: int = Field(gt=0, le=400)


def near_duplicates(
    params: NearDuplicatesParams,
    train: Path,
    validation: Path,
    test: Path,
    report: Path,
    predictions: Path,
    across: Path,
    within: Path,
    nearest_images: Path,
    metrics: Path,
    picture: Path,
) -> None:
    """Write pairs across the splits and within the training images, each test image's nearest, figures and a sheet."""
    require_validated(report, train, validation, test)
    training, tested = read_training(train, validation), read_split(test)
    require_one_archive(training, tested, test)
    correct = read_correct(predictions, tested)
    best, pairs, training_pairs = search(training.images, tested.images, params.threshold)
    same_label = tested.labels[pairs.first] == training.labels[pairs.second]
    figures = measure(correct, pairs.first) | {
        "pairs_of_unlike_labels": int((~same_label).sum()),
        "training_pairs": len(training_pairs.first),
        "training_pairs_of_unlike_labels": int(
            (training.labels[training_pairs.first] != training.labels[training_pairs.second]).sum()
        ),
    }
    with whole(across, within, nearest_images, metrics, picture) as drafts:
        write_pairs(drafts[0], pairs, ("test_index", "train_index", "score"))
        write_pairs(drafts[1], training_pairs, ("train_index", "other_train_index", "score"))
        write_pairs(drafts[2], best, ("test_index", "train_index", "similarity"))
        write_json(drafts[3], figures)
        draw(pairs, tested, training, params.pictures).save(drafts[4], "PNG")
    print(
        f"near_duplicates: {figures['test_images_with_twin']:,} of {len(correct):,} test images have a twin among "
        f"{len(training.labels):,} training images; accuracy {figures['accuracy']:.4f}, "
        f"without them {figures.get('accuracy_without_twins', float('nan')):.4f}"
    )


def read_training(train: Path, validation: Path) -> Split:
    """The training images with those held back, in the archive's order."""
    splits = [read_split(path) for path in (train, validation)]
    order = np.argsort(np.concatenate([split.archive_index for split in splits]))
    joined = [np.concatenate(parts)[order] for parts in zip(*(split[:3] for split in splits), strict=True)]
    return Split(*joined, *splits[0][3:])


def require_one_archive(training: Split, tested: Split, test: Path) -> None:
    """An index means a place in the archive: both must be of one archive, and whole.

    Raises:
        PipelineError: they are not.
    """
    remedy = "`dvc repro prepare` makes the three splits anew."
    if training.archive_sha256 != tested.archive_sha256:
        raise PipelineError(
            f"{test} comes from another archive ({tested.archive_sha256[:8]}) than the training images "
            f"({training.archive_sha256[:8]}). {remedy}"
        )
    places = np.concatenate([training.archive_index, tested.archive_index])
    if not np.array_equal(places, np.arange(len(places))):
        raise PipelineError(
            f"train, validation and test must hold each image of the archive once, test the last in order; "
            f"got {len(places):,} images, the first out of place at {np.flatnonzero(places != np.arange(len(places)))[0]:,}. {remedy}"
        )


def search(training: np.ndarray, test: np.ndarray, threshold: float) -> tuple[Pairs, Pairs, Pairs]:
    """Each test image's nearest training image, twins across, and twins within the training images.

    Args:
        training, test: uint8 (n, 32, 32, 3), RGB.
        threshold: the least score of twins.
    """
    above = 2 * threshold - 1  # a score is the mean of cosine and correlation, and correlation is 1 at most
    shown, shown_test = describe(training, test)
    best, across = nearest(shown_test, shown, above, "test against training images")
    across = confirmed(across, (test, training), (shown_test, shown), "their closest pairs")
    _, within = nearest(shown, shown, above, "training images among themselves", within=True)
    within = confirmed(within, (training, training), (shown, shown), "their closest pairs")
    return best, across.ordered(threshold), within.ordered(threshold)


def measure(correct: np.ndarray, with_twin: np.ndarray) -> dict[str, float]:
    """Accuracy, with its interval, of all test images, of those without a twin and with one; what has no image is left out.

    Args:
        correct: bool (n,), one per test image.
        with_twin: int (pairs,), the test image of each pair.
    """
    twins = np.isin(np.arange(len(correct)), with_twin)
    figures = {"pairs": len(with_twin), "test_images_with_twin": int(twins.sum())}
    groups = {"accuracy": np.ones_like(twins), "accuracy_without_twins": ~twins, "accuracy_of_twins": twins}
    for name, group in groups.items():
        if group.any():
            figures |= wilson(name, correct[group].sum(), group.sum())
    return figures


def write_pairs(path: Path, pairs: Pairs, columns: tuple[str, str, str]) -> None:
    """Write a table with these columns; without pairs, its header alone."""
    table = pd.DataFrame(dict(zip(columns, pairs, strict=True)))
    table.to_csv(path, index=False, float_format="%.4f", lineterminator="\n")


def draw(pairs: Pairs, tested: Split, training: Split, count: int) -> Image.Image:
    """The most alike pairs, each test image with its most alike twin only."""
    _, firsts = np.unique(pairs.first, return_index=True)
    chosen = np.sort(firsts)[:count]

    def side(name: str, split: Split, rows: np.ndarray) -> tuple[np.ndarray, list[tuple[str, str]]]:
        return split.images[rows], [(f"{name} {row}", str(split.class_names[split.labels[row]])) for row in rows]

    return pair_sheet(side("test", tested, pairs.first[chosen]), side("training", training, pairs.second[chosen]))


if __name__ == "__main__":
    run_stage(near_duplicates, NearDuplicatesParams)
