"""Facts about CIFAR-10 and its archive format; the reader executes nothing from the archive.

Format: https://www.cs.toronto.edu/~kriz/cifar.html (section "Python version"): a tar.gz of
pickles: `batches.meta`, `data_batch_1..n` and `test_batch`. Any data set in this format works.
"""

import io
import pickle
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
from numpy._core.multiarray import _reconstruct

from pipeline.common.errors import PipelineError

OFFICIAL_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
SIDE = 32  # pixels; height and width of an image
CHANNELS = 3  # red, green, blue
ROW_BYTES = CHANNELS * SIDE * SIDE
Value = TypeVar("Value")

# The names that pickled arrays need; the first is NumPy 1's, the second NumPy 2's.
ALLOWED_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
BATCH_NAME = re.compile(r"data_batch_[1-9][0-9]*|test_batch|batches\.meta")
REMEDY = "Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."


class Archive(NamedTuple):
    """A data set in memory, in the order of the archive's batches.

    Images are uint8 (n, 32, 32, 3), RGB, 0 to 255; labels are uint8 (n,), 0 to classes - 1.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]


def data_name(name: str | None, archive_sha256: str) -> str:
    """The displayed name of the data set: "CIFAR-10" only if the archive is the official one."""
    if archive_sha256 == OFFICIAL_SHA256:
        return "CIFAR-10"
    is_own_name = re.sub(r"[^a-z0-9]", "", (name or "").lower()) not in ("", "cifar10")
    return name if name and is_own_name else f"archive {archive_sha256[:8]}"


def read_archive(path: Path) -> Archive:
    """Decode an archive in CIFAR-10's format; `PipelineError` if it is another file or contradicts its batches.meta."""
    contents = {name: _unpickle(name, data) for name, data in _read_members(path).items()}
    class_names, rows = _read_meta(contents)
    train = [decode(name, contents[name], rows, len(class_names)) for name in _training_batches(contents)]
    test = decode("test_batch", _required(contents, "test_batch"), rows, len(class_names))
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return Archive(images, labels, *test, class_names)


def decode(name: str, batch: dict[str, object], rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch.

    Returns:
        images: uint8 (rows, 32, 32, 3), RGB, 0 to 255.
        labels: uint8 (rows,), 0 to classes - 1.

    Raises:
        PipelineError: the batch does not have the documented format, or a label is not a class.
    """
    table, labels = _required(batch, "data", name), _required(batch, "labels", name)
    if not isinstance(table, np.ndarray) or table.dtype != np.uint8 or table.ndim != 2 or table.shape[1] != ROW_BYTES:
        raise _invalid(f"{name} must contain a uint8 table of {ROW_BYTES} bytes a row, got {_describe(table)}")
    if len(table) != rows:
        raise _invalid(f"batches.meta announces {rows} images per batch, but {name} has {len(table)}")
    if not isinstance(labels, list) or len(labels) != rows or not all(type(label) is int for label in labels):
        raise _invalid(f"{name} must contain a list of {rows} integers as labels, got {_describe(labels)}")
    unknown = [label for label in labels if not 0 <= label < classes]
    if unknown:
        raise _invalid(f"{name} has label {unknown[0]}, but batches.meta names {classes} classes, 0 to {classes - 1}")
    planes = table.reshape(rows, CHANNELS, SIDE, SIDE)  # (n, channel, row, column)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.uint8)


class _NumpyOnlyUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain values only; any other name in the pickle is refused and not executed."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED_NAMES:
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, which no CIFAR-10 pickle needs; it was not executed"
            )
        return ALLOWED_NAMES[module, name]


def _unpickle(name: str, data: bytes) -> dict[str, object]:
    try:
        content = _NumpyOnlyUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise _invalid(f"the pickle {name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise _invalid(f"the pickle {name} must contain a dictionary, got {_describe(content)}")
    return {_text(key): value for key, value in content.items()}


def _read_members(path: Path) -> dict[str, bytes]:
    """Content of the batch files by name; nothing is written to disk."""
    members = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                _refuse_unsafe(member)
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member)  # None for a folder
                if content and BATCH_NAME.fullmatch(name):
                    members[name] = content.read()
            while tar.fileobj.read(1 << 20):  # gzip verifies its checksum at the end
                pass
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist. `dvc repro` downloads it.") from None
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise _invalid(f"{path} cannot be read as a tar.gz: {reason}") from None
    return members


def _refuse_unsafe(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise _invalid(f"the archive's member {member.name!r} points outside the archive")
    if not (member.isfile() or member.isdir()):
        raise _invalid(f"the archive's member {member.name!r} is a link or a device, but only files are expected")


def _read_meta(contents: dict[str, dict[str, object]]) -> tuple[list[str], int]:
    """Class names and images per batch, from batches.meta."""
    meta = _required(contents, "batches.meta")
    names = _required(meta, "label_names", "batches.meta")
    rows = _required(meta, "num_cases_per_batch", "batches.meta")
    if not isinstance(names, list) or not 2 <= len(names) <= 256:
        raise _invalid(f"batches.meta must list 2 to 256 class names, got {_describe(names)}")
    if type(rows) is not int or rows < 1:
        raise _invalid(f"batches.meta's num_cases_per_batch must be an integer above 0, got {rows!r}")
    return [_text(name) for name in names], rows


def _training_batches(contents: dict[str, dict[str, object]]) -> list[str]:
    """Names of the training batches in order; the title of the first, "training batch 1 of 5", says how many."""
    first = _required(contents, "data_batch_1")
    title = _text(_required(first, "batch_label", "data_batch_1"))
    announced = re.fullmatch(r"training batch 1 of ([1-9]\d{0,3})", title)
    if not announced:
        raise _invalid(f'data_batch_1 must be titled "training batch 1 of N", got {title!r}')
    names = [f"data_batch_{number}" for number in range(1, int(announced[1]) + 1)]
    for name in names:
        _required(contents, name)
    if unannounced := contents.keys() - {"batches.meta", "test_batch", *names}:
        raise _invalid(f"the archive has {', '.join(sorted(unannounced))}, but data_batch_1 is {title!r}")
    return names


def _required(mapping: dict[str, Value], key: str, where: str = "the archive") -> Value:
    if key not in mapping:
        raise _invalid(f"{where} has no {key}; it has {', '.join(sorted(mapping)) or 'nothing'}")
    return mapping[key]


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__} {value!r:.60}"


def _invalid(what: str) -> PipelineError:
    return PipelineError(f"{what}: this is not a complete archive in CIFAR-10's format. {REMEDY}")
