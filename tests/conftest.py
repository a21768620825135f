"""Fixtures of several test files: a small archive, its splits, a copy of the project, a registered version."""

import numpy as np
import pytest
from projects import ROOT, approve, make_project
from stores import empty_store
from toy_models import COLOURS, VERSION_FACTS, write_colour_model

from pipeline.common.environment import ignore_user_settings
from pipeline.data.splits import SPLIT_NAMES, Split, read_split, write_split
from pipeline.data.synthetic import CLASS_NAMES, generate, write_archive

ignore_user_settings()


@pytest.fixture(autouse=True)
def _no_outer_settings(monkeypatch):
    """Tests must not write to the MLflow store of the user who runs them."""
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
    """Paths of three small splits, and of a validate.json that says success for them."""
    images, labels = generate(600, seed=2)
    position = np.arange(600, dtype=np.int32)
    paths = {}
    for name, rows in zip(SPLIT_NAMES, (slice(0, 400), slice(400, 500), slice(500, 600)), strict=True):
        paths[name] = tmp_path / f"{name}.npz"
        write_split(paths[name], Split(images[rows], labels[rows], position[rows], np.array(CLASS_NAMES), "ab" * 32))
    return paths | {"verdict": approve(tmp_path / "validate.json", paths)}


@pytest.fixture
def trained_model(splits, tmp_path, monkeypatch):
    """The file of an untrained network on those splits, with the record of a training whose MLflow run is lost."""
    from pipeline.common.files import read_json
    from pipeline.models.keras_backend import start_keras
    from pipeline.models.networks import NETWORKS
    from pipeline.models.saving import TrainingRecord, save_model
    from pipeline.tracking.lineage import data_tags

    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    monkeypatch.chdir(ROOT)
    keras = start_keras()
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    figures = {"validation_accuracy": 0.25, "validation_loss": 2.0, "best_epoch": 1, "epochs": 2, "temperature": 2.0}
    epochs = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}]
    data = data_tags(read_json(splits["verdict"], ""))
    record = TrainingRecord(figures, data, {"download.name": "generated", "train.model": "basic"}, epochs)
    classes = len(read_split(splits["train"]).class_names)
    save_model(NETWORKS["basic"].build(classes, 32), tmp_path / "model.keras", record)
    return tmp_path / "model.keras"


@pytest.fixture
def project(tmp_path, archive):
    """A copy of the project with an empty MLflow store, for `python -m pipeline.STAGE` and DVC."""
    folder = make_project(tmp_path / "a project", archive)
    empty_store(folder / "mlflow.db")
    return folder


@pytest.fixture
def version(tmp_path):
    """The folder of a registered version, as registry.model_version writes it."""
    from PIL import Image

    from pipeline.common.files import write_csv
    from pipeline.registry.model_card import CONFUSION_MATRIX, PREDICTIONS
    from pipeline.registry.model_version import write_test_data

    folder = tmp_path / "version"
    (folder / "pictures").mkdir(parents=True)
    write_colour_model(folder / "model.onnx")
    write_csv(
        folder / "per_class.csv",
        [{"class_name": name, "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10} for name in COLOURS],
    )
    for name in (CONFUSION_MATRIX, PREDICTIONS):
        Image.new("RGB", (8, 8)).save(folder / name)
    images, _ = generate(10, seed=0)
    write_test_data(folder / "model.onnx", images, folder)
    return folder


@pytest.fixture
def bundle(tmp_path, version):
    """The bundle of that version."""
    from pipeline.registry.bundle import write_bundle

    return write_bundle(tmp_path / "dist/colours-v1", version, VERSION_FACTS)
