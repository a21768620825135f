"""The bytes that a mirror sends from a given offset, over http, https or from a file."""

import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import IncompleteRead
from typing import BinaryIO, NamedTuple, NoReturn
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3

from pipeline.common.errors import printable
from pipeline.common.urls import VARIABLE

GZIP = b"\x1f\x8b"  # the first bytes of every gzip file, RFC 1952
CHUNK = 1 << 18  # bytes; upper limit for one read
WITH_TEXT = (requests.RequestException, urllib3.exceptions.InvalidChunkLength)  # exceptions that repeat what was sent
SHOWN = 60  # characters of a server's text in a message
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
        url: http, https or file; `{NAME}` is replaced by the environment variable NAME, only here.
        patience: seconds without data after which the connection times out.

    Raises:
        MirrorError, TransientError: immediately, or while the chunks are read. They contain no part of `url`.
    """
    if missing := [name for name in VARIABLE.findall(url) if not os.environ.get(name)]:
        raise MirrorError(f"the environment variable {missing[0]} is not set")
    url = VARIABLE.sub(lambda variable: os.environ[variable[1]], url)
    if url.startswith("file:"):
        return _open_file(unquote(urlsplit(url).path), offset)
    return _open_http(url, offset, patience)


def _open_file(path: str, offset: int) -> Body:
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path. Without O_NONBLOCK, a FIFO would wait
        raise MirrorError(f"cannot open the file: {_reason(error)}") from None
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise MirrorError("cannot open the file: it is not a regular file")
    file.seek(offset)
    return Body(_read(file), offset, status.st_size)


def _read(file: BinaryIO) -> Iterator[bytes]:
    try:
        with file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise MirrorError(f"cannot read the file: {error.strerror}") from None


class _Session(requests.Session):
    """Follows redirects to http and https only, and never from https to http."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where `resp` redirects to; requests asks here about each response."""
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        resp.close()  # requests would read its body, which can be endless
        before, after = (urlsplit(url).scheme for url in (resp.url, urljoin(resp.url, target)))
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise MirrorError(f"redirects from {before} to {printable(after, 20)}, which is not followed")
        return target


def _open_http(url: str, offset: int, patience: float) -> Body:
    headers = {"Accept-Encoding": "identity", "Range": f"bytes={offset}-"}
    try:
        with _time_limit(patience), _Session() as session:
            response = session.get(url, headers=headers, stream=True, timeout=patience)
    except requests.TooManyRedirects:
        raise MirrorError("endless redirects") from None
    except requests.exceptions.InvalidHeader:
        raise MirrorError("the headers of the answer contradict each other") from None
    except (requests.ConnectionError, requests.Timeout) as error:
        place = " to the proxy" if isinstance(error, requests.exceptions.ProxyError) else ""
        bundle = _ca_bundle() if isinstance(error, requests.exceptions.SSLError) else ""
        raise TransientError(f"no connection{place}: {_reason(error)}{bundle}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        settings = "check the URL, the settings of the proxy and ~/.netrc"
        raise MirrorError(f"the request is not possible, {_reason(error)}: {settings}") from None
    except OSError as error:  # of requests: the CA bundle does not exist
        raise MirrorError(f"no connection: {_reason(error)}{_ca_bundle()}") from None
    if response.status_code in (200, 206):
        return _body(response, offset, patience)
    response.close()
    if response.status_code == 416:  # the file ends at the offset
        return Body(iter(()), offset, None)
    failure = TransientError if response.status_code in TRANSIENT else MirrorError
    raise failure(f"HTTP {response.status_code} {printable(response.reason or '', SHOWN)}".rstrip())


def _body(response: requests.Response, offset: int, patience: float) -> Body:
    remaining = _number(response.headers.get("Content-Length", ""))
    if response.status_code == 200:  # the server ignores Range
        return Body(_require_gzip(_stream(response, patience)), 0, remaining)
    served = response.headers.get("Content-Range", "")
    span = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/.*", served)
    if not span or int(span[1]) != offset:
        response.close()
        raise MirrorError(f"requested bytes {offset}-, received '{printable(served, SHOWN)}'")
    return Body(_stream(response, patience), offset, int(span[2]) + 1)


def _stream(response: requests.Response, patience: float) -> Iterator[bytes]:
    try:
        while chunk := _read_some(response, patience):
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise TransientError(f"the connection broke: {_reason(error)}") from None
    finally:
        response.close()


def _read_some(response: requests.Response, patience: float) -> bytes:
    """What has arrived, without waiting for a full chunk, so that a slow mirror is noticed."""
    with _time_limit(patience):
        return response.raw.read1(CHUNK, decode_content=False)


def _require_gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Refuse a page of text that is sent with status 200: a tar.gz starts with the bytes of gzip."""
    first = b""
    while len(first) < len(GZIP) and (chunk := next(chunks, b"")):
        first += chunk
    if not first.startswith(GZIP):
        raise MirrorError("expected a gzip archive, received something else")
    yield first
    yield from chunks


@contextmanager
def _time_limit(patience: float) -> Iterator[None]:
    """Raise `TransientError` in the block after 3 x `patience` seconds; a socket's timeout restarts with each byte."""

    def stop(*_: object) -> NoReturn:
        raise TransientError(f"no answer within {3 * patience:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 3 * patience, 3 * patience)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reason(error: BaseException) -> str:
    """Why a request failed: the innermost text of the system, of TLS or of a length, or else an exception's type.

    The texts of requests and urllib3 contain the URL, the proxy's password, or bytes that the server sent.
    """
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    safe = [each for each in causes if isinstance(each, OSError | IncompleteRead) and not isinstance(each, WITH_TEXT)]
    texts = [(isinstance(each, OSError) and each.strerror) or str(each) for each in safe]
    return printable(texts[-1] if texts else type(causes[-1]).__name__, 2 * SHOWN)


def _ca_bundle() -> str:
    variables = [name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)]
    return f" (the CA bundle is {printable(os.environ[variables[0]])}, of {variables[0]})" if variables else ""


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None
