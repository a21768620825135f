"""`pipeline.serve` as a process of its own, on loopback."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import uvicorn
from PIL import Image
from projects import ROOT, run

from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.serving.requests import MAXIMUM_FILE, MAXIMUM_IMAGES, SECONDS

pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: make setup")
from pipeline.serving.app import Server


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def server(bundle, tmp_path):
    """The address of a server of the bundle, and its process."""
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.serve", str(bundle), "--port", str(port)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, (tmp_path / "log").read_text()
        try:
            requests.get(f"{address}/ready", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.05)
    yield address, process
    process.kill()
    process.wait()


def metric(address, name):
    """The value of a metric with its labels."""
    lines = requests.get(f"{address}/metrics", timeout=10).text.splitlines()
    return next((float(line.split(" ")[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def invoke(address, content):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return requests.post(f"{address}/invocations", body, headers={"Content-Type": "application/json"}, timeout=60)


def test_mlflows_protocol_gives_the_probabilities_of_onnx_runtime(server, bundle):
    address, _ = server
    answer = invoke(address, {"inputs": {"image": images(3).tolist()}})
    assert answer.status_code == 200
    expected = predict_probabilities(open_session(bundle / "model.onnx"), images(3), 3)
    np.testing.assert_allclose(answer.json()["predictions"]["probabilities"], expected, atol=1e-6)


def test_an_image_file_gets_the_classes_of_predict(server, bundle, tmp_path):
    address, _ = server
    Image.new("RGB", (60, 40), (200, 10, 10)).save(tmp_path / "red.png")
    answer = requests.post(f"{address}/classify", (tmp_path / "red.png").read_bytes(), timeout=60)
    done = run(ROOT, "pipeline.predict", "--json", bundle, tmp_path / "red.png")
    assert answer.json()["predictions"] == json.loads(done.stdout)["predictions"]


@pytest.mark.parametrize("path", ["/ping", "/health", "/ready"])
def test_it_is_healthy_and_ready(server, path):
    assert requests.get(server[0] + path, timeout=10).status_code == 200


IMAGE = np.zeros((1, 32, 32, 3), int)


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"{", 400, "the body cannot be read (Expecting"),
        (b"\xff", 400, "the body cannot be read ("),
        (b"[" * 100_000, 400, "the body cannot be read ("),
        ({"inputs": []}, 400, "the body cannot be read ("),
        ({"image": IMAGE.tolist()}, 400, "the body cannot be read ('inputs')"),
        ({"inputs": {"image": []}}, 400, "image has the shape [0]"),
        ({"inputs": {"image": IMAGE[0].tolist()}}, 400, "image has the shape [32, 32, 3]"),
        ({"inputs": {"image": IMAGE[:, :31].tolist()}}, 400, "image has the shape [1, 31, 32, 3]"),
        ({"inputs": {"image": [[[1, 2], [3]]]}}, 400, "the body cannot be read ("),
        ({"inputs": {"image": (IMAGE - 1).tolist()}}, 400, "image has other values than integers from 0 to 255"),
        ({"inputs": {"image": (IMAGE + 256).tolist()}}, 400, "image has other values than integers from 0 to 255"),
        ({"inputs": {"image": (IMAGE + 0.5).tolist()}}, 400, "image has other values than integers from 0 to 255"),
        ({"inputs": {"image": IMAGE.astype(str).tolist()}}, 400, "image has other values than integers"),
        ({"inputs": {"image": np.repeat(IMAGE, MAXIMUM_IMAGES + 1, 0).tolist()}}, 413, "65 images in one request"),
        (b" " * 2_000_000, 413, "the request has more than"),
    ],
)
def test_a_bad_request_is_refused_with_the_reason_and_the_next_is_answered(server, content, status, reason):
    address, _ = server
    answer = invoke(address, content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(reason)
    assert invoke(address, {"inputs": {"image": IMAGE.tolist()}}).status_code == 200


def bomb():
    """A small PNG file of more pixels than are decoded."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "status"), [(b"no image", 415), (b"", 415), (bomb(), 415), (b"x" * (MAXIMUM_FILE + 1), 413)]
)
def test_a_file_that_is_no_image_is_refused(server, content, status):
    answer = requests.post(f"{server[0]}/classify", content, timeout=60)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_other_paths_and_methods_are_refused(server):
    assert requests.get(f"{server[0]}/no-such-page", timeout=10).status_code == 404
    assert requests.get(f"{server[0]}/invocations", timeout=10).status_code == 405


