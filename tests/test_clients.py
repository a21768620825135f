"""The output of `make export` in other programs: MLflow's server, Node.js, a browser, OpenVINO, onnx, an old runtime."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
from browsers import answer_of
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from stores import empty_store
from toy_models import COLOURS, VERSION_FACTS

from benchmarks import engines
from pipeline.common.files import sha256_of, write_csv
from pipeline.common.params import read_params
from pipeline.data.synthetic import generate
from pipeline.models.keras_backend import start_keras
from pipeline.models.networks import NETWORKS
from pipeline.onnx.convert import to_onnx
from pipeline.onnx.session import open_session, predict_probabilities
from pipeline.registry import store
from pipeline.registry.bundle import write_bundle
from pipeline.registry.model_version import save_mlflow_model, write_test_data
from pipeline.registry.quantize import quantize
from pipeline.tracking.store import connect

NODE_VERSION, OLD_RUNTIME = "1.23.2", "1.20.1"  # of ONNX Runtime; 1.20 is of November 2024
INT8_ROUNDING = 0.05  # engines round 8-bit values differently: up to 0.027 on 5,000 images of CIFAR-10


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    """The tracking URI of an empty MLflow store."""
    return empty_store(tmp_path_factory.mktemp("store") / "mlflow.db")


@pytest.fixture(scope="module")
def version(tracking_uri, tmp_path_factory):
    """The folder of a version with `accurate`, whose graph has all of `fast` too, and its int8 copy: the champion."""
    folder = tmp_path_factory.mktemp("version") / "model"
    start_keras().utils.set_random_seed(0)
    network = NETWORKS["accurate"]
    proto = to_onnx(network.finish(network.build(3, 32)), read_params()["export"]["opset"], COLOURS, {})
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        client = connect()
    save_mlflow_model(proto, folder)
    (folder / "model.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    images, _ = generate(100, seed=0)
    quantize(folder / "model.onnx", folder / "model.int8.onnx", images)
    write_test_data(folder / "model.onnx", images, folder)
    (folder / "pictures").mkdir()
    write_csv(
        folder / "per_class.csv", [{"class_name": name, "precision": 1, "recall": 1, "f1": 1} for name in COLOURS]
    )
    import mlflow

    with mlflow.start_run(tags={"onnx_sha256": sha256_of(folder / "model.onnx")}) as active:
        mlflow.log_metric("best_validation_accuracy", 0.5)
    run = client.get_run(active.info.run_id)
    store.set_champion_alias(client, store.register(client, run, folder, {}))
    return folder


@pytest.fixture(scope="module")
def bundle(version, tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("dist") / "colours-v1", version, VERSION_FACTS)


def read_test_data(bundle, number):
    """Input and output of a test_data_set: 1, 3 or 8 images."""
    return (
        numpy_helper.to_array(onnx.load_tensor(bundle / f"test_data_set_{number}" / f"{name}_0.pb"))
        for name in ("input", "output")
    )


def expected_of(bundle, name, number):
    """Images of a test_data_set and the output for them: the expected one, or that of ONNX Runtime for int8."""
    images, expected = read_test_data(bundle, number)
    if name != "model.onnx":
        expected = predict_probabilities(open_session(bundle / name), images, len(images))
    return images, expected


def test_mlflows_scoring_server_agrees_with_onnx_runtime(tracking_uri, bundle, tmp_path):
    images, expected = read_test_data(bundle, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        "models:/cifar10-classifier@champion",
        "--env-manager",
        "local",
        "--port",
        port,
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls uvicorn by its name
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": tracking_uri},
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, tmp_path / "log")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": {"image": images.tolist()}}).encode(),
            {"Content-Type": "application/json"},
        )
        answer = json.load(urllib.request.urlopen(request, timeout=60))
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    np.testing.assert_allclose(answer["predictions"]["probabilities"], expected, atol=1e-5)


def wait_for(address, server, log):
    for _ in range(600):
        try:
            return urllib.request.urlopen(address, timeout=5)
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(log.read_text())


NODE_SCRIPT = """
const ort = require('onnxruntime-node'), fs = require('fs');
const [model, image, count] = process.argv.slice(2);
(async () => {
  const session = await ort.InferenceSession.create(model);
  const tensor = new ort.Tensor('uint8', new Uint8Array(fs.readFileSync(image)), [Number(count), 32, 32, 3]);
  const { probabilities } = await session.run({ image: tensor });
  console.log(JSON.stringify(Array.from(probabilities.data)));
})();
"""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_onnxruntime_node_agrees_on_the_test_data(bundle, node_folder, number):
    image, expected = read_test_data(bundle, number)
    (node_folder / "image").write_bytes(image.tobytes())
    command = ["node", "run.js", bundle / "model.onnx", "image", str(len(image))]
    done = subprocess.run(list(map(str, command)), cwd=node_folder, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(json.loads(done.stdout), expected.ravel(), atol=1e-5)


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory):
    """A folder with onnxruntime-node from the npm registry."""
    folder = tmp_path_factory.mktemp("node")
    npm_install("onnxruntime-node", folder)
    (folder / "run.js").write_text(NODE_SCRIPT)
    return folder


def npm_install(package, folder):
    """Install a package of ONNX Runtime from the npm registry, or skip the test."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", f"{package}@{NODE_VERSION}"]
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")


