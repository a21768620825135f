"""The reader of archives in CIFAR-10's format; it executes nothing from the archive, and bounds its time and memory.

The format is a tar.gz of pickles, see `pipeline.data.archive_layout`. Any data set in it works.
"""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.data import large_arrays
from pipeline.data.archive_layout import (
    CIFAR10,
    CIFAR100,
    MAX_CLASSES,
    MEMBER,
    Content,
    Layout,
    describe,
    invalid,
    layout_of,
    listed,
    read_class_names,
    read_parts,
    read_preprocessing,
    require_announced_sizes,
    required,
)
from pipeline.data.cifar10 import CHANNELS, OFFICIAL_MEMBERS
from pipeline.data.inert_pickle import PickleError, byte_table, load
from pipeline.data.pictures import SIDES
from pipeline.data.tar_members import UnfitTarError, read_members


class Archive(NamedTuple):
    """A data set in the order of the archive's batches; many images are memory-mapped, see `large_arrays`.

    Images are uint8 (n, side, side, 3), RGB, 0 to 255; labels are uint8 (n,), or uint16 if there are more than 256
    classes, 0 to classes - 1.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    is_cifar10: bool = False  # the members are the official ones, byte for byte
    preprocessing: str = ""  # what made the images from picture files; empty if the archive does not say it


class _Batches(NamedTuple):
    """What is in the members, by their names: images, labels, everything else, and the SHA-256 of the member."""

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    contents: dict[str, Content]
    hashes: dict[str, str]


def read_archive(path: Path) -> Archive:
    """Decode an archive in CIFAR-10's format; `PipelineError` if it is another file or contradicts its batches.meta."""
    batches = _read_batches(path)
    contents = batches.contents
    layout = _only_layout(contents)
    meta = required(contents, layout.meta)
    class_names, parts = read_class_names(meta, layout), read_parts(contents, layout)
    require_announced_sizes(meta, layout, parts, {name: len(each) for name, each in batches.labels.items()})
    _require_one_side(batches.images, meta)
    _require_names(batches.labels, class_names, layout)
    dtype = np.uint8 if len(class_names) <= 256 else np.uint16

    def part(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        images = large_arrays.joined([batches.images.pop(name) for name in names], path.parent)
        return images, np.concatenate([batches.labels[name] for name in names]).astype(dtype)

    is_cifar10, preprocessing = batches.hashes == OFFICIAL_MEMBERS, read_preprocessing(meta)
    return Archive(*part(parts.train), *part(parts.test), class_names, is_cifar10, preprocessing)


def _only_layout(contents: dict[str, Content]) -> Layout:
    layouts = {layout_of(name) for name in contents} or {CIFAR10}
    if len(layouts) > 1:
        raise invalid(f"the archive has members of CIFAR-10's and of CIFAR-100's format: {listed(contents)}")
    return layouts.pop()


def _read_batches(path: Path) -> _Batches:
    batches, size = _Batches({}, {}, {}, {}), 0
    try:
        for name, data in read_members(path, MEMBER):
            batches.hashes[name] = hashlib.sha256(data).hexdigest()
            content = batches.contents[name] = _unpickle(name, data)
            if name not in (CIFAR10.meta, CIFAR100.meta):
                images, batches.labels[name] = decode(name, content)
                del content["data"]  # of which `images` is a copy
                size += images.nbytes
                is_small = size <= large_arrays.LIMIT
                batches.images[name] = images if is_small else large_arrays.on_disk(images, path.parent)
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist. `dvc repro` downloads it.") from None
    except UnfitTarError as error:
        raise invalid(str(error)) from None
    return batches


def decode(name: str, batch: Content) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (rows, side, side, 3), RGB, and labels, uint16 (rows,), of the batch with this name.

    `PipelineError` if it has others.
    """
    table, labels = required(batch, "data", name), required(batch, layout_of(name).labels, name)
    side = math.isqrt(table.shape[1] // CHANNELS) if isinstance(table, np.ndarray) else 0
    if not isinstance(table, np.ndarray) or side not in SIDES or table.shape[1] != CHANNELS * side * side:
        raise invalid(
            f"{name} must contain a uint8 table with 3 x side x side bytes a row (3,072 for CIFAR-10), side "
            f"{SIDES.start} to {SIDES.stop - 1}, got {describe(table)}"
        )
    if not isinstance(labels, list) or len(labels) != len(table) or not all(type(label) is int for label in labels):
        raise invalid(f"{name} must contain a list of {len(table)} integers as labels, got {describe(labels)}")
    if not labels:
        raise invalid(f"{name} contains no images")
    if unknown := [label for label in labels if not 0 <= label < MAX_CLASSES]:
        raise invalid(f"{name} has label {unknown[0]}, but labels are 0 to {MAX_CLASSES - 1}")
    planes = table.reshape(-1, CHANNELS, side, side)  # (n, channel, row, column)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.uint16)


def _unpickle(name: str, data: bytes) -> Content:
    try:
        content = load(data)
    except PickleError as error:
        raise invalid(f"the pickle {name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise invalid(f"the pickle {name} must contain a dictionary, got {describe(content)}")
    named = {key.decode("utf-8", "replace") if isinstance(key, bytes) else key: value for key, value in content.items()}
    if (table := byte_table(named.get("data"))) is not None:
        named["data"] = table
    return named


def _require_one_side(images: dict[str, np.ndarray], meta: Content) -> None:
    sides: dict[str, object] = {name: each.shape[1] for name, each in images.items()}
    if "side" in meta:
        sides[CIFAR10.meta] = meta["side"]
    if any(side != next(iter(sides.values())) for side in sides.values()):
        found = ", ".join(f"{describe(side)} in {name}" for name, side in list(sides.items())[:8])
        raise invalid(f"all images must have one height and width, but they are {found}")


def _require_names(labels: dict[str, np.ndarray], class_names: list[str], layout: Layout) -> None:
    for name, each in labels.items():
        if each.max() >= len(class_names):
            raise invalid(
                f"{name} has label {each.max()}, but {layout.meta} names {len(class_names)} classes, 0 to "
                f"{len(class_names) - 1}"
            )
