"""Many pictures classified on Ray Data: each process writes Parquet files of its own, so nothing is done twice."""

import hashlib
import json
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet
from pyarrow import fs

from pipeline.data.pictures import image_or_reason
from pipeline.distributed.sources import content_of, is_table, rows_in
from pipeline.distributed.storage import SharedFile, fetch, opened, upload
from pipeline.onnx.isolated import IsolatedModel

Batch = dict[str, np.ndarray]
Content = Path | bytes | str | None  # a picture, or, as str, the reason why there is none
FILES_PER_BATCH = 1024  # a process reads them one by one
BATCHES_PER_CPU = 4  # at least, if there are few pictures
CPU_SHARE = 0.1  # of each process: if machines die, the others have room for theirs
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.string()),  # Parquet file in IN and number of the row, from 0; null if `file` is a file
        ("class", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)


class Model(NamedTuple):
    """A bundle's model: the shared ONNX file, its class names in the order of its output, the side of its pictures."""

    file: SharedFile
    class_names: list[str]
    side: int


def names_done(target: str) -> set[str]:
    """The files and the rows of Parquet files that an interrupted run has classified already."""
    system, folder = opened(target)
    if system.get_file_info(folder).type == fs.FileType.NotFound:
        return set()
    parts = pyarrow.dataset.dataset(folder, filesystem=system, format="parquet", schema=SCHEMA)
    found = parts.to_table(columns=["file", "row"])
    return set(pc.coalesce(found["row"], found["file"]).to_pylist())


def scores(files: list[str], source: str, target: str, model: Model) -> Iterator[tuple[int, int]]:
    """Classify those of the files below `source`, or of the rows in them, that `target` does not have yet.

    Yields the numbers of pictures and of failures of each part.
    """
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray")  # about few files
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # bytes: numbers arrive with each file that is written, not when a process ends
    done, cpus = names_done(target), max(1, int(ray.cluster_resources()["CPU"]))
    remaining = [file for file in files if file not in done]
    if not remaining:
        return
    work = parquet_files(remaining, done, cpus) if is_table(files) else blocks_of(remaining, cpus)
    scored = ray.data.from_arrow(work).map_batches(
        Classifier,
        batch_size=None,
        concurrency=cpus,
        num_cpus=CPU_SHARE,
        fn_constructor_args=(model, source, target),
    )
    for part in scored.iter_batches(batch_size=None, prefetch_batches=0):
        yield from zip(part["pictures"].tolist(), part["failures"].tolist(), strict=True)


def blocks_of(files: list[str], cpus: int) -> list[pa.Table]:
    """The names of files in tables, each the work of one call of `Classifier`."""
    size = min(FILES_PER_BATCH, math.ceil(len(files) / (BATCHES_PER_CPU * cpus)))
    return [pa.table({"file": pa.array(files[i : i + size], pa.string())}) for i in range(0, len(files), size)]


def parquet_files(files: list[str], done: set[str], cpus: int) -> list[pa.Table]:
    """Each file with the numbers of its rows that are done; few files are shared, so that no CPU is idle."""
    numbers: dict[str, list[int]] = {file: [] for file in files}
    for name in done:
        file, _, number = name.rpartition(":")
        if file in numbers:
            numbers[file].append(int(number))
    parts = math.ceil(cpus / len(files))
    schema = pa.schema([("file", pa.string()), ("share", pa.list_(pa.int64())), ("done", pa.list_(pa.int64()))])
    return [pa.table([[file], [[part, parts]], [numbers[file]]], schema) for file in files for part in range(parts)]


class Classifier:
    """A process of Ray that reads pictures, classifies them, and writes Parquet files of its own."""

    def __init__(self, model: Model, source: str, target: str) -> None:
        self._model, self._source, self._target = model, source, target
        self._isolated = IsolatedModel(fetch(model.file).read_bytes(), len(model.class_names), threads=1)

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """Classify and write; the numbers of pictures and of failures in each Parquet file that is written."""
        if "done" in batch:
            ((file, share, done),) = zip(batch["file"], batch["share"], batch["done"], strict=True)
            for rows in rows_in(str(file), share, done, self._source):
                contents = (reason or image for _, _, image, reason in zip(*rows.to_pydict().values(), strict=True))
                yield self._score(rows["file"].to_pylist(), rows["row"].to_pylist(), contents)
        else:
            files = batch["file"].tolist()
            yield self._score(files, [None] * len(files), (content_of(file, self._source) for file in files))

    def _score(self, files: list[str], rows: list[str | None], contents: Iterator[Content]) -> Batch:
        found = [self._picture(content) for content in contents]
        images = [image for image in found if isinstance(image, np.ndarray)]
        each = iter(self._isolated.predict(np.stack(images)) if images else ())
        probabilities = [next(each) if isinstance(image, np.ndarray) else None for image in found]
        names = self._model.class_names
        columns = {
            "file": files,
            "row": rows,
            "class": [None if row is None else names[row.argmax()] for row in probabilities],
            "probabilities": probabilities,
            "error": [image if isinstance(image, str) else None for image in found],
        }
        write_part(pa.table(columns, SCHEMA), self._target)
        return {"pictures": np.array([len(found)]), "failures": np.array([len(found) - len(images)])}

    def _picture(self, content: Content) -> np.ndarray | str:
        """The picture, or the reason why there is none."""
        return content if isinstance(content, str) else image_or_reason(content or b"", self._model.side)


def write_part(table: pa.Table, target: str) -> None:
    """Write a Parquet file whose name is a hash of the names in it, so a part written twice is one file."""
    names = json.dumps(pc.coalesce(table["row"], table["file"]).to_pylist()).encode()
    with tempfile.NamedTemporaryFile() as draft:
        pyarrow.parquet.write_table(table, draft.name)
        upload(Path(draft.name), f"{target}/part-{hashlib.sha256(names).hexdigest()[:16]}.parquet")