PAGE = """<!doctype html><script src="/node_modules/onnxruntime-web/dist/ort.wasm.min.js"></script><script>
(async () => {
  const model = new URLSearchParams(location.search).get('model');
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(model);
  const answers = [];
  for (const number of [0, 1, 2]) {
    const pixels = new Uint8Array(await (await fetch(`images_${number}`)).arrayBuffer());
    const image = new ort.Tensor('uint8', pixels, [pixels.length / 3072, 32, 32, 3]);
    const { probabilities } = await session.run({ image });
    answers.push(Array.from(probabilities.data));
  }
  return answers;
})().catch(String).then(found => fetch('/', { method: 'POST', body: JSON.stringify(found) }));
</script>"""


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_a_browser_agrees_on_the_test_data(bundle, web_folder, name):
    shutil.copy(bundle / name, web_folder)
    expected = []
    for number in range(3):
        images, probabilities = expected_of(bundle, name, number)
        (web_folder / f"images_{number}").write_bytes(images.tobytes())
        expected.append(probabilities)
    answers = answer_of(web_folder, f"page.html?model={name}")
    assert isinstance(answers, list), answers
    for answer, probabilities in zip(answers, expected, strict=True):
        np.testing.assert_allclose(answer, probabilities.ravel(), atol=1e-5 if name == "model.onnx" else INT8_ROUNDING)


@pytest.fixture(scope="module")
def web_folder(tmp_path_factory):
    """A folder with onnxruntime-web from the npm registry and a page that runs it."""
    folder = tmp_path_factory.mktemp("web")
    npm_install("onnxruntime-web", folder)
    (folder / "page.html").write_text(PAGE)
    return folder


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_openvino_agrees_on_the_test_data(bundle, name, number):
    if "OpenVINO, float32" not in engines.installed_engines():
        pytest.skip("OpenVINO is not installed: `pip install '.[openvino]'` adds it")
    images, expected = expected_of(bundle, name, number)
    answer = engines.openvino_float32(bundle / name)(images)
    np.testing.assert_allclose(answer, expected, atol=1e-5 if name == "model.onnx" else INT8_ROUNDING)


def test_the_reference_implementation_of_onnx_agrees_on_the_test_data(bundle):
    images, expected = read_test_data(bundle, 1)
    (answer,) = ReferenceEvaluator(onnx.load(bundle / "model.onnx")).run(None, {"image": images})
    np.testing.assert_allclose(answer, expected, atol=1e-5)


OLD_SCRIPT = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
numpy.save(sys.argv[3], session.run(["probabilities"], {"image": numpy.load(sys.argv[2])})[0])
"""


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_onnx_runtime_of_two_years_ago_agrees(bundle, old_python, tmp_path, name):
    images, expected = expected_of(bundle, name, 1)
    np.save(tmp_path / "image.npy", images)
    command = [old_python, "-c", OLD_SCRIPT, bundle / name, tmp_path / "image.npy", tmp_path / "out.npy"]
    subprocess.run(list(map(str, command)), check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    """The Python of an environment with only that ONNX Runtime and NumPy."""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    command = [folder / "bin/python", "-m", "pip", "install", "--quiet", f"onnxruntime=={OLD_RUNTIME}", "numpy"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install onnxruntime {OLD_RUNTIME}: {done.stderr.strip()[-300:]}")
    return folder / "bin/python"
