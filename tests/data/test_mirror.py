"""Mirrors that mislead, flood or do not answer, and settings of requests that are wrong: the next mirror is used."""

import os
import re
import socket
import time
from base64 import b64encode
from contextlib import suppress

import pytest
import yaml
from projects import run, set_params
from servers import BODY, SHA256, download_params, good, mirror, write_certificate

from pipeline.common.errors import PipelineError
from pipeline.download import download


@pytest.fixture(autouse=True)
def _no_settings_of_requests(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "archive.tar.gz"


@pytest.fixture
def copy(tmp_path):
    """The URL of a file that holds BODY: the mirror that follows a failed one."""
    (tmp_path / "copy.tar.gz").write_bytes(BODY)
    return (tmp_path / "copy.tar.gz").as_uri()


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate of 127.0.0.1 and localhost that requests trusts."""
    write_certificate(tmp_path / "certificate.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    return tmp_path / "certificate.pem"


@pytest.fixture
def reason_of(target, copy, capsys):
    """Download from a mirror that fails and then from the copy; return why the first one failed."""

    def reason(url, **changes):
        download(download_params(url, copy, **{"attempts": 1} | changes), target)
        assert target.read_bytes() == BODY
        assert list(target.parent.iterdir()) == [target]
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err[:-1].isprintable()
        return err

    return reason


@pytest.mark.parametrize(
    ("name", "value", "url", "reason"),
    [
        ("REQUESTS_CA_BUNDLE", "/gone.pem", "https://127.0.0.1:PORT/a", "invalid path: /gone.pem .*REQUESTS_CA_BUNDLE"),
        ("CURL_CA_BUNDLE", "/gone.pem", "https://127.0.0.1:PORT/a", "invalid path: /gone.pem .*CURL_CA_BUNDLE"),
        (
            "HTTP_PROXY",
            "http://user:SECRET@host:bad",
            "http://host.test/a",
            "not possible, LocationParseError: .*proxy",
        ),
        ("HTTP_PROXY", "http://user:SECRET@[::x]:1", "http://host.test/a", "not possible, LocationParseError: .*proxy"),
        ("HTTP_PROXY", "ftp://user:SECRET@host", "http://host.test/a", "not possible, ProxySchemeUnknown: .*proxy"),
        ("HTTP_PROXY", "SECRET:::", "http://host.test/a", "not possible, InvalidProxyURL: .*proxy"),
        ("HTTPS_PROXY", "socks5://user:SECRET@127.0.0.1:PORT", "https://host.test/a", "InvalidSchema: .*proxy"),
        ("HTTP_PROXY", "http://user:SECRET@127.0.0.1:PORT", "http://host.test/a", "to the proxy: Connection refused"),
        ("HTTPS_PROXY", "http://user:SECRET@127.0.0.1:PORT", "https://host.test/a", "to the proxy: Connection refused"),
        ("NETRC", "{folder}/binary", "http://127.0.0.1:PORT/a", "UnicodeDecodeError: .*netrc"),
        ("NETRC", "{folder}/broken", "http://127.0.0.1:PORT/a", "no connection: Connection refused"),
        ("NETRC", "{folder}", "http://127.0.0.1:PORT/a", "no connection: Connection refused"),
    ],
)
def test_a_wrong_setting_of_requests_fails_one_mirror(reason_of, tmp_path, monkeypatch, name, value, url, reason):
    (tmp_path / "binary").write_bytes(b"machine \xff")
    (tmp_path / "broken").write_text("machine 127.0.0.1 SECRET")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        value, url = (text.replace("PORT", str(unused.getsockname()[1])) for text in (value, url))
        monkeypatch.setenv(name, value.replace("{folder}", str(tmp_path)))
        shown = reason_of(url)
    assert re.search(reason, shown)
    assert "SECRET" not in shown


def test_a_ca_bundle_that_is_no_certificate_fails_one_mirror(reason_of, certificate):
    with mirror(certificate=certificate) as server:
        certificate.write_text("not a certificate")
        assert re.search("no connection: .*REQUESTS_CA_BUNDLE", reason_of(server.url))


def test_a_server_with_an_unknown_certificate_fails_one_mirror(reason_of, certificate, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with mirror(certificate=certificate) as server:
        assert "certificate verify failed: self-signed certificate" in reason_of(server.url)


@pytest.mark.parametrize(
    "url",
    [
        "http://{SECRET}@host:99999/a",
        "http://{SECRET}@host:abc/a",
        "http://{SECRET}@[::x]/a",
        "http://{SECRET}@a b/a",
        "http://{SECRET}@/a",
        "http://{SECRET}@" + "a" * 70 + ".com/a",
        "http://{SECRET}@\u2603\udcff.com/a",
        "http://{SECRET}@*/a",
        "http://{SECRET}@h\x00/a",
        "http://{SECRET}@[/a",
        "http://[{SECRET}]/a",
        "http://h:{SECRET}/a",
    ],
)
def test_an_invalid_url_fails_one_mirror(reason_of, monkeypatch, url):
    monkeypatch.setenv("SECRET", "user:SECRETS")
    shown = reason_of(url)
    assert re.search("the request is not possible, [A-Za-z]+: check the URL", shown)
    assert "SECRETS" not in shown


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/zero", "it is not a regular file"),
        ("{folder}/fifo", "it is not a regular file"),
        ("{folder}", "Is a directory"),
        ("{folder}/a%00b", "cannot open the file: ValueError"),
        ("{folder}/" + "a" * 300, "File name too long"),
        ("{folder}/{{NO_SUCH_NAME}}", "the environment variable NO_SUCH_NAME is not set"),
    ],
)
def test_a_path_that_is_not_a_readable_file_fails_one_mirror(reason_of, tmp_path, path, reason):
    os.mkfifo(tmp_path / "fifo")
    assert reason in reason_of("file://" + path.format(folder=tmp_path))


def to(location):
    """An answer that redirects to `location`, with an endless body that a client must not read."""
    return drip(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode("latin-1"), b"a")


def flood(request, text=bytes(10_000)):
    with suppress(OSError):  # until the client leaves
        for _ in range(5000):
            request.wfile.write(text)


@pytest.mark.parametrize(
    ("start", "end", "location"),
    [
        ("http", "http", "{url}"),
        ("http", "https", "{url}"),
        ("https", "https", "{url}"),
        ("https", "https", "//127.0.0.1:{port}/a?sig=SECRET"),
    ],
)
def test_a_redirect_to_http_or_https_is_followed(target, certificate, capsys, start, end, location):
    with mirror(certificate=certificate if end == "https" else None) as last:
        location = location.format(url=last.url, port=last.server_port)
        with mirror(to(location), certificate if start == "https" else None) as first:
            download(download_params(first.url), target)
    assert target.read_bytes() == BODY
    assert "SECRET" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("scheme", "location", "reason"),
    [
        ("https", "HTTP://127.0.0.1:{port}/a?sig=SECRET", "redirects from https to http, which is not followed"),
        ("https", "\thttp://127.0.0.1:{port}/a?sig=SECRET", "redirects from https to http, which is not followed"),
        ("http", "file:///etc/SECRET", "redirects from http to file, which is not followed"),
        ("https", "file:///etc/SECRET", "redirects from https to file, which is not followed"),
        ("http", "ftp://user:SECRET@127.0.0.1/a", "redirects from http to ftp, which is not followed"),
        ("http", "http://[::SECRET/a", "the request is not possible, ValueError"),
        ("http", "http://host:SECRET/a", "the request is not possible"),
        ("http", "/a", "endless redirects"),
    ],
)
def test_another_redirect_is_not_followed(reason_of, certificate, scheme, location, reason):
    with (
        mirror() as last,
        mirror(to(location.format(port=last.server_port)), certificate if scheme == "https" else None) as first,
    ):
        shown = reason_of(first.url)
    assert f"{first.url}: {reason}" in shown
    assert "SECRET" not in shown
    assert last.asked == []


def test_a_login_of_netrc_is_used_but_not_sent_to_another_host(target, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password SECRET\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    logins = []

    def private(request):
        logins.append(request.headers.get("Authorization"))
        return to(f"http://localhost:{last.server_port}/a")(request)

    def public(request):
        logins.append(request.headers.get("Authorization"))
        good(request)

    with mirror(public) as last, mirror(private) as first:
        download(download_params(first.url), target)
    assert logins == [f"Basic {b64encode(b'user:SECRET').decode()}", None]
    assert target.read_bytes() == BODY


def test_a_secret_of_the_environment_reaches_only_the_server(project, tmp_path):
    (tmp_path / "home").mkdir()
    seen = []

    def private(request):
        seen.append((request.path, request.headers.get("Authorization")))
        return good(request) if len(seen) > 1 else request.send(503, b"")

    with mirror(private) as server, mirror(lambda request: request.send(403, b"")) as refuses:
        urls = [each.url.replace("//", "//{LOGIN}@") + "?{QUERY}&dl=1" for each in (refuses, server)]
        set_params(project, download={"urls": urls, "sha256": SHA256})
        environment = {"LOGIN": "user:pass%40SECRET", "QUERY": "sig=SECRET", "HOME": str(tmp_path / "home")}
        assert run(project, "dvc", "init", "--no-scm", "--quiet").returncode == 0
        done = run(project, "dvc", "repro", "download", **environment)
    assert done.returncode == 0, done.stderr
    login = f"Basic {b64encode(b'user:pass@SECRET').decode()}"
    assert seen == [("/archive.tar.gz?sig=SECRET&dl=1", login)] * 2
    assert f"download: http://***@127.0.0.1:{refuses.server_port}/archive.tar.gz?***: HTTP 403 Forbidden" in done.stderr
    assert yaml.safe_load((project / "dvc.lock").read_text())["stages"]["download"]["params"]["params.yaml"] == {
        "download": yaml.safe_load((project / "params.yaml").read_text())["download"]
    }
    texts = [done.stdout, done.stderr, *(path.read_text(errors="replace") for path in files_with_text(project))]
    assert not [text for text in texts if "SECRET" in text]


def files_with_text(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]


def test_the_secret_is_not_in_the_final_message(target, monkeypatch):
    monkeypatch.setenv("QUERY", "sig=SECRET")
    with socket.socket() as unused, mirror(lambda request: request.send(404, b"")) as server:
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
        with pytest.raises(PipelineError) as refusal:
            download(download_params(f"{refused}?{{QUERY}}", f"{server.url}?{{QUERY}}", "file:///{MISSING}"), target)
    lines = str(refusal.value).splitlines()
    assert lines[1:4] == [
        f"  {refused}?***: no connection: Connection refused (attempt 2 of 2)",
        f"  {server.url}?***: HTTP 404 Not Found",
        "  file:///{MISSING}: the environment variable MISSING is not set",
    ]
    assert "SECRET" not in str(refusal.value)


def raw(text):
    """An answer of exactly these bytes, instead of what http.server writes."""
    return lambda request: request.wfile.write(text)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (raw(b"HTTP/1.1 404 \x1b[2J" + b"a" * 5000 + b"\r\n\r\n"), r"HTTP 404 \x1b[2Ja"),
        (raw(b"HTTP/1.1 206 OK\r\nContent-Range: \x1b[2J" + b"a" * 5000 + b"\r\n\r\n"), r"received '\x1b[2Ja"),
        (raw(b"\x1b[2J SECRET\r\n\r\n"), "no connection: BadStatusLine"),
        (
            raw(b"HTTP/1.1 200 OK\r\nSECRET\r\nContent-Length: SECRET\r\n\r\nSECRET"),
            "expected a gzip archive, received",
        ),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nSECRET"), "expected a gzip archive"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nSECRET"), "expected a gzip archive"),
        (
            raw(b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-" + b"9" * 5000 + b"/*\r\n\r\n"),
            "requested bytes 0-, received",
        ),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n"), "the connection broke: "),
        (raw(b"HTTP/1.1 200 OK\r\nSECRET: " + b"a" * 100_000), "no connection: "),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"SECRET: a\r\n" * 1000), "no connection: "),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n"),
            "the headers of the answer contradict each other",
        ),
        (raw(b""), "no connection: Remote end closed connection without response"),
    ],
)
def test_what_a_server_sends_is_not_printed(reason_of, answer, reason):
    with mirror(answer) as server:
        shown = reason_of(server.url)
    assert reason in shown
    assert "SECRET" not in shown
    assert len(shown) < 300


def chunked(request):
    """Announces 1000 bytes, and sends more."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    flood(request, b"400\r\n" + b"\x1f\x8b" * 512 + b"\r\n")


def unannounced(request):
    request.send_response(200)
    request.end_headers()
    flood(request, b"\x1f\x8b" * 5000)


def beyond_its_range(request):
    request.send_response(206)
    request.send_header("Content-Range", f"bytes {request.offset()}-999999/1000000")
    request.end_headers()
    flood(request)


def huge(request):
    request.send_response(200)
    request.send_header("Content-Length", str(10**15))
    request.end_headers()
    flood(request)


MAXIMUM = "but download.maximum_bytes is 2,000,000"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (huge, f"the file has 1,000,000,000,000,000 bytes or more, {MAXIMUM}"),
        (unannounced, f"bytes or more, {MAXIMUM}"),
        (chunked, "more than the announced 1,000 bytes were sent"),
        (beyond_its_range, "more than the announced 1,000,000 bytes were sent"),
    ],
)
def test_a_download_that_is_too_large_ends_and_leaves_nothing_to_the_next_mirror(target, capsys, answer, reason):
    target.parent.mkdir()
    target.with_name(f".{SHA256}.partial").write_bytes(BODY[:900])
    with mirror(answer) as first, mirror() as second:
        download(download_params(first.url, second.url), target)
    assert second.asked == ["bytes=900-"]  # the bytes of an earlier mirror are kept, without those of the first one
    assert target.read_bytes() == BODY
    assert reason in capsys.readouterr().err


