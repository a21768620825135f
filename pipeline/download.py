"""Download stage: the archive, whole and verified, or nothing.

The hash decides, so mirrors need no trust: the bytes may come from any of them, one going on
where another stopped.
"""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from tqdm import tqdm

from pipeline.errors import PipelineError
from pipeline.files import sha256_of
from pipeline.mirror import BadMirror, MayPass, open_mirror
from pipeline.params import Params, run_stage

PROGRESS = 1 << 20  # bytes; a failure after that much is the first again


def _known_scheme(url: str) -> str:
    if not url.startswith(("http://", "https://", "file:///")):
        raise ValueError("should begin with http://, https:// or file:///")
    return url


class DownloadParams(Params):
    urls: list[Annotated[str, AfterValidator(_known_scheme)]] = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    name: str | None
    minimum_speed: int = Field(ge=0)
    patience: float = Field(gt=0)
    attempts: int = Field(gt=0)


def download(params: DownloadParams, archive: Path) -> None:
    """Put the file with hash `params.sha256` at `archive`, from the first mirror that serves it.

    A file that already has the hash is kept; one with another hash is moved aside. A partial
    download stays beside `archive` under the expected hash, and the next call resumes it.

    Raises:
        PipelineError: no mirror served the file; the message names each with its reason.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    if (archive.is_file() and keep(archive, params.sha256)) or take_back(archive, params.sha256):
        return
    partial = archive.with_name(f".{params.sha256}.partial")
    reasons = []
    for url in local_copy(archive) + params.urls:
        floor = 0 if url == params.urls[-1] else params.minimum_speed  # the last mirror may be slow
        try:
            fetch_verified(url, partial, floor, params)
            break
        except BadMirror as error:
            reasons.append(f"{url}: {error}")
            if url != params.urls[-1]:
                print(f"download: {reasons[-1]}", file=sys.stderr)
    else:
        raise PipelineError(_all_failed(reasons, archive))
    partial.replace(archive)
    print(f"download: {archive}, {archive.stat().st_size:,} bytes, SHA-256 verified")


def local_copy(archive: Path) -> list[str]:
    """The repository's own archive, for `dvc exp run --temp` and `--queue`, which begin in an empty folder below it."""
    own = Path(os.environ.get("DVC_ROOT", ".")).absolute() / archive
    return [own.as_uri()] if own.is_file() and own != archive.absolute() else []


def keep(archive: Path, sha256: str) -> bool:
    """Whether the file there is the expected one; another file is moved aside, since it may be the user's."""
    actual = sha256_of(archive)
    if actual == sha256:
        print(f"download: {archive} is already there and has the expected hash")
        return True
    aside = archive.with_name(f"{archive.name}.{actual[:8]}")
    archive.replace(aside)
    print(f"download: {archive} had another hash than download.sha256; it is kept as {aside}")
    return False


def take_back(archive: Path, sha256: str) -> bool:
    """Whether the expected file was moved aside earlier; then it is put back in its place."""
    aside = archive.with_name(f"{archive.name}.{sha256[:8]}")
    if not aside.is_file() or sha256_of(aside) != sha256:
        return False
    aside.replace(archive)
    print(f"download: {archive} was kept as {aside.name} and is back in its place")
    return True


def fetch_verified(url: str, partial: Path, floor: int, params: DownloadParams) -> None:
    """Complete `partial` from `url`, after a mismatch of mixed mirrors once more from this one alone."""
    mixed = _size(partial) > 0
    while True:
        fetch_patiently(url, partial, floor, params)
        actual = sha256_of(partial)
        if actual == params.sha256:
            return
        partial.unlink()
        if not mixed:
            raise BadMirror(f"the file's SHA-256 is {actual}, expected download.sha256 {params.sha256}")
        print(f"download: bytes of several mirrors have a wrong hash together; again from {url} alone", file=sys.stderr)
        mixed = False


def fetch_patiently(url: str, partial: Path, floor: int, params: DownloadParams) -> None:
    """Bring `partial` to the end of the mirror's file; an error that may pass is met by waiting."""
    failures = 0
    while True:
        start = _size(partial)
        try:
            return fetch(url, partial, floor, params.patience)
        except MayPass as error:
            failures = 1 if _size(partial) - start >= PROGRESS else failures + 1
            if failures >= params.attempts:
                raise BadMirror(f"{error} (attempt {failures} of {params.attempts})") from None
            time.sleep(min(2.0**failures / 2, params.patience))


def fetch(url: str, partial: Path, floor: int, patience: float) -> None:
    """Append what the mirror has behind `partial`'s end.

    Args:
        floor: bytes per second; over `patience` seconds, a slower mirror is left.
    """
    body = open_mirror(url, _size(partial), patience)
    try:
        with partial.open("ab") as file, _progress(url, file.tell(), body.size) as bar:
            known = file.tell() - body.start  # bytes that come again from a server that ignores Range
            window_end, received = time.monotonic() + patience, 0
            for chunk in body.chunks:
                bar.update(file.write(chunk[known:]))
                known = max(0, known - len(chunk))
                received += len(chunk)
                if time.monotonic() > window_end:
                    if received < floor * patience:
                        raise BadMirror(f"slower than download.minimum_speed, {floor:,} bytes per second")
                    window_end, received = time.monotonic() + patience, 0
    except OSError as error:
        raise PipelineError(
            f"cannot write {partial}: {error.strerror}. Make room, then run `dvc repro`: it goes on from here."
        ) from None


def _progress(url: str, done: int, size: int | None) -> tqdm:
    """A bar on a terminal, nothing in a log."""
    return tqdm(desc=url, initial=done, total=size, unit="B", unit_scale=True, disable=None, leave=False)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _all_failed(reasons: list[str], archive: Path) -> str:
    listed = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"no mirror served the archive:\n{listed}\nThree ways out, each followed by `dvc repro`:\n"
        "  another URL: put it first in download.urls in params.yaml, with the hash of its file in download.sha256\n"
        f"  a file you have: copy it to {archive}, or name it in download.urls as file:///...\n"
        "  no CIFAR-10 at all: `make demo` runs everything on generated images"
    )


if __name__ == "__main__":
    run_stage(download, DownloadParams)
