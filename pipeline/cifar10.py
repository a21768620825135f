"""CIFAR-10's facts and file format, read without running anything from the archive.

Format: https://www.cs.toronto.edu/~kriz/cifar.html (section "Python version"): a tar.gz of
pickles, `batches.meta`, `data_batch_1..n` and `test_batch`. Any data set in this format works.
"""

import io
import pickle
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy._core.multiarray import _reconstruct

from pipeline.errors import PipelineError

OFFICIAL_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SIDE = 32  # pixels; height and width of an image
CHANNELS = 3  # red, green, blue
ROW_BYTES = CHANNELS * SIDE * SIDE

# The four names that pickles of arrays need: the first as NumPy 1 spells it, the second as NumPy 2.
ADMITTED_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
BATCH_NAME = re.compile(r"data_batch_[1-9][0-9]*|test_batch|batches\.meta")
REMEDY = "Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."


class Archive(NamedTuple):
    """A whole data set in memory.

    Images are uint8 (n, 32, 32, 3), RGB, 0 to 255; labels uint8 (n,), 0 to classes - 1, both in
    the archive's order: training batches 1 to n, then the test batch.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]


def data_name(name: str | None, archive_sha256: str) -> str:
    """What tables call the data: "CIFAR-10" only where the archive is the official one."""
    if archive_sha256 == OFFICIAL_SHA256:
        return "CIFAR-10"
    unnamed = re.sub(r"[^a-z0-9]", "", (name or "").lower()) in ("", "cifar10")
    return f"archive {archive_sha256[:8]}" if unnamed else name


def read_archive(path: Path) -> Archive:
    """Decode a data set in CIFAR-10's archive format.

    Raises:
        PipelineError: the file is no such archive, or anything in it contradicts batches.meta.
    """
    contents = {name: _unpickle(name, data) for name, data in _read_members(path).items()}
    class_names, rows = _read_meta(contents)
    train = [decode(name, contents[name], rows, len(class_names)) for name in _training_batches(contents)]
    test = decode("test_batch", _required(contents, "test_batch"), rows, len(class_names))
    return Archive(*(np.concatenate(part) for part in zip(*train, strict=True)), *test, class_names)


def decode(name: str, batch: dict[str, Any], rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch.

    Returns:
        images: uint8 (rows, 32, 32, 3), RGB, 0 to 255.
        labels: uint8 (rows,), 0 to classes - 1.

    Raises:
        PipelineError: the batch does not have the documented shape, or labels name no class.
    """
    table, labels = _required(batch, "data", name), _required(batch, "labels", name)
    if not isinstance(table, np.ndarray) or table.dtype != np.uint8 or table.ndim != 2 or table.shape[1] != ROW_BYTES:
        raise _broken(f"{name} must hold a uint8 table of {ROW_BYTES} bytes a row, got {_describe(table)}")
    if len(table) != rows:
        raise _broken(f"batches.meta announces {rows} images per batch, but {name} has {len(table)}")
    if not isinstance(labels, list) or len(labels) != rows or not all(type(label) is int for label in labels):
        raise _broken(f"{name} must hold a list of {rows} whole numbers as labels, got {_describe(labels)}")
    wrong = [label for label in labels if not 0 <= label < classes]
    if wrong:
        raise _broken(f"{name} has label {wrong[0]}, but batches.meta names {classes} classes, 0 to {classes - 1}")
    planes = table.reshape(rows, CHANNELS, SIDE, SIDE)  # (n, channel, row, column)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.uint8)


class _NumpyOnlyUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values; every other name in the pickle is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED_NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR-10 pickle needs; it was not run")
        return ADMITTED_NAMES[module, name]


def _unpickle(name: str, data: bytes) -> dict[str, Any]:
    try:
        content = _NumpyOnlyUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise _broken(f"the pickle {name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise _broken(f"the pickle {name} must hold a dictionary, got {_describe(content)}")
    return {_text(key): value for key, value in content.items()}


def _read_members(path: Path) -> dict[str, bytes]:
    """The batch files' bytes by name; nothing is written to disk."""
    members = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                _refuse_unsafe(member)
                name = PurePosixPath(member.name).name
                if member.isfile() and BATCH_NAME.fullmatch(name):
                    members[name] = tar.extractfile(member).read()
            while tar.fileobj.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
    except FileNotFoundError:
        raise PipelineError(f"there is no {path}. `dvc repro` downloads it.") from None
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise _broken(f"{path} cannot be read as a tar.gz: {reason}") from None
    return members


def _refuse_unsafe(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise _broken(f"the archive's member {member.name!r} points outside of the archive")
    if not (member.isfile() or member.isdir()):
        raise _broken(f"the archive's member {member.name!r} is a link or a device, where only files are expected")


def _read_meta(contents: dict[str, dict[str, Any]]) -> tuple[list[str], int]:
    """Class names and images per batch, from batches.meta."""
    meta = _required(contents, "batches.meta")
    names = _required(meta, "label_names", "batches.meta")
    rows = _required(meta, "num_cases_per_batch", "batches.meta")
    if not isinstance(names, list) or not 2 <= len(names) <= 256:
        raise _broken(f"batches.meta must list 2 to 256 class names, got {_describe(names)}")
    if type(rows) is not int or rows < 1:
        raise _broken(f"batches.meta's num_cases_per_batch must be a whole number above 0, got {rows!r}")
    return [_text(name) for name in names], rows


def _training_batches(contents: dict[str, dict[str, Any]]) -> list[str]:
    """The training batches' names in order; the first one's title, "training batch 1 of 5", tells how many."""
    first = _required(contents, "data_batch_1")
    title = _text(_required(first, "batch_label", "data_batch_1"))
    announced = re.fullmatch(r"training batch 1 of ([1-9]\d{0,3})", title)
    if not announced:
        raise _broken(f'data_batch_1 must be titled "training batch 1 of N", got {title!r}')
    names = [f"data_batch_{number}" for number in range(1, int(announced[1]) + 1)]
    for name in names:
        _required(contents, name)
    if unannounced := contents.keys() - {"batches.meta", "test_batch", *names}:
        raise _broken(f"the archive has {', '.join(sorted(unannounced))}, but data_batch_1 is {title!r}")
    return names


def _required(mapping: dict[str, Any], key: str, where: str = "the archive") -> Any:
    if key not in mapping:
        raise _broken(f"{where} has no {key}; it has {', '.join(sorted(mapping)) or 'nothing'}")
    return mapping[key]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__} {value!r:.60}"


def _broken(what: str) -> PipelineError:
    return PipelineError(f"{what}: this is not a whole archive in CIFAR-10's format. {REMEDY}")
