"""Atomic outputs, locks, hashes, and JSON and CSV files."""

import csv
import glob
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.common.errors import PipelineError

FORMULA, ESCAPED = re.compile("'*[=+@-]"), re.compile("^'('*[=+@-])")  # at the start of a text
LOCKS = Path(".dvc/tmp")  # git and DVC ignore it
Json = dict[str, Any]  # the content of a JSON file: values have many types


@contextmanager
def atomic_outputs(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths beside `targets`, renamed to them when the block succeeds.

    If the block fails, no target appears. Files that a killed process left under a temporary name are removed first;
    those of another living process are not touched. A target may be a file or a folder.
    """
    drafts = tuple(target.with_name(f".partial-{os.getpid()}-{target.name}") for target in targets)
    for target, draft in zip(targets, drafts, strict=True):
        draft.parent.mkdir(parents=True, exist_ok=True)
        remove(draft)
        for other in draft.parent.glob(f".partial-*-{glob.escape(target.name)}"):
            if not _is_running(other.name.split("-")[1]):
                remove(other)
    try:
        yield drafts
        for draft, target in zip(drafts, targets, strict=True):
            if draft.is_dir():
                remove(target)  # a rename replaces a file, but not a folder with content
            draft.replace(target)
    finally:
        for draft in drafts:
            remove(draft)


def _is_running(pid: str) -> bool:
    import psutil

    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE  # killed, and no parent has noticed it
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


@contextmanager
def removed_on_failure(*paths: Path) -> Iterator[None]:
    """Delete `paths` if the block fails: a failed stage leaves no output."""
    try:
        yield
    except BaseException:
        for path in paths:
            remove(path)
        raise


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Run the block while no other process in this clone runs one of the same name; wait for it, and say so.

    The system releases the lock of a killed process. Outside of a clone there is no lock.
    """
    from filelock import FileLock, Timeout

    if not LOCKS.parent.is_dir():
        yield
        return
    LOCKS.mkdir(exist_ok=True)
    lock = FileLock(LOCKS / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{name}: waiting for another process in this clone to finish", file=sys.stderr, flush=True)
        lock.acquire()
    with lock:
        lock.release()  # `with` has acquired it once more
        yield


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write indented JSON with a final newline, keys in the given order; NaN raises ValueError."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, remedy: str) -> Json:
    """Content of a JSON file; `PipelineError` with `remedy` if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {error}. {remedy}") from None


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> None:
    """Write rows that share the same keys, with a header; give `columns` if there may be no row.

    A text that a spreadsheet would run as a formula gets an apostrophe at its start, which `read_csv` removes:
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _as_text(value) for name, value in row.items()} for row in rows)


def _as_text(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file of `write_csv`, all values as text."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: ESCAPED.sub(r"\1", value) for name, value in row.items()} for row in rows]
