"""The reader of archives in CIFAR-10's format; it executes nothing from the archive, and bounds its time and memory.

Format: https://www.cs.toronto.edu/~kriz/cifar.html (section "Python version"): a tar.gz of
pickles: `batches.meta`, `data_batch_1..n` and `test_batch`. Any data set in this format works.
"""

import gzip
import hashlib
import re
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, TypeVar, cast

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.data.cifar10 import CHANNELS, OFFICIAL_MEMBERS, SIDE
from pipeline.data.inert_pickle import Call, PickleError, byte_table, load

ROW_BYTES = CHANNELS * SIDE * SIDE
MAX_BYTES = 1 << 29  # unpacked; CIFAR-10 has 184 MB
MAX_MEMBERS = 1_000
MAX_HEADER = 1 << 16  # bytes of a long name or of pax records
MAX_NAME = 100  # characters of a class name
BATCH_NAME = re.compile(r"data_batch_[1-9][0-9]{0,3}|test_batch|batches\.meta")
# Control characters, surrogates, line separators, and characters that reverse the direction of text.
UNFIT = ("Cc", "Cs", "Zl", "Zp")
REVERSING = re.compile("[\u202a-\u202e\u2066-\u2069]")
REMEDY = "Check download.urls and download.sha256 in params.yaml, then run `dvc repro`."
Content = dict[str, object]
Value = TypeVar("Value")


class Archive(NamedTuple):
    """A data set in memory, in the order of the archive's batches.

    Images are uint8 (n, 32, 32, 3), RGB, 0 to 255; labels are uint8 (n,), 0 to classes - 1.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    is_cifar10: bool = False  # the members are the official ones, byte for byte


def read_archive(path: Path) -> Archive:
    """Decode an archive in CIFAR-10's format; `PipelineError` if it is another file or contradicts its batches.meta."""
    contents: dict[str, Content] = {}
    batches: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    hashes = {}
    for name, data in _members(path):
        hashes[name] = hashlib.sha256(data).hexdigest()
        contents[name] = _unpickle(name, data)
        if name != "batches.meta":
            batches[name] = decode(name, contents[name])
            del contents[name]["data"]  # of which `batches` has a copy
    class_names, rows = _read_meta(contents)
    for name, (images, labels) in batches.items():
        _compare_with_meta(name, images, labels, rows, len(class_names))
    train = [batches[name] for name in _training_batches(contents)]
    _required(contents, "test_batch")
    images, labels = map(np.concatenate, zip(*train, strict=True))
    return Archive(images, labels, *batches["test_batch"], class_names, hashes == OFFICIAL_MEMBERS)


def decode(name: str, batch: Content) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (rows, 32, 32, 3), RGB, and labels, uint8 (rows,), of a batch; `PipelineError` if it has others."""
    table, labels = _required(batch, "data", name), _required(batch, "labels", name)
    if not isinstance(table, np.ndarray) or table.shape[1] != ROW_BYTES:
        raise _invalid(f"{name} must contain a uint8 table of {ROW_BYTES} bytes a row, got {_describe(table)}")
    if not isinstance(labels, list) or len(labels) != len(table) or not all(type(label) is int for label in labels):
        raise _invalid(f"{name} must contain a list of {len(table)} integers as labels, got {_describe(labels)}")
    if unknown := [label for label in labels if not 0 <= label < 256]:
        raise _invalid(f"{name} has label {unknown[0]}, but labels are 0 to 255")
    planes = table.reshape(-1, CHANNELS, SIDE, SIDE)  # (n, channel, row, column)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.array(labels, np.uint8)


def _compare_with_meta(name: str, images: np.ndarray, labels: np.ndarray, rows: int, classes: int) -> None:
    if len(images) != rows:
        raise _invalid(f"batches.meta announces {rows} images per batch, but {name} has {len(images)}")
    if labels.max() >= classes:
        raise _invalid(f"{name} has label {labels.max()}, but batches.meta names {classes} classes, 0 to {classes - 1}")


def _unpickle(name: str, data: bytes) -> Content:
    try:
        content = load(data)
    except PickleError as error:
        raise _invalid(f"the pickle {name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise _invalid(f"the pickle {name} must contain a dictionary, got {_describe(content)}")
    named = {key.decode("utf-8", "replace") if isinstance(key, bytes) else key: value for key, value in content.items()}
    if (table := byte_table(named.get("data"))) is not None:
        named["data"] = table
    return named


class _Limited:
    """A file of which at most `MAX_BYTES` can be read."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self._left = file, MAX_BYTES

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
        return content


