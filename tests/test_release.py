"""make export on a real MLflow store, with runs as train, evaluate and export leave them."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import ROOT, run

from pipeline.errors import PipelineError
from pipeline.files import sha256_of, write_csv, write_json
from pipeline.keras_start import start_keras
from pipeline.models import NETWORKS
from pipeline.onnx_model import open_session, probabilities, to_onnx
from pipeline.release import REGISTERED_NAME, release
from pipeline.tracking import connect

DATA = {"archive_sha256": "ab" * 32, "splits_sha256": "cd" * 32}
NAMES = ["cat", "dog", "frog"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two different ONNX files of untrained networks."""
    folder, keras = tmp_path_factory.mktemp("models"), start_keras()
    paths = []
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        proto = to_onnx(NETWORKS["basic"].build(3), 17, NAMES, {"model": "basic"})
        paths.append(folder / str(seed) / "model.onnx")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(proto.SerializeToString(deterministic=True))
    return paths


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, and a validate.json of the current results."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "validate.json", {"success": True, "splits": {}} | DATA)
    return connect()


def add_run(mlflow, model, validation_accuracy, status="FINISHED", test_accuracy=0.5, **tags):
    """A run as the pipeline leaves it; its id."""
    facts = DATA | {
        "parity_passed": "true",
        "model_sha256": "ef" * 32,
        "onnx_sha256": sha256_of(model),
        "model": "basic",
        "data": "a data set",
    }
    with mlflow.start_run(tags=facts | {"dvc.train": json.dumps({"models/model.keras": "12"})} | tags) as active:
        mlflow.log_artifact(model)
        rows = [{"class_name": name, "precision": 0.5, "recall": 0.25, "f1": 0.75, "images": 10} for name in NAMES]
        write_csv(model.with_name("per_class.csv"), rows)
        mlflow.log_artifact(model.with_name("per_class.csv"))
        figures = {"accuracy": test_accuracy, "accuracy_low": 0.4, "accuracy_high": 0.6, "macro_f1": 0.5, "images": 100}
        mlflow.log_metrics({f"test_{name}": value for name, value in figures.items()})
        mlflow.log_metrics(
            {"best_validation_accuracy": validation_accuracy, "parity_max_abs_difference": 1e-6, "parity_images": 100}
        )
    mlflow.MlflowClient().set_terminated(active.info.run_id, status)
    return active.info.run_id


def champion(mlflow):
    return mlflow.MlflowClient().get_model_version_by_alias(REGISTERED_NAME, "champion")


def versions(mlflow):
    return [version.version for version in mlflow.MlflowClient().search_model_versions(f"name = '{REGISTERED_NAME}'")]


def test_the_best_on_validation_becomes_champion_whatever_its_test_score(store, models, tmp_path):
    add_run(store, models[0], 0.60, test_accuracy=0.9)
    best = add_run(store, models[1], 0.61, test_accuracy=0.1)
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert champion(store).run_id == best
    bundle = tmp_path / f"dist/{REGISTERED_NAME}-v1"
    assert sha256_of(bundle / "model.onnx") == sha256_of(models[1])
    loaded = store.pyfunc.load_model(f"models:/{REGISTERED_NAME}@champion")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    scores = probabilities(open_session(bundle / "model.onnx"), images, 2)
    np.testing.assert_allclose(loaded.predict({"image": images})["probabilities"], scores, atol=1e-6)
    assert loaded.metadata.signature.inputs.input_names() == ["image"]


def test_run_twice_it_registers_nothing_and_writes_the_same_bytes(store, models, tmp_path):
    add_run(store, models[0], 0.60)
    contents = []
    for _ in range(2):
        release(tmp_path / "validate.json", tmp_path / "dist")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "dist").rglob("*.*") if path.is_file()})
    assert versions(store) == [1] or versions(store) == ["1"]
    assert contents[0] == contents[1]
    assert [path.name for path in (tmp_path / "dist").iterdir()] == [f"{REGISTERED_NAME}-v1"]


