"""The download stage with servers on loopback that fail like real ones."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from projects import ROOT, run, set_params
from pydantic import ValidationError
from servers import BODY, SHA256, good, mirror
from servers import download_params as params

from pipeline.common.errors import PipelineError
from pipeline.download import DownloadParams, download


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "archive.tar.gz"


def partial(target):
    return target.with_name(f".{SHA256}.partial")


def leave_partial(target, content):
    target.parent.mkdir()
    partial(target).write_bytes(content)


def test_the_file_is_complete_and_no_other_file_stays(target):
    with mirror() as server:
        download(params(server.url), target)
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]


def test_a_file_url_with_a_space_is_copied(target, tmp_path):
    (tmp_path / "my file.tar.gz").write_bytes(BODY)
    download(params((tmp_path / "my file.tar.gz").as_uri()), target)
    assert target.read_bytes() == BODY


def test_a_file_with_the_hash_is_not_downloaded_again(target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    with mirror() as server:
        download(params(server.url), target)
        assert server.asked == []


def test_a_queued_experiment_copies_the_archive_of_the_repository(tmp_path, monkeypatch):
    for name in ("repository", "repository/tmp folder"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))  # as DVC sets it there
    monkeypatch.chdir(tmp_path / "repository")
    with mirror() as server:
        download(params(server.url), Path("data/a.tar.gz"))
        monkeypatch.chdir("tmp folder")
        download(params(server.url), Path("data/a.tar.gz"))
    assert server.asked == ["bytes=0-"]
    assert Path("data/a.tar.gz").read_bytes() == BODY


def test_another_file_in_its_place_is_moved_aside(target):
    target.parent.mkdir()
    target.write_bytes(b"the user's own")
    with pytest.raises(PipelineError):
        download(params("file:///nowhere"), target)
    aside = target.with_name(f"archive.tar.gz.{sha256(b'the user' + bytes([39]) + b's own').hexdigest()[:8]}")
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"the user's own"]
    assert aside.exists()


def test_a_file_that_was_moved_aside_is_moved_back(target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    with pytest.raises(PipelineError):
        download(params("file:///nowhere", sha256="0" * 64), target)
    assert not target.exists()
    download(params("file:///nowhere"), target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_bytes() == BODY


def test_a_partial_download_resumes_where_it_stopped(target):
    leave_partial(target, BODY[:1000])
    with mirror() as server:
        download(params(server.url), target)
    assert server.asked == ["bytes=1000-"]
    assert target.read_bytes() == BODY


def test_a_server_without_range_support_is_read_from_the_start(target):
    leave_partial(target, BODY[:1000])
    with mirror(lambda request: request.send(200, BODY)) as server:
        download(params(server.url), target)
    assert target.read_bytes() == BODY


def cut(request):
    """Announces all bytes after the offset, and closes the connection after 100,000."""
    start = request.offset()
    rest = BODY[start:]
    request.send_response(206)
    request.send_header("Content-Length", str(len(rest)))
    request.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    request.end_headers()
    request.wfile.write(rest[:100_000])


def test_a_cut_body_continues_at_the_next_mirror_from_the_byte_reached(target):
    with mirror(cut) as first, mirror() as second:
        download(params(first.url, second.url), target)
    assert first.asked == ["bytes=0-", "bytes=100000-"]
    assert second.asked == ["bytes=200000-"]
    assert target.read_bytes() == BODY


def test_a_temporary_error_is_followed_by_a_retry(target):
    answers = iter([lambda request: request.send(503, b"busy"), good])
    with mirror(lambda request: next(answers)(request)) as server:
        download(params(server.url), target)
    assert target.read_bytes() == BODY


def longer(request):
    """Sends more than it announces."""
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(BODY)


def endless_redirect(request):
    request.send(302, b"", Location=request.path)


def stall(request):
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[:10])
    request.wfile.flush()
    time.sleep(1.5)


def wrong_range(request):
    request.send(206, BODY, Content_Range=f"bytes 5-{len(BODY) - 1}/{len(BODY)}")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            lambda request: request.send(200, BODY[:-1] + b"?"),
            "the file's SHA-256 is [0-9a-f]{64}, expected download.sha256",
        ),
        (lambda request: request.send(404, b""), "HTTP 404 Not Found"),
        (lambda request: request.send(500, b""), r"HTTP 500 Internal Server Error \(attempt 2 of 2\)"),
        (lambda request: request.send(200, b"\n <!DOCTYPE html><p>Sign in"), "expected a gzip archive, received "),
        (cut, "the connection broke: .*bytes"),
        (longer, "the file's SHA-256 is"),
        (endless_redirect, "endless redirects"),
        (stall, "the connection broke: .*timed out"),
        (wrong_range, "requested bytes 0-, received 'bytes 5-"),
    ],
)
def test_a_failed_mirror_is_reported_with_its_reason_and_the_remedies(target, answer, reason):
    with mirror(answer) as server, pytest.raises(PipelineError) as refusal:
        download(params(server.url, patience=0.5 if answer is stall else 5.0), target)
    assert re.search(f"{re.escape(server.url)}: {reason}", str(refusal.value))
    assert re.search(r"(?s)download.urls.*file:///.*make demo", str(refusal.value))
    assert not target.exists()


def test_each_failed_mirror_is_reported(target, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/a"
        missing, folder = (tmp_path / "none.tar.gz").as_uri(), tmp_path.as_uri()
        with pytest.raises(PipelineError) as refusal:
            download(params(refused, missing, folder), target)
    assert re.search(
        r"(?s)refused: .*none.tar.gz: cannot open the file: No such file.*Is a directory",
        refusal.value.args[0].replace(refused, "refused"),
    )
    assert "Connection refused" in str(refusal.value)


def test_the_answer_of_a_captive_portal_does_not_change_a_partial_download(target):
    leave_partial(target, BODY[:1000])
    with mirror(lambda request: request.send(200, b'{"error": "sign in"}')) as server, pytest.raises(PipelineError):
        download(params(server.url), target)
    assert partial(target).read_bytes() == BODY[:1000]


def test_a_wrong_mix_of_mirrors_is_downloaded_again_from_one(target):
    leave_partial(target, b"?" * 1000)
    with mirror() as server:
        download(params(server.url), target)
    assert server.asked == ["bytes=1000-", "bytes=0-"]
    assert target.read_bytes() == BODY


def test_a_partial_longer_than_the_file_is_downloaded_again(target):
    leave_partial(target, BODY + b"?")
    with mirror() as server:
        download(params(server.url), target)
    assert target.read_bytes() == BODY


def trickle(request):
    """About 20 kB a second."""
    start = request.offset()
    request.send_response(206)
    request.send_header("Content-Length", str(len(BODY) - start))
    request.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
    request.end_headers()
    for place in range(start, min(start + 60_000, len(BODY)), 1000):
        request.wfile.write(BODY[place : place + 1000])
        request.wfile.flush()
        time.sleep(0.05)


def test_after_a_slow_mirror_the_next_one_continues(target):
    with mirror(trickle) as slow, mirror() as fast:
        download(params(slow.url, fast.url, minimum_speed=200_000, patience=0.5), target)
    assert len(slow.asked) == 1
    assert int(re.search(r"\d+", fast.asked[0])[0]) > 0
    assert target.read_bytes() == BODY


def test_a_fast_mirror_without_range_is_not_slow_while_it_repeats_bytes(target):
    def steady(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        for place in range(0, len(BODY), 50_000):  # 1 MB a second
            request.wfile.write(BODY[place : place + 50_000])
            request.wfile.flush()
            time.sleep(0.05)

    leave_partial(target, BODY[:-1000])
    with mirror(steady) as server, mirror() as next_one:
        download(params(server.url, next_one.url, minimum_speed=50_000, patience=0.4), target)
    assert next_one.asked == []
    assert target.read_bytes() == BODY


def test_the_last_mirror_may_be_slow(target, capsys):
    with mirror(trickle) as slow, pytest.raises(PipelineError):
        download(params(slow.url, minimum_speed=200_000, patience=0.5, attempts=1), target)
    assert "slower" not in capsys.readouterr().err
    assert partial(target).stat().st_size == 60_000


def test_a_failed_write_keeps_the_partial_file_and_reports_it(project, tmp_path):
    """A limit on the file size replaces a full disk if the test cannot mount one."""
    (tmp_path / "big.tar.gz").write_bytes(BODY)
    set_params(project, download={"urls": [(tmp_path / "big.tar.gz").as_uri()], "sha256": SHA256})
    target = tmp_path / "raw" / "archive.tar.gz"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)); "
    code = limit + "from pipeline.download import *; run_stage(download, DownloadParams)"
    done = subprocess.run(
        [sys.executable, "-c", code, f"archive={target}"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(
        r"download: cannot write .*partial: File too large. Free disk space, then run `dvc repro`", done.stderr
    )
    assert [path.name for path in target.parent.iterdir()] == [f".{SHA256}.partial"]
    assert "Traceback" not in done.stderr


def test_a_partial_file_that_cannot_be_written_has_its_own_remedy(target):
    partial(target).mkdir(parents=True)
    with mirror() as server, pytest.raises(PipelineError, match=r"Is a directory\. Make that path a writable"):
        download(params(server.url), target)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small tmpfs needs root on Linux")
def test_a_full_disk_keeps_the_partial_file_and_is_reported(project, tmp_path):
    (tmp_path / "big.tar.gz").write_bytes(BODY)
    set_params(project, download={"urls": [(tmp_path / "big.tar.gz").as_uri()], "sha256": SHA256})
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        done = run(project, "pipeline.download", f"archive={small}/archive.tar.gz")
        assert [path.name for path in small.iterdir()] == [f".{SHA256}.partial"]
    finally:
        subprocess.run(["umount", small], check=True)
    assert done.returncode == 1
    assert re.search(r"cannot write .*: No space left on device. Free disk space, then run `dvc repro`", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_killed_download_resumes(project, target):
    release = threading.Event()

    def half_then_wait(request):
        start = request.offset()
        if start:
            return good(request)
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        request.wfile.write(BODY[: len(BODY) // 2])
        request.wfile.flush()
        return release.wait(30)

    with mirror(half_then_wait) as server:
        set_params(project, download={"urls": [server.url], "sha256": SHA256, "patience": 30.0})
        command = [sys.executable, "-m", "pipeline.download", f"archive={target}"]
        process = subprocess.Popen(
            command, cwd=project, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        until = time.monotonic() + 30
        while not (partial(target).exists() and partial(target).stat().st_size) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        release.set()
        left = partial(target).stat().st_size
        assert left > 0
        assert not target.exists()
        assert run(project, "pipeline.download", f"archive={target}").returncode == 0
    assert server.asked == ["bytes=0-", f"bytes={left}-"]
    assert target.read_bytes() == BODY


def test_a_second_download_of_the_same_archive_is_refused(target):
    leave_partial(target, BODY[:10])
    with partial(target).open("ab") as file, mirror() as server:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PipelineError, match="another process downloads this archive now"):
            download(params(server.url), target)
    assert partial(target).read_bytes() == BODY[:10]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[2J", "n" * 101])
def test_a_name_of_the_data_that_no_table_can_show_is_refused(name):
    with pytest.raises(ValidationError):
        DownloadParams(**params("file:///a").model_dump() | {"name": name})