def test_a_file_that_is_too_large_is_not_read(reason_of, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)
    shown = reason_of((tmp_path / "large").as_uri())
    assert f"the file has 1,000,000,000,000 bytes or more, {MAXIMUM}" in shown


def test_a_partial_file_that_is_too_large_is_downloaded_again(target):
    target.parent.mkdir()
    target.with_name(f".{SHA256}.partial").write_bytes(bytes(3_000_000))
    with mirror() as server:
        download(download_params(server.url), target)
    assert target.read_bytes() == BODY


def drip(start, repeated):
    """An answer that sends `repeated` twenty times a second, for longer than a client may wait, so that no read of a socket times out."""

    def answer(request):
        with suppress(OSError):
            request.wfile.write(start)
            for _ in range(400):
                request.wfile.write(repeated)
                time.sleep(0.05)

    return answer


OK = b"HTTP/1.1 200 OK\r\n"
GZIP = OK + b"\r\n\x1f\x8b"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer within 1.5 s"),
        (drip(OK + b"a: ", b"a"), "no answer within 1.5 s"),
        (drip(CHUNKED, b"0"), "no answer within 1.5 s"),
        (drip(CHUNKED + b"2\r\n\x1f\x8b\r\n0\r\n", b"a: a\r\n"), "no answer within 1.5 s"),
        (drip(GZIP, b"a"), "slower than 1,000 bytes per second"),
    ],
)
def test_the_last_mirror_may_be_slow_but_not_endless(target, answer, reason):
    with mirror(answer) as server, pytest.raises(PipelineError) as refusal:
        download(download_params(server.url, patience=0.5, attempts=1), target)
    assert f"{server.url}: {reason} (attempt 1 of 1)" in str(refusal.value)
