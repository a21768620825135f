"""Many image files, read by all cores: decoding takes longer than the model. Needs only NumPy and Pillow."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.common.errors import PipelineError
from pipeline.data.pictures import image_or_reason

BATCH_SIZE = 64  # images
AHEAD = 2  # batches per process that are read before they are needed

Entry = tuple[Path, str]  # a file, and the reason why it is not read; empty if it is
Picture = tuple[Path, np.ndarray | str]  # a file, and its image as from `image_or_reason`


def batches(files: Sequence[Entry], side: int) -> Iterator[list[Picture]]:
    """The pictures in the order of the files, `BATCH_SIZE` at a time.

    More than one batch is read by one process per core: Pillow's filters of warnings are not for threads.

    Raises:
        PipelineError: such a process was killed.
    """
    parts = (files[start : start + BATCH_SIZE] for start in range(0, len(files), BATCH_SIZE))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(files) <= BATCH_SIZE or cores == 1:
        yield from (read_batch(part, side) for part in parts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, initializer=_end_with_parent) as pool:
        started = (pool.submit(read_batch, part, side) for part in parts)
        waiting = deque(islice(started, AHEAD * cores))
        while waiting:
            try:
                yield waiting.popleft().result()
            except BrokenProcessPool:
                raise PipelineError(
                    "a process that read pictures was killed, perhaps because memory was full. Run the same command "
                    "again with fewer or smaller pictures."
                ) from None
            waiting.extend(islice(started, 1))


def read_batch(files: Sequence[Entry], side: int) -> list[Picture]:
    """The pictures of these files."""
    return [(file, reason or image_or_reason(file, side)) for file, reason in files]


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent process, and end when it has ended, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
