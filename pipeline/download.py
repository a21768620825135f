"""Download stage: the archive with the expected SHA-256, or no file.

The hash is verified, so mirrors need not be trusted: each may supply some of the bytes, and the next
one continues where the last one stopped.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, Field
from tqdm import tqdm

from pipeline.common.errors import FULL, PipelineError
from pipeline.common.files import sha256_of
from pipeline.common.params import Params, run_stage
from pipeline.common.urls import check_url, shown_url
from pipeline.data.mirror import Body, MirrorError, TransientError, open_mirror

PROGRESS = 1 << 20  # bytes; after that many, failures are counted from 1 again
SLOWEST = 1000  # bytes per second; a slower last mirror would take days


class TooLargeError(MirrorError):
    """The mirror sends more than it announced, or more than `download.maximum_bytes`."""


def _check_name(name: str) -> str:
    if not name.strip() or not name.isprintable():
        raise ValueError("should be text on one line, without control characters")
    return name


class DownloadParams(Params):
    """Section `download`."""

    urls: list[Annotated[str, AfterValidator(check_url)]] = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    name: Annotated[str, AfterValidator(_check_name)] | None = Field(max_length=100)
    maximum_bytes: int = Field(gt=0)
    minimum_speed: int = Field(ge=0)
    patience: float = Field(gt=0, le=3600)
    attempts: int = Field(gt=0, le=100)


def download(params: DownloadParams, archive: Path) -> None:
    """Write the file whose SHA-256 is `params.sha256` to `archive`, from the first mirror that serves it.

    An existing file with that hash is kept; a file with another hash is moved aside. A partial
    download stays in the same folder, and the next call resumes it.

    Raises:
        PipelineError: no mirror served the file; the message lists the reason for each.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    if (archive.is_file() and keep_or_move_aside(archive, params.sha256)) or move_back(archive, params.sha256):
        return
    partial = archive.with_name(f".{params.sha256}.partial")
    reasons = []
    for url in local_copy(archive) + params.urls:
        minimum_speed = 0 if url == params.urls[-1] else params.minimum_speed  # the last mirror may be slow
        try:
            fetch_verified(url, partial, minimum_speed, params)
            break
        except MirrorError as error:
            reasons.append(f"{shown_url(url)}: {error}")
            if url != params.urls[-1]:
                print(f"download: {reasons[-1]}", file=sys.stderr)
    else:
        raise PipelineError(_all_failed(reasons, archive))
    partial.replace(archive)
    print(f"download: {archive}, {archive.stat().st_size:,} bytes, SHA-256 verified")


def local_copy(archive: Path) -> list[str]:
    """URL of the archive in the repository, for `dvc exp run --temp` and `--queue`, which work in another folder."""
    own = Path(os.environ.get("DVC_ROOT", ".")).absolute() / archive
    return [own.as_uri()] if own.is_file() and own != archive.absolute() else []


def keep_or_move_aside(archive: Path, sha256: str) -> bool:
    """Whether `archive` has the expected hash; if not, it is moved aside, because it may be the user's own file."""
    actual = sha256_of(archive)
    if actual == sha256:
        print(f"download: {archive} exists and has the expected SHA-256")
        return True
    aside = archive.with_name(f"{archive.name}.{actual[:8]}")
    archive.replace(aside)
    print(f"download: the SHA-256 of {archive} is not download.sha256; the file was moved to {aside}")
    return False


def move_back(archive: Path, sha256: str) -> bool:
    """Whether an earlier call moved the expected file aside; if so, it is moved back to `archive`."""
    aside = archive.with_name(f"{archive.name}.{sha256[:8]}")
    if not aside.is_file() or sha256_of(aside) != sha256:
        return False
    aside.replace(archive)
    print(f"download: {aside.name} has the expected SHA-256; it was moved back to {archive}")
    return True


