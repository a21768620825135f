"""Prepare stage: decode the archive and hold back a stratified validation set."""

from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.cifar10 import Archive, read_archive
from pipeline.errors import PipelineError
from pipeline.files import sha256_of, whole
from pipeline.params import Params, run_stage
from pipeline.pictures import contact_sheet
from pipeline.splits import Split, write_split


class PrepareParams(Params):
    validation_images: int = Field(gt=0)
    seed: int = Field(ge=0)


def prepare(
    params: PrepareParams, archive: Path, train: Path, validation: Path, test: Path, contact_sheet_picture: Path
) -> None:
    """Write the three splits, disjoint, stratified and seeded, and a contact sheet of the training images."""
    data = read_archive(archive)
    held_back = choose_validation(data.train_labels, len(data.class_names), params)
    splits = split_archive(data, held_back, sha256_of(archive))
    with whole(train, validation, test, contact_sheet_picture) as (*drafts, picture):
        for draft, split in zip(drafts, splits, strict=True):
            write_split(draft, split)
        contact_sheet(splits[0]).save(picture, "PNG")
    counts = (
        f"{len(split.labels):,} {path.stem}" for split, path in zip(splits, (train, validation, test), strict=True)
    )
    print(f"prepare: {', '.join(counts)} images")


def choose_validation(labels: np.ndarray, classes: int, params: PrepareParams) -> np.ndarray:
    """Which training images to hold back: each class in proportion, drawn by `params.seed`.

    Args:
        labels: uint8 (n,), 0 to classes - 1.

    Returns:
        held_back: bool (n,), True for `params.validation_images` of them.

    Raises:
        PipelineError: a class has no image, or would have none in one of the two splits.
    """
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise PipelineError(
            f"the archive's training batches hold no image of class {counts.argmin()}, of {classes} classes that "
            "batches.meta names. Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."
        )
    shares = _proportional(counts, params.validation_images)
    if params.validation_images >= len(labels) or not (shares.all() and (shares < counts).all()):
        raise PipelineError(
            f"prepare.validation_images is {params.validation_images}: held back from {len(labels)} training images of "
            f"{classes} classes ({counts.min()} to {counts.max()} each), it leaves a class without training or "
            "validation images. Choose another number in params.yaml, then run `dvc repro`."
        )
    generator = np.random.default_rng(params.seed)
    held_back = np.zeros(len(labels), bool)
    for label, share in enumerate(shares):
        held_back[generator.choice(np.flatnonzero(labels == label), share, replace=False)] = True
    return held_back


def _proportional(counts: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to `total` in proportion to `counts`: the largest remainders are rounded up."""
    exact = counts * total / counts.sum()
    shares = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares


def split_archive(data: Archive, held_back: np.ndarray, sha256: str) -> tuple[Split, Split, Split]:
    """Train, validation and test, each image with its index in the archive.

    Args:
        held_back: bool (training images,), True where the image goes to validation.
        sha256: of the archive.
    """
    names = np.array(data.class_names)
    position = np.arange(len(held_back) + len(data.test_labels), dtype=np.int32)

    def part(chosen: np.ndarray) -> Split:
        return Split(
            data.train_images[chosen], data.train_labels[chosen], position[: len(chosen)][chosen], names, sha256
        )

    test = Split(data.test_images, data.test_labels, position[len(held_back) :], names, sha256)
    return part(~held_back), part(held_back), test


if __name__ == "__main__":
    run_stage(prepare, PrepareParams)
