"""Files that appear whole or not at all, and their hashes."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError


@contextmanager
def whole(*targets: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary paths beside `targets`, renamed to them when the block ends well.

    Where the block fails, none of the targets appears. What a killed process left under a
    temporary name is removed first. A target may be a file or a folder.
    """
    drafts = tuple(target.with_name(f".partial-{target.name}") for target in targets)
    for draft in drafts:
        draft.parent.mkdir(parents=True, exist_ok=True)
        remove(draft)
    try:
        yield drafts
        for draft, target in zip(drafts, targets, strict=True):
            if draft.is_dir():
                remove(target)  # a rename replaces a file, but no folder that has content
            draft.replace(target)
    finally:
        for draft in drafts:
            remove(draft)


@contextmanager
def removed_on_failure(*paths: Path) -> Iterator[None]:
    """Delete `paths` where the block fails: a failed stage leaves no output."""
    try:
        yield
    except BaseException:
        for path in paths:
            remove(path)
        raise


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON with a line end, keys in the order given; NaN raises ValueError."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Content of a JSON file; `PipelineError` with `remedy` where it is damaged."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise PipelineError(f"{path} is damaged: {error}. {remedy}") from None


def write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows with the same keys as a table, the keys as its header; `columns` names them where rows may be none."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
