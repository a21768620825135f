"""The bytes that a mirror sends from a given offset, over http, https or from a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from pipeline.common.errors import root_cause

GZIP = b"\x1f\x8b"  # the first bytes of every gzip file, RFC 1952
CHUNK = 1 << 18  # bytes; upper limit for one read
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP status codes of temporary errors


class MirrorError(Exception):
    """This mirror does not serve the file, but another one may."""


class TransientError(Exception):
    """A temporary error of the network or the server: another attempt may succeed."""


class Body(NamedTuple):
    """What a mirror sends.

    chunks: bytes of the file, in order.
    start: position of the first chunk in the file; 0 if the server ignores Range.
    size: bytes in the whole file; None if the server does not announce it.
    """

    chunks: Iterator[bytes]
    start: int
    size: int | None


def open_mirror(url: str, offset: int, patience: float) -> Body:
    """The file at `url`, from byte `offset` if the mirror supports ranges.

    Args:
        patience: seconds without data after which the connection times out.

    Raises:
        MirrorError, TransientError: immediately, or while the chunks are read.
    """
    if url.startswith("file:"):
        return _open_file(Path(unquote(urlsplit(url).path)), offset)
    return _open_http(url, offset, patience)


def _open_file(path: Path, offset: int) -> Body:
    try:
        file, size = path.open("rb"), path.stat().st_size
    except OSError as error:
        raise MirrorError(f"cannot open the file: {error.strerror}") from None
    file.seek(offset)
    return Body(_read(file), offset, size)


def _read(file: BinaryIO) -> Iterator[bytes]:
    try:
        with file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise MirrorError(f"cannot read the file: {error.strerror}") from None


def _open_http(url: str, offset: int, patience: float) -> Body:
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-"}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=patience)
    except requests.TooManyRedirects:
        raise MirrorError("endless redirects") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise TransientError(f"no connection: {root_cause(error)}") from None
    except requests.RequestException as error:
        raise MirrorError(str(error)) from None
    if response.status_code == 416:  # the file ends at the offset
        return Body(iter(()), offset, offset)
    if response.status_code in TRANSIENT:
        raise TransientError(f"HTTP {response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise MirrorError(f"HTTP {response.status_code} {response.reason}")
    return _body(response, offset)


def _body(response: requests.Response, offset: int) -> Body:
    length = response.headers.get("Content-Length")
    remaining = int(length) if length and length.isdigit() else None
    if response.status_code == 206:
        served = response.headers.get("Content-Range", "")
        if not served.startswith(f"bytes {offset}-"):
            raise MirrorError(f"requested bytes {offset}-, received {served!r}")
        return Body(_stream(response), offset, None if remaining is None else offset + remaining)
    return Body(_require_gzip(_stream(response)), 0, remaining)  # the server ignores Range


def _stream(response: requests.Response) -> Iterator[bytes]:
    try:
        # read1 returns what has arrived and does not wait for a full chunk, so a slow mirror is noticed.
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TransientError(f"the connection broke: {root_cause(error)}") from None
    finally:
        response.close()


def _require_gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Refuse a page of text that is sent with status 200: a tar.gz starts with the bytes of gzip."""
    first = b""
    while len(first) < len(GZIP) and (chunk := next(chunks, b"")):
        first += chunk
    if not first.startswith(GZIP):
        raise MirrorError(f"expected a gzip archive, received {first[:40]!r}")
    yield first
    yield from chunks