def test_a_tie_changes_nothing_and_a_better_run_gets_the_next_version(store, models, tmp_path):
    first = add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    add_run(store, models[1], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert champion(store).run_id == first
    better = add_run(store, models[1], 0.601)
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert (champion(store).run_id, len(versions(store))) == (better, 2)
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == [
        f"{REGISTERED_NAME}-v1",
        f"{REGISTERED_NAME}-v2",
    ]


@pytest.mark.parametrize(
    "flaw",
    [
        {"status": "FAILED"},
        {"status": "RUNNING"},
        {"parity_passed": "false"},
        {"archive_sha256": "00" * 32},
        {"splits_sha256": "00" * 32},
    ],
    ids=str,
)
def test_a_run_that_does_not_compete_is_passed_over(store, models, tmp_path, flaw):
    add_run(store, models[1], 0.99, **flaw)
    good = add_run(store, models[0], 0.10)
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert champion(store).run_id == good


def test_a_run_without_its_onnx_file_does_not_compete(store, models, tmp_path):
    with store.start_run(tags=DATA | {"parity_passed": "true"}):
        store.log_metrics({"best_validation_accuracy": 0.99, "test_accuracy": 0.5})
    with pytest.raises(PipelineError, match="no finished run"):
        release(tmp_path / "validate.json", tmp_path / "dist")


def test_a_champion_of_other_data_gives_way(store, models, tmp_path):
    add_run(store, models[0], 0.99)
    release(tmp_path / "validate.json", tmp_path / "dist")
    write_json(tmp_path / "validate.json", {"success": True, "splits": {}} | DATA | {"archive_sha256": "00" * 32})
    other = add_run(store, models[1], 0.10, archive_sha256="00" * 32)
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert champion(store).run_id == other


def test_interrupted_after_registering_it_goes_on_with_that_version(store, models, tmp_path):
    add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    store.MlflowClient().delete_registered_model_alias(REGISTERED_NAME, "champion")
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert len(versions(store)) == 1
    assert int(champion(store).version) == 1


def test_a_later_export_of_the_champions_run_does_not_change_its_bundle(store, models, tmp_path):
    """dvc repro with another opset overwrites the run's ONNX file; the registered version keeps its own."""
    run_id = add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    store.MlflowClient().log_artifact(run_id, models[1])
    store.MlflowClient().set_tag(run_id, "onnx_sha256", sha256_of(models[1]))
    release(tmp_path / "validate.json", tmp_path / "dist")
    assert len(versions(store)) == 1
    assert sha256_of(tmp_path / f"dist/{REGISTERED_NAME}-v1/model.onnx") == sha256_of(models[0])


def test_a_changed_version_is_refused(store, models, tmp_path):
    run_id = add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    (registered,) = tmp_path.rglob(f"mlartifacts/{run_id}/artifacts/onnx_model_*/model.onnx")
    registered.write_bytes(models[1].read_bytes())
    with pytest.raises(PipelineError, match=f"model.onnx of version 1 of {REGISTERED_NAME} was changed"):
        release(tmp_path / "validate.json", tmp_path / "dist")


def test_a_bundle_of_another_store_is_not_overwritten(store, models, tmp_path):
    add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    manifest = tmp_path / f"dist/{REGISTERED_NAME}-v1/manifest.json"
    manifest.write_text(json.dumps({"lineage": {"mlflow_run_id": "another"}}))
    with pytest.raises(PipelineError, match=r"v1 holds the model of MLflow run another.*Move that folder away"):
        release(tmp_path / "validate.json", tmp_path / "dist")
    assert json.loads(manifest.read_text()) == {"lineage": {"mlflow_run_id": "another"}}


def test_a_dist_that_cannot_be_written_is_not_blamed_on_the_store(store, models, tmp_path):
    add_run(store, models[0], 0.60)
    (tmp_path / "dist").write_text("a file where a folder should be")
    done = run(tmp_path, "pipeline.release", "validate.json", "dist", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert "MLflow store" not in done.stderr
    assert "dist" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_artefact_is_refused(store, models, tmp_path):
    add_run(store, models[0], 0.60, onnx_sha256="00" * 32)
    with pytest.raises(
        PipelineError, match=r"model.onnx of MLflow run .* was changed.*dvc repro --force --single-item evaluate export"
    ):
        release(tmp_path / "validate.json", tmp_path / "dist")
    assert not list(tmp_path.glob("dist/*"))


def test_the_bundle_describes_itself(store, models, tmp_path):
    run_id = add_run(store, models[0], 0.60, git_commit="c0ffee")
    release(tmp_path / "validate.json", tmp_path / "dist")
    bundle = tmp_path / f"dist/{REGISTERED_NAME}-v1"
    assert sorted(path.name for path in bundle.iterdir()) == ["README.md", "labels.txt", "manifest.json", "model.onnx"]
    assert (bundle / "labels.txt").read_text() == "cat\ndog\nfrog\n"
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, facts in manifest["files"].items():
        assert facts == {"sha256": sha256_of(bundle / name), "bytes": (bundle / name).stat().st_size}
    assert manifest["inputs"] == [{"name": "image", "dtype": "uint8", "shape": ["batch", 32, 32, 3]}]
    assert manifest["outputs"] == [{"name": "probabilities", "dtype": "float32", "shape": ["batch", 3]}]
    assert (manifest["opset"], manifest["ir_version"]) == (17, onnx.load(models[0]).ir_version)
    assert (manifest["data"], manifest["metrics"]["test_accuracy"]) == ("a data set", 0.5)
    lineage = manifest["lineage"]
    assert (lineage["mlflow_run_id"], lineage["git_commit"], lineage["model_version"]) == (run_id, "c0ffee", 1)
    assert lineage["dvc_stages"] == {"train": {"models/model.keras": "12"}}


def test_the_model_cards_code_runs(store, models, tmp_path):
    add_run(store, models[0], 0.60)
    release(tmp_path / "validate.json", tmp_path / "dist")
    bundle = tmp_path / f"dist/{REGISTERED_NAME}-v1"
    card = (bundle / "README.md").read_text()
    assert "**a data set**" in card
    assert "| dog | 0.500 | 0.250 | 0.750 |" in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1] + "print(probabilities.shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=bundle, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 3)\n"


def test_without_any_run_it_says_what_to_do(store, tmp_path):
    done = run(ROOT, "pipeline.release", tmp_path / "validate.json", tmp_path / "dist")
    assert done.returncode == 1
    assert "export: there is no finished run with an exported model on the current data" in done.stderr
    assert "make repro" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_current_results_it_says_what_to_do(tmp_path):
    done = run(ROOT, "pipeline.release", tmp_path / "none.json", tmp_path / "dist")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "there are no results here yet. Run `make repro`" in done.stderr
