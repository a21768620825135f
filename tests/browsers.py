"""Pages in headless Chromium, served on loopback, that send what they found."""

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def answer_of(folder, page):
    """What the page in this folder posts as JSON to /; skips the test without Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("Chromium is not installed: install Debian's package chromium")
    with pages(folder) as (address, posted), tempfile.TemporaryFile("w+") as log, profile() as data:
        command = [browser, *OPTIONS, f"--user-data-dir={data}", f"{address}/{page}"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            return posted.get(timeout=120)
        except queue.Empty:
            log.seek(0)
            pytest.fail(log.read())
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def profile():
    """A new folder; the last files of a killed browser may come late."""
    folder = tempfile.mkdtemp()
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Pages(SimpleHTTPRequestHandler):
    """Serves a folder and keeps what a page sends."""

    extensions_map: ClassVar = SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def do_POST(self):
        self.server.posted.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def pages(folder):
    """A server on loopback for `folder`: its address, and a queue of what pages send."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory=folder)) as server:
        server.posted = queue.Queue()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.posted
        finally:
            server.shutdown()
            thread.join()