def test_a_request_that_does_not_arrive_ends(server):
    host, port = server[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS + 30) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_leaves_no_trace_but_a_count(server, tmp_path):
    address, _ = server
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    end = time.monotonic() + 30
    while not metric(address, 'requests_total{path="/classify",status="400"}') and time.monotonic() < end:
        time.sleep(0.02)
    assert metric(address, 'requests_total{path="/classify",status="400"}') == 1
    assert metric(address, "requests_active") == 0
    assert (tmp_path / "log").read_text().count("\n") == 1  # the address


def test_metrics_count_requests_and_images(server):
    address, _ = server
    invoke(address, {"inputs": {"image": images(3).tolist()}})
    invoke(address, b"{")
    assert metric(address, "images_total") == 3
    assert metric(address, 'requests_total{path="/invocations",status="200"}') == 1
    assert metric(address, 'requests_total{path="/invocations",status="400"}') == 1
    assert metric(address, 'request_seconds_count{path="/invocations"}') == 2
    assert metric(address, "requests_active") == 0


def test_many_clients_at_once_get_their_own_answers(server, bundle):
    address, _ = server
    sent = images(40)
    expected = predict_probabilities(open_session(bundle / "model.onnx"), sent, 40)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda image: invoke(address, {"inputs": {"image": [image.tolist()]}}), sent))
    found = [answer.json()["predictions"]["probabilities"][0] for answer in answers]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_requests_beyond_the_limit_are_refused_at_once():
    """The model waits until the test lets it go, so the requests before it stay active."""
    go, port = threading.Event(), free_port()

    def predict(batch):
        go.wait(30)
        return np.ones((len(batch), 1), np.float32)

    app = Server(predict, ["a"], 32, workers=1, waiting=1).app()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    address, content = f"http://127.0.0.1:{port}", {"inputs": {"image": IMAGE.tolist()}}
    try:
        while not server.started:
            time.sleep(0.01)
        with ThreadPoolExecutor(2) as pool:
            first = [pool.submit(invoke, address, content) for _ in range(2)]
            while metric(address, "requests_active") < 2:
                time.sleep(0.01)
            refused = invoke(address, content)
            go.set()
            assert [each.result().status_code for each in first] == [200, 200]
    finally:
        go.set()
        server.should_exit = True
        thread.join()
    assert refused.status_code == 503
    assert refused.json() == {"error": "2 requests are waiting already"}


def test_it_ends_cleanly_on_sigterm(server):
    _, process = server
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert process.returncode in (0, -signal.SIGTERM)


def test_a_damaged_bundle_is_not_served(bundle):
    (bundle / "model.onnx").write_bytes(b"x")
    done = run(ROOT, "pipeline.serve", bundle)
    assert done.returncode == 1
    assert "is not the file in the manifest" in done.stderr


def test_an_address_in_use_is_reported(bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(ROOT, "pipeline.serve", bundle, "--port", taken.getsockname()[1])
    assert done.returncode != 0
    assert "address already in use" in done.stderr


def test_it_imports_nothing_heavy(bundle):
    heavy = "tensorflow keras mlflow pandas onnx scipy sklearn matplotlib"
    code = (
        f"import sys, pipeline.serve, pipeline.serving.app; print([n for n in '{heavy}'.split() if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout == "[]\n"
