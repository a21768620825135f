"""Real servers on loopback: a mirror that serves a file, correctly or not, and MLflow's own."""

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from stores import empty_store

from pipeline.download import DownloadParams

BODY = b"\x1f\x8b" + bytes(range(256)) * 4096  # 1 MiB that starts like gzip
SHA256 = sha256(BODY).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """Serves BODY with Range support; a test replaces `answer` to misbehave."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        self.server.answer(self)

    def log_message(self, *_):
        pass

    def send(self, status, body, **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def offset(self):
        return int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])


def good(request, body=BODY):
    start = request.offset()
    if start >= len(body):
        return request.send(416, b"")
    return request.send(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")


def download_params(*urls, **changes):
    """Section `download` for these mirrors of BODY."""
    settings = {"sha256": SHA256, "name": None, "maximum_bytes": 2_000_000, "minimum_speed": 0}
    return DownloadParams(urls=list(urls), **settings | {"patience": 5.0, "attempts": 2} | changes)


def write_certificate(path):
    """Write a key and a self-signed certificate of 127.0.0.1 and localhost to `path`, as PEM."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    hosts = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(datetime.now(UTC) - timedelta(days=1)).add_extension(hosts, critical=True)
    signed = builder.not_valid_after(datetime.now(UTC) + timedelta(days=1)).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(private + signed.public_bytes(pem))


@contextmanager
def mirror(answer=good, certificate=None):
    """A server that gives `answer` to each request, at `url`; over https if it has a certificate."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.answer, server.asked = answer, []
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = f"http{'s' * bool(certificate)}://127.0.0.1:{server.server_port}/archive.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mlflow_server(folder, port):
    """MLflow's own server on loopback, with its store in `folder`/server.db."""
    if not (folder / "server.db").exists():
        empty_store(folder / "server.db")
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # processes for GenAI only
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        kill(process)


def kill(process):
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
