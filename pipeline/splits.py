"""The splits on disk: one .npz file each, and the proof that they were validated."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import PipelineError
from pipeline.files import sha256_of

SPLIT_NAMES = ("train", "validation", "test")


class Split(NamedTuple):
    """Images with what belongs to them.

    images: uint8 (n, 32, 32, 3), RGB, 0 to 255.
    labels: uint8 (n,), 0 to classes - 1.
    archive_index: int32 (n,), position in the archive: training batches in order, then the test batch.
    class_names: str (classes,).
    archive_sha256: of the archive that the images come from, 64 hex digits.
    """

    images: np.ndarray
    labels: np.ndarray
    archive_index: np.ndarray
    class_names: np.ndarray
    archive_sha256: str


def write_split(path: Path, split: Split) -> None:
    """Write `split` uncompressed; equal splits give equal bytes."""
    with path.open("wb") as file:
        np.savez(file, **split._asdict())


def read_split(path: Path) -> Split:
    """Read what `write_split` wrote.

    Raises:
        PipelineError: the file is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            fields = {name: content[name] for name in Split._fields}
    except Exception as error:  # a damaged file can raise anything
        raise PipelineError(
            f"cannot read the split {path}: {error}. `dvc repro` restores it or makes it anew."
        ) from None
    return Split(**{**fields, "archive_sha256": str(fields["archive_sha256"])})


def combined_sha256(hashes: dict[str, str]) -> str:
    """One hash for the three splits, from their files' SHA-256."""
    return hashlib.sha256("".join(hashes[name] for name in SPLIT_NAMES).encode()).hexdigest()


def require_validated(report: Path, *splits: Path) -> dict[str, Any]:
    """The content of validate.json, where it says success for these very splits.

    Raises:
        PipelineError: validation failed, was never run, or saw other files than `splits`.
    """
    remedy = "Run `dvc repro validate` and read reports/data_docs/index.html."
    try:
        content = json.loads(report.read_text())
        success, hashes = content["success"], content["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"cannot read the validation report {report}: {error!r}. {remedy}") from None
    if success is not True:
        raise PipelineError(f"the data failed validation ({report} says success: {success}). {remedy}")
    for split in splits:
        if not split.is_file():
            raise PipelineError(f"there is no split {split}. `dvc repro prepare` makes it.")
        actual = sha256_of(split)
        if hashes.get(split.stem) != actual:
            raise PipelineError(
                f"{split} is not the file that was validated: its SHA-256 is {actual}, "
                f"validated was {hashes.get(split.stem)}. `dvc repro` restores it, or validates it."
            )
    return content
