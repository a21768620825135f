"""`make pack`: pictures in class folders as an archive for the pipeline: python -m pipeline.pack FOLDER SIDE ARCHIVE

The archive has CIFAR-10's format. A picture becomes an image as in `pipeline.predict`, by the same code.
"""

import argparse
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.common.errors import PipelineError, exit_on_error
from pipeline.common.files import Json, atomic_outputs, sha256_of, write_csv
from pipeline.common.params import read_params
from pipeline.data.archive_writer import batch, write_tar
from pipeline.data.pictures import PREPROCESSING, SIDES
from pipeline.data.stratified import proportional, stratified_choice
from pipeline.data.tar_members import unpacked_limit
from pipeline.packing.folder import Picture, Problem, find_pictures, shown_list
from pipeline.packing.params_file import as_yaml, write_settings
from pipeline.packing.reading import find_repeated, read_pictures
from pipeline.packing.settings import Part, download_settings, fitting_settings
from pipeline.training.settings import TrainParams

ROWS = 10_000  # images in a batch at most, as in CIFAR-10
BATCH_BYTES = 1 << 27  # of the images in a batch at most
TEST_SHARE = 1 / 6  # of the images, as in CIFAR-10; used if there is no folder of test pictures
SEED = 0  # of the choice of test images
LEAST = {"": 3, "train": 2, "test": 1}  # pictures of a class: for training, validation and test
LEVEL = 6  # of the compression
USAGE = "make pack FOLDER=pictures SIDE=64 OUT=data/raw/pictures.tar.gz"


class Packed(NamedTuple):
    """What goes into the archive: images as from `read_pictures`, and the pictures in the archive's order.

    rows: integers (n,), the row of each picture in the images.
    train: how many of the pictures are training images; the others are test images.
    """

    images: np.ndarray
    class_names: list[str]
    pictures: list[Picture]
    rows: np.ndarray
    train: int

    def part(self, name: str) -> Part:
        """The training or the test images."""
        chosen = slice(self.train) if name == "train" else slice(self.train, None)
        labels = np.array([picture.label for picture in self.pictures[chosen]])
        return Part(self.images, self.rows[chosen], labels)


def pack(folder: Path, side: int, archive: Path, skip: bool, write: bool) -> None:
    """Write the archive, and beside it a table of its files; print the settings for it, or set them in params.yaml.

    Args:
        skip: leave out pictures that cannot be used, instead of refusing the folder.
        write: set the settings.
    """
    table = table_beside(archive, folder)
    train_params = TrainParams.of_section("train", read_params().get("train"))
    found = find_pictures(folder)
    archive.parent.mkdir(parents=True, exist_ok=True)
    images, unreadable = read_pictures(found.pictures, side, archive.parent)
    kept = usable(found.pictures, images, found.problems + unreadable, skip)
    packed = in_order(found.class_names, [found.pictures[row] for row in kept], images, kept)
    with atomic_outputs(archive, table) as (draft, table_draft):
        write_archive(draft, packed, folder)
        write_csv(table_draft, file_rows(packed, folder))
        size = draft.stat().st_size
        settings = {"download": download_settings(archive, sha256_of(draft), size, folder.resolve().name)}
        settings |= fitting_settings(
            packed.part("train"), packed.part("test"), len(packed.class_names), train_params.model
        )
        if write:
            write_settings(settings)
    print(
        f"pack: {archive}, {size / 1e6:,.1f} MB: {packed.train:,} training and {len(packed.rows) - packed.train:,} "
        f"test images of {len(packed.class_names)} classes, {side} x {side} pixels; {table} lists their files"
    )
    if settings["validate"]["class_imbalance"] is None:
        print("pack: the classes are unequal; train.class_weight: balanced may help, see docs/own-pictures.md")
    if write:
        print("pack: params.yaml describes this archive now. `make repro` trains on it.")
    else:
        print(f"pack: set these keys in params.yaml (WRITE=1 does it), then run `make repro`:\n\n{as_yaml(settings)}")


def table_beside(archive: Path, folder: Path) -> Path:
    """The path of the table of files; `PipelineError` if the archive or the table cannot be written there."""
    name = archive.name.removesuffix(".tar.gz")
    if name in ("", archive.name):
        raise PipelineError(f"OUT is {str(archive)!r}, but it should be a file name that ends in .tar.gz: {USAGE}")
    if archive.resolve().is_relative_to(folder.resolve()):
        raise PipelineError(f"OUT is {archive}, in the folder of the pictures. Choose a path outside of {folder}.")
    table = archive.with_name(f"{name}.csv")
    if existing := [path for path in (archive, table) if path.exists()]:
        raise PipelineError(f"{existing[0]} exists. Delete it, or choose another OUT, then run the command again.")
    return table


def usable(pictures: list[Picture], images: np.ndarray, problems: list[Problem], skip: bool) -> np.ndarray:
    """The rows of the pictures that can be packed; `PipelineError` with a list if not all can, unless `skip`."""
    unreadable = {problem.path for problem in problems}
    readable = np.array([row for row, picture in enumerate(pictures) if picture.path not in unreadable], int)
    problems = problems + find_repeated(images, pictures, readable)
    if problems:
        lines = shown_list(f"{problem.path}: {problem.reason}" for problem in problems)
        if not skip:
            raise PipelineError(
                f"{len(problems):,} of {len(pictures):,} pictures cannot be packed:\n{lines}\n"
                "Correct or delete them, or leave them out with SKIP=1."
            )
        print(f"pack: leaving out {len(problems):,} of {len(pictures):,} pictures:\n{lines}")
    out = {problem.path for problem in problems}
    return np.array([row for row in readable if pictures[row].path not in out], int)


