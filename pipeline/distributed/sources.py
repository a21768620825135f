"""The pictures that `make score` gets: files in a folder, objects in S3, or rows of Parquet files."""

import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from pyarrow import fs

from pipeline.common.errors import PipelineError, printable
from pipeline.data.pictures import MAXIMUM_BYTES, files_in
from pipeline.distributed.storage import opened

ROWS_PER_BATCH = 256  # of Parquet files, with the content of pictures
ROWS = pa.schema([("file", pa.string()), ("row", pa.string()), ("image", pa.binary()), ("reason", pa.string())])


def files_below(source: str) -> list[str]:
    """The files in a folder or below an S3 address, in order and without hidden ones.

    Raises:
        PipelineError: there is none, or Parquet files do not have the columns `file` and `image`.
    """
    files = list(_objects_below(source)) if source.startswith("s3://") else list(_files_in_folder(source))
    if not files:
        raise PipelineError(f"{printable(source)} has no files. IN is a folder, s3://BUCKET/PREFIX, or Parquet files.")
    if is_table(files):
        require_columns(files, source)
    return files


def is_table(files: list[str]) -> bool:
    """Whether pictures are in rows of Parquet files; among pictures, such a file is one that cannot be read."""
    return all(file.endswith(".parquet") for file in files)


def require_columns(files: list[str], source: str) -> None:
    """`PipelineError` unless the first Parquet file that can be read has the columns `file` and `image`."""
    for file in files:
        try:
            columns = pyarrow.parquet.read_schema(file, filesystem=opened(source)[0]).names
        except (OSError, pa.ArrowException):
            continue
        if not {"file", "image"} <= set(columns):
            raise PipelineError(
                f"{printable(file)} has the columns {printable(', '.join(columns), 200)}, but it should have `file`, "
                "a name, and `image`, the content of a picture file."
            )
        return
    raise PipelineError(f"none of the {len(files):,} Parquet files in {printable(source)} can be read.")


def _files_in_folder(source: str) -> Iterator[str]:
    for path, reason in files_in(Path(source)):
        if not is_text(str(path)):
            reason = "its name is not UTF-8"
        if reason:
            print(f"score: {printable(f'{path} is skipped: {reason}')}", file=sys.stderr)
        elif path.exists() or path != Path(source):  # a dangling link costs its row
            yield str(path)


def is_text(name: str) -> bool:
    """Whether a name can be in a table: it has no bytes that are not UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _objects_below(source: str) -> Iterator[str]:
    system, folder = opened(source)
    try:
        found = system.get_file_info(fs.FileSelector(folder, recursive=True))
    except OSError as error:
        raise PipelineError(f"{printable(source)} cannot be listed: {printable(str(error), 300)}.") from None
    files = sorted(each.path for each in found if each.type == fs.FileType.File)
    prefix = len(Path(folder).parts)
    return (file for file in files if not any(part[0] == "." for part in Path(file).parts[prefix:]))


def content_of(file: str, source: str) -> Path | bytes | str:
    """A file of this machine, or the content of an object, or the reason why it cannot be read."""
    system, _ = opened(source)
    if isinstance(system, fs.LocalFileSystem):
        return Path(file)
    try:
        with system.open_input_file(file) as stream:
            if stream.size() <= MAXIMUM_BYTES:
                return stream.readall()
            return f"it has {stream.size():,} bytes, at most {MAXIMUM_BYTES:,} are read"
    except OSError as error:
        return printable(str(error), 300)


def rows_in(file: str, share: Sequence[int], done: Sequence[int], source: str) -> Iterator[pa.Table]:
    """Rows of a Parquet file, without those with the numbers `done`, in the schema `ROWS`.

    Args:
        share: (i, n): the i-th of n parts of the rows, from 0.
    """
    try:
        with opened(source)[0].open_input_file(file) as stream:
            # Otherwise Arrow keeps all columns of a row group in memory.
            table = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
            for first, batch in _batches(table, *share):
                image, numbers = batch["image"], range(first, first + len(batch))
                if pa.types.is_struct(image.type):  # of Hugging Face
                    image = image.field("bytes")
                names = batch["file"].cast(pa.string()), [f"{file}:{number}" for number in numbers]
                rows = pa.table([*names, image.cast(pa.binary()), pa.nulls(len(batch), pa.string())], ROWS)
                if rows := rows.filter(pa.array(~np.isin(numbers, done))):
                    yield rows
    except (OSError, KeyError, pa.ArrowException) as error:
        yield pa.table([[file], [None], [None], [f"the file cannot be read: {printable(str(error), 300)}"]], ROWS)


def _batches(table: pyarrow.parquet.ParquetFile, part: int, parts: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a part, with the number of the first one; only row groups with rows of it are read."""
    rows, groups = table.metadata.num_rows, range(table.num_row_groups)
    start, stop = rows * part // parts, rows * (part + 1) // parts
    ends = list(accumulate((table.metadata.row_group(group).num_rows for group in groups), initial=0))
    chosen = [group for group in groups if ends[group] < stop and start < ends[group + 1]]
    first = ends[chosen[0]] if chosen else 0
    for batch in table.iter_batches(ROWS_PER_BATCH, row_groups=chosen, columns=["file", "image"]):
        low, high = (min(max(0, bound - first), len(batch)) for bound in (start, stop))
        if low < high:
            yield first + low, batch.slice(low, high - low)
        first += len(batch)
