"""One process at a time: a second `make export`, `make demo` or `make seeds` in the same clone waits."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKS = Path(".dvc/tmp")  # git and DVC ignore it


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Run the block while no other process in this clone runs a block of the same name; wait for it, and say so.

    The system releases the lock of a killed process.
    """
    from filelock import FileLock, Timeout

    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{name}: waiting for another process in this clone to finish", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
