"""What several test files need: small archives and splits of generated images, and a way to run a stage as users do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.files import sha256_of, write_json
from pipeline.generated import CLASS_NAMES, generate, write_archive
from pipeline.splits import SPLIT_NAMES, Split, combined_sha256, write_split

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_outer_settings(monkeypatch):
    """Tests must not write to the MLflow store of whoever runs them."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DVC_NO_ANALYTICS", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "true")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """An archive of 5 x 100 training and 100 test images."""
    path = tmp_path_factory.mktemp("archive") / "generated.tar.gz"
    write_archive(path, images_per_batch=100, seed=1)
    return path


@pytest.fixture
def splits(tmp_path):
    """Paths of three small splits, and of a validate.json that approves of them."""
    images, labels = generate(600, seed=2)
    position = np.arange(600, dtype=np.int32)
    paths = {}
    for name, part in zip(SPLIT_NAMES, (slice(0, 400), slice(400, 500), slice(500, 600)), strict=True):
        paths[name] = tmp_path / f"{name}.npz"
        write_split(paths[name], Split(images[part], labels[part], position[part], np.array(CLASS_NAMES), "ab" * 32))
    return paths | {"report": approve(tmp_path / "validate.json", paths)}


def approve(report, paths):
    """Write a validate.json that says success for these files."""
    hashes = {name: sha256_of(path) for name, path in paths.items()}
    facts = {"success": True, "archive_sha256": "ab" * 32, "splits_sha256": combined_sha256(hashes), "splits": hashes}
    write_json(report, facts)
    return report


@pytest.fixture
def project(tmp_path, archive):
    """A copy of the project, for `python -m pipeline.STAGE` and DVC."""
    return make_project(tmp_path / "a project", archive)


def make_project(folder, archive):
    """Copy dvc.yaml and the code to `folder`, with params for the small archive."""
    folder.mkdir()
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / "evidence", folder / "evidence", ignore=shutil.ignore_patterns("dvc.lock"))
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    (folder / "data/reference.json").write_text("{}\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {
        "name": "generated",
        "sha256": sha256_of(archive),
        "urls": [archive.as_uri()],
        "patience": 1.0,
    }
    params["prepare"]["validation_images"] = 100
    params["validate"] |= {"train_images": 500, "test_images": 100}
    params["validate"] |= {"channel_means": [0.5, 0.45, 0.42], "channel_spreads": [0.3, 0.3, 0.3], "tolerance": 0.1}
    params["train"] |= {"model": "basic", "epochs": 2}
    params["evaluate"] |= {"pictures": 4}
    params["suspect_labels"] |= {"model": "basic", "epochs": 2, "batch_size": 50}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def run(folder, *command, **environment):
    """Run `python -m ...` in `folder` with this Python; the completed process with its output as text."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true", "MLFLOW_DISABLE_TELEMETRY": "true"} | environment,
        capture_output=True,
        text=True,
    )


def set_params(folder, **sections):
    """Change values in the project's params.yaml: set_params(project, train={"epochs": 3})."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        params[name] |= values
    path.write_text(yaml.safe_dump(params))


def colour_model(blind_to=None):
    """An ONNX model with the project's interface that tells whether an image is red, green or blue, or but two of them."""
    from onnx import TensorProto, helper, numpy_helper

    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], "Cast_0", to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], "ReduceMean_1", axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "scale"], ["logits"], "MatMul_2"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "Softmax_3", axis=1),
    ]
    scale = np.eye(3, dtype=np.float32) / 50
    if blind_to is not None:
        scale[blind_to] = 0
    graph = helper.make_graph(nodes, "colours", [image], [probabilities], [numpy_helper.from_array(scale, "scale")])
    return helper.make_model(graph, ir_version=7, opset_imports=[helper.make_opsetid("", 13)])


COLOURS = ["red", "green", "blue"]


def write_colour_model(path, class_names=COLOURS, archive_sha256="ab" * 32):
    """The path of a colour model that says what it was made for."""
    from onnx import helper

    model = colour_model()
    helper.set_model_props(model, {"class_names": json.dumps(class_names), "archive_sha256": archive_sha256})
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def paint(images, wrong=(), first=0):
    """A split of dim red, green and blue images, those at the places `wrong` with the next class's label."""
    colours = np.arange(images) % 3
    pixels = np.random.default_rng(first).integers(20, 60, (images, 32, 32, 3))
    pixels[np.arange(images), :, :, colours] += 60
    labels = (colours + np.isin(np.arange(images), wrong)) % 3
    position = np.arange(first, first + images, dtype=np.int32)
    return Split(pixels.astype(np.uint8), labels.astype(np.uint8), position, np.array(COLOURS), "ab" * 32)


VERSION_FACTS = {
    "model": "colours",
    "data": "painted images",
    "metrics": {
        "validation_accuracy": 0.75,
        "parity_images": 100.0,
        "parity_max_abs_difference": 1e-6,
        "test_accuracy": 0.5,
        "test_accuracy_low": 0.4,
        "test_accuracy_high": 0.6,
        "test_images": 100.0,
        "test_macro_f1": 0.5,
        "test_calibration_error": 0.02,
    },
    "lineage": {"archive_sha256": "ab" * 32, "git_commit": None, "mlflow_run_id": "a run", "model_version": 1},
    "int8": {"kept": False, "reason": "it is slower"},
    "latency": {
        "machine": "a machine",
        "model.onnx": {"batch_1": {"p50_ms": 0.5, "p99_ms": 1.0, "images_per_second": 2000}},
    },
}


@pytest.fixture
def version(tmp_path):
    """A registered version's folder, as pipeline.candidate writes it."""
    from PIL import Image

    from pipeline.candidate import SHOWN, write_test_data
    from pipeline.files import write_csv

    folder = tmp_path / "version"
    (folder / "pictures").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(colour_model().SerializeToString(deterministic=True))
    write_csv(
        folder / "per_class.csv",
        [{"class_name": name, "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10} for name in COLOURS],
    )
    for name in SHOWN:
        Image.new("RGB", (8, 8)).save(folder / "pictures" / name)
    images, _ = generate(10, seed=0)
    write_test_data(folder / "model.onnx", images, folder)
    return folder


@pytest.fixture
def bundle(tmp_path, version):
    """The bundle of that version."""
    from pipeline.bundle import write_bundle

    return write_bundle(tmp_path / "dist/colours-v1", version, VERSION_FACTS)