def in_order(class_names: list[str], pictures: list[Picture], images: np.ndarray, rows: np.ndarray) -> Packed:
    """Training images first, then test images; these are a seeded, stratified choice if there is no part for them.

    `PipelineError` if a class has too few pictures.
    """
    require_enough(class_names, pictures)
    is_test = np.array([picture.part == "test" for picture in pictures])
    if not is_test.any():
        labels = np.array([picture.label for picture in pictures])
        shares = proportional(np.bincount(labels), max(len(class_names), round(len(labels) * TEST_SHARE)))
        is_test = stratified_choice(labels, shares, SEED)
    order = np.argsort(is_test, kind="stable")
    return Packed(images, class_names, [pictures[place] for place in order], rows[order], int((~is_test).sum()))


def require_enough(class_names: list[str], pictures: list[Picture]) -> None:
    """Raise `PipelineError` if a class has fewer pictures in a part than `LEAST`."""
    parts = {picture.part for picture in pictures} or {""}
    lines = []
    for part in sorted(parts):
        counts = np.bincount([each.label for each in pictures if each.part == part], minlength=len(class_names))
        where = f" in {part}" if part else ""
        lines += [
            f"{class_names[label]}: {counts[label]}{where}, at least {LEAST[part]} are needed"
            for label in np.flatnonzero(counts < LEAST[part])
        ]
    if lines:
        raise PipelineError(
            f"some classes have too few pictures for training, validation and test:\n{shown_list(lines)}\n"
            "Add pictures, or delete these class folders."
        )


def write_archive(path: Path, packed: Packed, folder: Path) -> None:
    """Write the archive; without compression if it would else unpack to more than its reader accepts."""
    for level in (LEVEL, 0):
        with path.open("wb") as file:
            unpacked = write_tar(file, "batches", members(packed, folder), level)
        if unpacked <= unpacked_limit(path.stat().st_size):
            return


def members(packed: Packed, folder: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files in the archive, one at a time."""
    side, train, test = packed.images.shape[1], packed.train, len(packed.rows) - packed.train
    rows = min(ROWS, BATCH_BYTES // (3 * side * side), max(train, test))
    meta: Json = {"label_names": packed.class_names, "num_cases_per_batch": rows, "num_vis": 3 * side * side}
    meta |= {"side": side, "preprocessing": PREPROCESSING, "num_train_images": train, "num_test_images": test}
    yield "batches.meta", pickle.dumps({key.encode(): value for key, value in meta.items()}, protocol=4)
    with tqdm(total=train + test, desc="pack: writing", unit="", disable=None) as progress:
        for kind, first, last in (("train", 0, train), ("test", train, train + test)):
            starts = range(first, last, rows)
            for number, start in enumerate(starts, start=1):
                chosen = slice(start, min(start + rows, last))
                content = batch(
                    f"{kind}ing batch {number} of {len(starts)}",
                    packed.images[packed.rows[chosen]],
                    np.array([picture.label for picture in packed.pictures[chosen]]),
                )
                names = [os.fsencode(picture.path.relative_to(folder)) for picture in packed.pictures[chosen]]
                yield member_name(kind, number), pickle.dumps(content | {b"filenames": names}, protocol=4)
                progress.update(len(names))


def member_name(kind: str, number: int) -> str:
    """The name of a batch, as in CIFAR-10's archive: its only test batch has no number."""
    return f"data_batch_{number}" if kind == "train" else "test_batch" + (f"_{number}" if number > 1 else "")


def file_rows(packed: Packed, folder: Path) -> list[dict[str, object]]:
    """One row per image: archive_index, part, class_name and file, relative to the folder."""
    return [
        {
            "archive_index": index,
            "part": "train" if index < packed.train else "test",
            "class_name": packed.class_names[picture.label],
            "file": os.fsencode(picture.path.relative_to(folder)).decode("utf-8", "backslashreplace"),
        }
        for index, picture in enumerate(packed.pictures)
    ]


def side_of(text: str) -> int:
    """The number of pixels; `PipelineError` if it is another text."""
    if text not in map(str, SIDES):
        raise PipelineError(
            f"SIDE is {text!r}, but it should be a whole number of pixels, {SIDES.start} to {SIDES.stop - 1}: {USAGE}"
        )
    return int(text)


def main() -> None:
    """`python -m pipeline.pack`."""
    parser = argparse.ArgumentParser("python -m pipeline.pack", description="Pack pictures in class folders.")
    parser.add_argument("folder", help="FOLDER/<class>/<picture>, or FOLDER/train/<class>/... and FOLDER/test/...")
    parser.add_argument("side", help="height and width of the images in pixels")
    parser.add_argument("archive", help="the tar.gz to write")
    parser.add_argument("--skip", action="store_true", help="leave out pictures that cannot be used")
    parser.add_argument("--write", action="store_true", help="set the settings for the archive in params.yaml")
    arguments = parser.parse_args()
    if not arguments.folder or not arguments.archive:
        raise PipelineError(
            f"FOLDER is {arguments.folder!r} and OUT is {arguments.archive!r}; both are needed: {USAGE}"
        )
    side = side_of(arguments.side)
    pack(Path(arguments.folder), side, Path(arguments.archive), arguments.skip, arguments.write)


if __name__ == "__main__":
    with exit_on_error("pack"):
        main()