class _TarInfo(tarfile.TarInfo):
    """A member whose long name or pax records are small; tarfile reads those into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size > MAX_HEADER and not self.isreg():
            raise tarfile.ReadError(f"a header of {self.size:,} bytes is too large")
        return super()._proc_member(archive)  # type: ignore[misc]


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the batch files, one at a time; nothing is written to disk."""
    try:
        with gzip.open(path) as file, tarfile.open(
            fileobj=cast("IO[bytes]", limited := _Limited(file)), mode="r|", bufsize=1 << 20, tarinfo=_TarInfo
        ) as tar:  # fmt: skip
            for count, member in enumerate(tar):
                _refuse_unsafe(member, count)
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member)  # None for a folder
                if content and BATCH_NAME.fullmatch(name):
                    yield name, content.read()
            while limited.read(1 << 20):  # gzip verifies its checksum at the end
                pass
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist. `dvc repro` downloads it.") from None
    except RecursionError:
        raise _invalid(f"{path} cannot be read as a tar.gz: it has too many headers in a row") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise _invalid(f"{path} cannot be read as a tar.gz: {reason:.200}") from None


def _refuse_unsafe(member: tarfile.TarInfo, count: int) -> None:
    path, name = PurePosixPath(member.name), repr(member.name[:100])
    if count >= MAX_MEMBERS:
        raise _invalid(f"the archive has more than {MAX_MEMBERS:,} members")
    if path.is_absolute() or ".." in path.parts:
        raise _invalid(f"the archive's member {name} points outside the archive")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise _invalid(f"the archive's member {name} is a link, a device or sparse, but only files are expected")


def _read_meta(contents: dict[str, Content]) -> tuple[list[str], int]:
    """Class names and images per batch, from batches.meta."""
    meta = _required(contents, "batches.meta")
    names = _required(meta, "label_names", "batches.meta")
    rows = _required(meta, "num_cases_per_batch", "batches.meta")
    if not isinstance(names, list) or not 2 <= len(names) <= 256:
        raise _invalid(f"batches.meta must list 2 to 256 class names, got {_describe(names)}")
    if type(rows) is not int or rows < 1:
        raise _invalid(f"batches.meta's num_cases_per_batch must be an integer above 0, got {_describe(rows)}")
    class_names = [_class_name(name) for name in names]
    if repeated := [name for place, name in enumerate(class_names) if name in class_names[:place]]:
        raise _invalid(f"batches.meta names the class {repeated[0]!r} twice")
    return class_names, rows


def _class_name(value: object) -> str:
    """A class name that files, tables and terminals can hold."""
    try:
        name = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise _invalid(f"batches.meta has the class name {_describe(value)}, which is not UTF-8") from None
    if not isinstance(name, str):
        raise _invalid(f"batches.meta has the class name {_describe(value)}, but a name must be text")
    if not 0 < len(name.strip()) == len(name) <= MAX_NAME:
        raise _invalid(
            f"batches.meta has the class name {_describe(name)}, but a name must have 1 to {MAX_NAME} characters and "
            "no space at its ends"
        )
    if REVERSING.search(name) or any(unicodedata.category(character) in UNFIT for character in name):
        raise _invalid(f"batches.meta has the class name {_describe(name)} with a control character")
    return name


def _training_batches(contents: dict[str, Content]) -> list[str]:
    """Names of the training batches in order; the title of the first, "training batch 1 of 5", says how many."""
    title = _required(_required(contents, "data_batch_1"), "batch_label", "data_batch_1")
    text = title.decode("utf-8", "replace") if isinstance(title, bytes) else title
    announced = re.fullmatch(r"training batch 1 of ([1-9]\d{0,3})", text) if isinstance(text, str) else None
    if not announced:
        raise _invalid(f'data_batch_1 must be titled "training batch 1 of N", got {_describe(text)}')
    names = [f"data_batch_{number}" for number in range(1, int(announced[1]) + 1)]
    for name in names:
        _required(contents, name)
    if unannounced := contents.keys() - {"batches.meta", "test_batch", *names}:
        raise _invalid(f"the archive has {_listed(unannounced)}, but data_batch_1 is {announced[0]!r}")
    return names


def _required(mapping: dict[str, Value], key: str, where: str = "the archive") -> Value:
    if key not in mapping:
        raise _invalid(f"{where} has no {key}; it has {_listed(mapping) or 'nothing'}")
    return mapping[key]


def _listed(names: Iterator[str] | dict[str, Value] | set[str]) -> str:
    """Some of the names, escaped: they come from the archive."""
    shown = [name if name.isidentifier() or BATCH_NAME.fullmatch(name) else repr(name[:40]) for name in sorted(names)]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def _describe(value: object) -> str:
    """The kind of a value from the archive, and its content only if that is short: it can be huge, or contain itself."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, (bytes, str)):
        return repr(value[:60])
    if isinstance(value, Call):
        return "another object"
    return str(value)[:60] if isinstance(value, (int, type(None))) else type(value).__name__


def _invalid(what: str) -> PipelineError:
    return PipelineError(f"{what}: this is not a complete archive in CIFAR-10's format. {REMEDY}")