def fetch_verified(url: str, partial: Path, minimum_speed: int, params: DownloadParams) -> None:
    """Complete `partial` from `url`; if bytes of several mirrors do not match the hash, start again from this one."""
    is_mixed = _size(partial) > 0
    while True:
        fetch_with_retries(url, partial, minimum_speed, params)
        actual = sha256_of(partial)
        if actual == params.sha256:
            return
        partial.unlink()
        if not is_mixed:
            raise MirrorError(f"the file's SHA-256 is {actual}, expected download.sha256 {params.sha256}")
        print(
            f"download: bytes of several mirrors do not match the SHA-256; restarting from {shown_url(url)}",
            file=sys.stderr,
        )
        is_mixed = False


def fetch_with_retries(url: str, partial: Path, minimum_speed: int, params: DownloadParams) -> None:
    """Append the rest of the mirror's file to `partial`; wait and retry after a temporary error."""
    failures = 0
    while True:
        start = _size(partial)
        try:
            return fetch(url, partial, minimum_speed, params)
        except TransientError as error:
            failures = 1 if _size(partial) - start >= PROGRESS else failures + 1
            if failures >= params.attempts:
                raise MirrorError(f"{error} (attempt {failures} of {params.attempts})") from None
            time.sleep(min(2.0**failures / 2, params.patience))


def fetch(url: str, partial: Path, minimum_speed: int, params: DownloadParams) -> None:
    """Append the bytes that follow the end of `partial`; if they are too many, append nothing.

    Raises `MirrorError` or, if another attempt may succeed, `TransientError`.
    """
    body = open_mirror(url, _size(partial), params.patience)
    _require_size(body.size or 0, params.maximum_bytes)
    try:
        with partial.open("ab") as file, _alone(file), _progress(shown_url(url), file.tell(), body.size) as bar:
            start = file.tell()
            known = start - body.start  # bytes that a server without ranges sends again
            try:
                for chunk in within_limits(body, minimum_speed, params):
                    bar.update(file.write(chunk[known:]))
                    known = max(0, known - len(chunk))
            except TooLargeError:
                file.truncate(start)
                raise
    except OSError as error:
        remedy = "Free disk space" if error.errno in FULL else "Make that path a writable file"
        raise PipelineError(
            f"cannot write {partial}: {error.strerror}. {remedy}, then run `dvc repro` to resume the download."
        ) from None


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Refuse a second process that would append to the same file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PipelineError(
            "another process downloads this archive now. Run the same command again when it has ended."
        ) from None
    yield  # the lock ends when the file is closed


def within_limits(body: Body, minimum_speed: int, params: DownloadParams) -> Iterator[bytes]:
    """The chunks of `body`, until they are too many or too slow; the speed is an average over `patience` seconds.

    Raises `TooLargeError`; `MirrorError` below `minimum_speed`; `TransientError` below `SLOWEST`.
    """
    position, received, window_end = body.start, 0, time.monotonic() + params.patience
    for chunk in body.chunks:
        position, received = position + len(chunk), received + len(chunk)
        if body.size is not None and position > body.size:
            raise TooLargeError(f"more than the announced {body.size:,} bytes were sent")
        _require_size(position, params.maximum_bytes)
        yield chunk
        if time.monotonic() > window_end:
            speed = received / params.patience
            if speed < minimum_speed:
                raise MirrorError(f"slower than download.minimum_speed, {minimum_speed:,} bytes per second")
            if speed < SLOWEST:
                raise TransientError(f"slower than {SLOWEST:,} bytes per second")
            received, window_end = 0, time.monotonic() + params.patience


def _require_size(size: int, maximum: int) -> None:
    if size > maximum:
        raise TooLargeError(f"the file has {size:,} bytes or more, but download.maximum_bytes is {maximum:,}")


def _progress(name: str, done: int, size: int | None) -> tqdm:
    """A progress bar on a terminal, and no output in a log."""
    return tqdm(desc=name, initial=done, total=size, unit="B", unit_scale=True, disable=None, leave=False)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _all_failed(reasons: list[str], archive: Path) -> str:
    listed = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"no mirror served the archive:\n{listed}\nDo one of the following, then run `dvc repro`:\n"
        "  add another URL as the first of download.urls in params.yaml, with the hash of its file as download.sha256\n"
        f"  copy a local file to {archive}, or add it to download.urls as file:///...\n"
        "`make demo` needs no archive: it runs the whole pipeline on generated images."
    )


if __name__ == "__main__":
    run_stage(download, DownloadParams)
