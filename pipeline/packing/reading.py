"""Pictures of a folder as one array, read by all processor cores."""

import hashlib
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from multiprocessing import forkserver, get_context, parent_process
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.common.errors import PipelineError
from pipeline.data.large_arrays import new_images
from pipeline.data.pictures import image_or_reason
from pipeline.packing.folder import Picture, Problem

CHUNK = 32  # pictures that a process reads before it answers
WINDOW = 4_096  # pictures that are read ahead at most


def read_pictures(pictures: list[Picture], side: int, folder: Path) -> tuple[np.ndarray, list[Problem]]:
    """Images, uint8 (n, side, side, 3), RGB, of the pictures, and a problem for each file that cannot be read.

    The image of such a file is undefined. Many images are memory-mapped from `folder`, see `large_arrays`.
    """
    images, problems = new_images((len(pictures), side, side, 3), folder), []
    paths = [picture.path for picture in pictures]
    with closing(_read_all(paths, side)) as found:
        for number, image in enumerate(tqdm(found, "pack: reading", len(paths), unit="", disable=None)):
            if isinstance(image, str):
                problems.append(Problem(paths[number], image))
            else:
                images[number] = image
    return images, problems


def _read_all(paths: list[Path], side: int) -> Generator[np.ndarray | str, None, None]:
    """The image of each path in order, or the reason why the file cannot be read."""
    _start_fork_server()
    cores, context = os.cpu_count() or 1, get_context("forkserver")
    with ProcessPoolExecutor(cores, context, initializer=_end_with_parent) as pool:
        try:
            for start in range(0, len(paths), WINDOW):
                yield from pool.map(partial(image_or_reason, side=side), paths[start : start + WINDOW], chunksize=CHUNK)
        except BrokenProcessPool:
            raise PipelineError(
                "a process that reads pictures ended: one of them needs too much memory, or makes Pillow crash. "
                "Move large or damaged pictures away, then run the same command again."
            ) from None


def _start_fork_server() -> None:
    """Start the process from which the others are forked; they ignore Ctrl-C, and this process ends them."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # they inherit it
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, handler)


def _end_with_parent() -> None:
    """Let this process end when the one that gives it work is killed: it would wait for work for ever."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def find_repeated(images: np.ndarray, pictures: list[Picture], rows: np.ndarray) -> list[Problem]:
    """A problem for each of the pictures in `rows` with the pixels of another: all but the first of one class.

    If the same picture is in several classes, it is a problem in all of them. A test picture counts as the first.
    """
    same: dict[bytes, list[Picture]] = {}
    for row in rows:
        same.setdefault(hashlib.blake2b(images[row].tobytes(), digest_size=16).digest(), []).append(pictures[row])
    problems = []
    for group in (sorted(each, key=lambda picture: picture.part != "test") for each in same.values() if len(each) > 1):
        if len({picture.label for picture in group}) == 1:
            problems += [Problem(each.path, f"the same picture as {group[0].path}") for each in group[1:]]
        else:
            problems += [Problem(each.path, f"in another class too: {other_class(each, group)}") for each in group]
    return sorted(problems)


def other_class(picture: Picture, group: list[Picture]) -> Path:
    """A file of the group in another class than the picture."""
    return next(each.path for each in group if each.label != picture.label)
