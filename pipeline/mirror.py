"""One mirror's bytes from an offset on, over http, https or from a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from pipeline.errors import innermost

GZIP = b"\x1f\x8b"  # the first bytes of every gzip file, RFC 1952
CHUNK = 1 << 18  # bytes; what is read at once at the most
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # HTTP status codes of errors that may pass


class BadMirror(Exception):
    """This mirror does not serve the file; another may."""


class MayPass(Exception):
    """An error of the network or the server that another attempt may not meet."""


class Body(NamedTuple):
    """What a mirror sends.

    chunks: bytes of the file, in order; start: the position in the file of the first of them, 0
    where a server ignores Range; size: of the whole file in bytes, None where not announced.
    """

    chunks: Iterator[bytes]
    start: int
    size: int | None


def open_mirror(url: str, offset: int, patience: float) -> Body:
    """The bytes behind `url`, from byte `offset` on if the mirror can do that.

    Args:
        patience: seconds of silence after which the mirror counts as stalled.

    Raises:
        BadMirror, MayPass: here, or while the chunks are read.
    """
    if url.startswith("file:"):
        return _open_file(Path(unquote(urlsplit(url).path)), offset)
    return _open_http(url, offset, patience)


def _open_file(path: Path, offset: int) -> Body:
    try:
        file, size = path.open("rb"), path.stat().st_size
    except OSError as error:
        raise BadMirror(f"cannot open the file: {error.strerror}") from None
    file.seek(offset)
    return Body(_read(file), offset, size)


def _read(file: BinaryIO) -> Iterator[bytes]:
    try:
        with file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise BadMirror(f"cannot read the file: {error.strerror}") from None


def _open_http(url: str, offset: int, patience: float) -> Body:
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-"}
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=patience)
    except requests.TooManyRedirects:
        raise BadMirror("it redirects in a circle") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise MayPass(f"no connection: {innermost(error)}") from None
    except requests.RequestException as error:
        raise BadMirror(str(error)) from None
    if response.status_code == 416:  # nothing behind the offset
        return Body(iter(()), offset, offset)
    if response.status_code in TRANSIENT:
        raise MayPass(f"HTTP {response.status_code} {response.reason}")
    if response.status_code not in (200, 206):
        raise BadMirror(f"HTTP {response.status_code} {response.reason}")
    return _body(response, offset)


def _body(response: requests.Response, offset: int) -> Body:
    length = response.headers.get("Content-Length")
    remaining = int(length) if length and length.isdigit() else None
    if response.status_code == 206:
        served = response.headers.get("Content-Range", "")
        if not served.startswith(f"bytes {offset}-"):
            raise BadMirror(f"asked for bytes {offset}-, it sent {served!r}")
        return Body(_stream(response), offset, None if remaining is None else offset + remaining)
    return Body(_refuse_page(_stream(response)), 0, remaining)  # it ignores Range and sends all


def _stream(response: requests.Response) -> Iterator[bytes]:
    try:
        # read1 hands over what has come instead of waiting for a full chunk: a trickle is seen as one.
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise MayPass(f"the connection broke: {innermost(error)}") from None
    finally:
        response.close()


def _refuse_page(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """An error page with status 200 must not be taken for the file: a tar.gz begins as gzip does."""
    first = b""
    while len(first) < len(GZIP) and (chunk := next(chunks, b"")):
        first += chunk
    if not first.startswith(GZIP):
        raise BadMirror(f"it sent no gzip archive, but {first[:40]!r}")
    yield first
    yield from chunks
