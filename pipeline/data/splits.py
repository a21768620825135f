"""The splits as .npz files, and the check that they passed validation."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of
from pipeline.data import large_arrays

SPLIT_NAMES = ("train", "validation", "test")


class Split(NamedTuple):
    """Images, labels and where they come from.

    images: uint8 (n, side, side, 3), RGB, 0 to 255.
    labels: uint8 (n,), or uint16 if there are more than 256 classes, 0 to classes - 1.
    archive_index: int32 (n,), position in the archive: training batches in order, then the test batch.
    class_names: str (classes,).
    archive_sha256: of the archive that the images come from, 64 hex digits.
    is_cifar10: whether that archive's members are CIFAR-10's, byte for byte.
    preprocessing: what made the images from picture files, as in `pictures.PREPROCESSING`; empty if the archive does
        not say it.
    """

    images: np.ndarray
    labels: np.ndarray
    archive_index: np.ndarray
    class_names: np.ndarray
    archive_sha256: str
    is_cifar10: bool = False
    preprocessing: str = ""

    @property
    def side(self) -> int:
        """Height and width of the images in pixels."""
        return self.images.shape[1]


class Verdict(TypedDict):
    """Content of validate.json: the result of the checks, and what was checked.

    success: whether all expectations were met; `failed` counts the others.
    splits: SHA-256 of each split's file, by split name.
    """

    success: bool
    expectations: int
    failed: int
    images: int
    archive_sha256: str
    is_cifar10: bool
    splits_sha256: str
    splits: dict[str, str]


def write_split(path: Path, split: Split) -> None:
    """Write `split` uncompressed; equal splits give equal bytes."""
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in split._asdict().items() if name != "preprocessing" or value})


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote; `PipelineError` if the file is missing or damaged.

    Images with more than `large_arrays.LIMIT` bytes are memory-mapped, read-only.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            fields = {name: content[name] for name in Split._fields if name in content and name != "images"}
            is_large = path.stat().st_size > large_arrays.LIMIT
            fields["images"] = large_arrays.mapped_member(path, "images.npy") if is_large else content["images"]
    except Exception as error:  # a damaged file can raise anything
        raise PipelineError(f"cannot read the split {path}: {error}. `dvc repro` restores or recreates it.") from None
    is_cifar10, preprocessing = bool(fields["is_cifar10"]), str(fields.get("preprocessing", ""))
    texts = {"archive_sha256": str(fields["archive_sha256"]), "preprocessing": preprocessing}
    return Split(**(fields | texts | {"is_cifar10": is_cifar10}))


def combined_sha256(hashes: dict[str, str]) -> str:
    """One hash for the three splits, from their files' SHA-256."""
    return hashlib.sha256("".join(hashes[name] for name in SPLIT_NAMES).encode()).hexdigest()


def require_validated(verdict: Path, **splits: Path) -> Verdict:
    """The content of validate.json, if it says success for exactly these files, by split name: train=train_split.

    Raises `PipelineError` if validation failed, never ran, or checked other files.
    """
    remedy = "Run `dvc repro validate` and read reports/data_docs/index.html."
    try:
        content = json.loads(verdict.read_text(encoding="utf-8"))
        success, hashes = content["success"], content["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"cannot read the validation result {verdict}: {error!r}. {remedy}") from None
    if success is not True:
        raise PipelineError(f"the data failed validation ({verdict} says success: {success}). {remedy}")
    for name, path in splits.items():
        if not path.is_file():
            raise PipelineError(f"the split {path} does not exist. `dvc repro prepare` creates it.")
        actual = sha256_of(path)
        if hashes.get(name) != actual:
            raise PipelineError(
                f"{path} is not the file that was validated as split {name}: its SHA-256 is {actual}, "
                f"validated was {hashes.get(name)}. `dvc repro` restores it, or validates it."
            )
    return content
