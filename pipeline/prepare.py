"""Prepare stage: decode the archive and hold back a stratified validation set."""

from pathlib import Path

import numpy as np
from pydantic import Field

from pipeline.common.errors import PipelineError
from pipeline.common.files import atomic_outputs, sha256_of
from pipeline.common.params import Params, run_stage
from pipeline.data.archive import Archive, read_archive
from pipeline.data.image_grid import draw_contact_sheet
from pipeline.data.large_arrays import chosen
from pipeline.data.splits import Split, write_split
from pipeline.data.stratified import proportional, stratified_choice


class PrepareParams(Params):
    """Section `prepare`."""

    validation_images: int = Field(gt=0)
    seed: int = Field(ge=0)


def prepare(
    params: PrepareParams,
    archive: Path,
    train_split: Path,
    validation_split: Path,
    test_split: Path,
    contact_sheet: Path,
) -> None:
    """Write three disjoint splits, stratified and seeded, and a contact sheet of training images."""
    data = read_archive(archive)
    held_back = choose_validation(data.train_labels, len(data.class_names), params)
    splits = split_archive(data, held_back, sha256_of(archive), archive.parent)
    paths = train_split, validation_split, test_split
    with atomic_outputs(*paths, contact_sheet) as (*drafts, sheet):
        for draft, split in zip(drafts, splits, strict=True):
            write_split(draft, split)
        draw_contact_sheet(splits[0]).save(sheet, "PNG")
    counts = (f"{len(split.labels):,} {path.stem}" for split, path in zip(splits, paths, strict=True))
    print(f"prepare: {', '.join(counts)} images")


def choose_validation(labels: np.ndarray, classes: int, params: PrepareParams) -> np.ndarray:
    """Which training images to hold back for validation, bool (n,): stratified by class, drawn with `params.seed`.

    Raises `PipelineError` if a class has no images, or would have none in one of the two splits.
    """
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise PipelineError(
            f"the archive's training batches contain no image of class {counts.argmin()}, but batches.meta names "
            f"{classes} classes. Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."
        )
    shares = proportional(counts, params.validation_images)
    if params.validation_images >= len(labels) or not (shares.all() and (shares < counts).all()):
        raise PipelineError(
            f"prepare.validation_images is {params.validation_images}, but there are {len(labels)} training images of "
            f"{classes} classes ({counts.min()} to {counts.max()} each): a class would have no training or no "
            "validation images. Choose another number in params.yaml, then run `dvc repro`."
        )
    return stratified_choice(labels, shares, params.seed)


def split_archive(data: Archive, held_back: np.ndarray, sha256: str, folder: Path) -> tuple[Split, Split, Split]:
    """Train, validation (where `held_back`, bool (training images,), is true) and test, with indices in the archive.

    Images that are too many for memory are kept in `folder` until the process ends.
    """
    names, source = np.array(data.class_names), (sha256, data.is_cifar10, data.preprocessing)
    index = np.arange(len(held_back) + len(data.test_labels), dtype=np.int32)
    training_index, test_index = np.split(index, [len(held_back)])
    train, validation = (
        Split(chosen(data.train_images, mask, folder), data.train_labels[mask], training_index[mask], names, *source)
        for mask in (~held_back, held_back)
    )
    return train, validation, Split(data.test_images, data.test_labels, test_index, names, *source)


if __name__ == "__main__":
    run_stage(prepare, PrepareParams)
