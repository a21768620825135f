import json
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, approve, run, set_params
from test_tracking import free_port, kill, mlflow_server

from pipeline.errors import PipelineError
from pipeline.generated import CLASS_NAMES, generate
from pipeline.splits import Split, read_split
from pipeline.train import TrainParams, batches, fit, train

PARAMS = TrainParams(model="basic", epochs=2, batch_size=50, learning_rate=None, seed=0)
OUTPUTS = ("model.keras", "train.json", "timing.json", "curves.csv")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(ROOT)


def run_train(splits, folder, params=PARAMS):
    train(params, splits["train"], splits["validation"], splits["report"], *(folder / name for name in OUTPUTS))


def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(store, splits, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_train(splits, tmp_path / folder, PARAMS.model_copy(update={"seed": seed}))
    outputs = ("model.keras", "train.json", "curves.csv")
    first, second, other = ([(tmp_path / folder / name).read_bytes() for name in outputs] for folder in "abc")
    assert first == second
    assert first[0] != other[0]


def test_it_learns_a_toy_set():
    images, labels = generate(300, seed=0)
    toy = Split(images, labels, np.arange(300), np.array(CLASS_NAMES), "")
    params = PARAMS.model_copy(update={"epochs": 60, "learning_rate": 0.002})
    _, rows, _ = fit(params, toy, toy, lambda row: None)
    assert max(row["accuracy"] for row in rows) > 0.95


def test_the_kept_weights_are_those_of_the_epoch_best_on_validation():
    """Validated on wrong labels of the same images, what is learnt makes the score fall: the best epoch is not the last."""
    images, labels = generate(300, seed=0)
    names = np.array(CLASS_NAMES)
    training, validation = Split(images, labels, 0, names, ""), Split(images, (labels + 1) % 10, 0, names, "")
    params = PARAMS.model_copy(update={"epochs": 25, "learning_rate": 0.002})
    model, rows, seconds = fit(params, training, validation, lambda row: None)
    accuracies = [row["validation_accuracy"] for row in rows]
    assert accuracies[-1] < max(accuracies)
    predicted = model.predict(validation.images, verbose=0).argmax(1)
    assert (predicted == validation.labels).mean() == pytest.approx(max(accuracies))
    assert seconds > 0
    assert not model.compiled


def test_a_training_that_diverges_is_stopped(store, splits, tmp_path):
    with pytest.raises(PipelineError, match=r"the loss became \w+ in epoch \d at train.learning_rate 1e\+30: .*Lower"):
        run_train(splits, tmp_path / "out", PARAMS.model_copy(update={"learning_rate": 1e30}))
    assert not (tmp_path / "out").exists()
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert found.info.status == "FAILED"


def test_every_image_is_seen_once_an_epoch_in_a_seeded_order():
    images = np.arange(10, dtype=np.uint8).repeat(3072).reshape(10, 32, 32, 3)
    split = Split(images, np.arange(10, dtype=np.uint8), 0, np.array(CLASS_NAMES), "")

    def epochs():
        data = batches(split, 4, shuffle_seed=1)
        return [np.concatenate([labels for _, labels in data]).tolist() for _ in range(2)]

    from pipeline.keras_start import start_keras

    orders = []
    for _ in range(2):
        start_keras().utils.set_random_seed(0)
        orders.append(epochs())
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert [sorted(order) for order in orders[0]] == [list(range(10))] * 2
    assert all((pixels[:, 0, 0, 0].numpy() == labels.numpy()).all() for pixels, labels in batches(split, 4))


def test_the_run_says_what_was_trained_on_what_and_how_well(store, splits, tmp_path):
    run_train(splits, tmp_path / "out")
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    figures = json.loads((tmp_path / "out/train.json").read_text())
    timing = json.loads((tmp_path / "out/timing.json").read_text())
    assert found.info.status == "FINISHED"
    assert found.data.metrics["best_validation_accuracy"] == pytest.approx(figures["validation_accuracy"])
    assert found.data.metrics["train_seconds"] == pytest.approx(timing["seconds"])
    assert found.data.params["train.model"] == "basic"
    assert found.data.params["train.learning_rate"] == "0.001"  # the network's own, where params.yaml says null
    assert found.data.params["prepare.validation_images"] == "5000"
    tags = found.data.tags
    assert (tags["archive_sha256"], tags["model"], tags["data"]) == ("ab" * 32, "basic", "archive abababab")
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.digest, data.dataset.name) == ("ab" * 18, "archive abababab")
    history = client.get_metric_history(found.info.run_id, "validation_accuracy")
    assert [metric.step for metric in history] == [1, 2]
    assert [path.path for path in client.list_artifacts(found.info.run_id)] == ["model_summary.txt"]
    (logged,) = client.search_logged_models([found.info.experiment_id])
    loaded = mlflow.pyfunc.load_model(logged.model_uri)
    images = read_split(splits["test"]).images[:3]
    assert loaded.predict(images).shape == (3, 10)
    assert loaded.metadata.signature.inputs.inputs[0].type.name == "uint8"


def test_splits_that_were_not_validated_are_refused_before_tensorflow_is_imported(splits, tmp_path, project):
    report = json.loads(splits["report"].read_text())
    splits["report"].write_text(json.dumps(report | {"success": False}))
    code = (
        "import sys; from pipeline.params import run_stage; from pipeline.train import *\n"
        "try: run_stage(train, TrainParams)\n"
        "finally: print([name for name in ('tensorflow', 'mlflow') if name in sys.modules])"
    )
    files = [splits["train"], splits["validation"], splits["report"], *(tmp_path / "out" / name for name in OUTPUTS)]
    done = subprocess.run([sys.executable, "-c", code, *map(str, files)], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "train: the data failed validation" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_store_that_refuses_is_told_before_the_work(splits, tmp_path, project):
    files = [splits["train"], splits["validation"], splits["report"], *(tmp_path / "out" / name for name in OUTPUTS)]
    settings = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = run(project, "pipeline.train", *files, **settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert "train: cannot record in the MLflow store http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_train_never_opens_the_test_split(store, splits, tmp_path):
    opened = []
    sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
    run_train(splits, tmp_path / "out", PARAMS.model_copy(update={"epochs": 1}))
    assert str(splits["train"]) in opened
    assert str(splits["test"]) not in opened


def test_approval_of_other_files_does_not_count(splits, tmp_path):
    approve(splits["report"], dict.fromkeys(("train", "validation", "test"), splits["test"]))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        run_train(splits, tmp_path / "out")


def test_a_server_that_dies_in_mid_training_costs_a_warning_and_evaluate_opens_another_run(splits, tmp_path, project):
    port, out = free_port(), tmp_path / "out"
    set_params(project, train={"epochs": 4})
    files = [splits["train"], splits["validation"], splits["report"], *(out / name for name in OUTPUTS)]
    settings = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "pipeline.train", *map(str, files)]
    with mlflow_server(tmp_path, port) as server:
        process = subprocess.Popen(
            command, cwd=project, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not process.stdout.readline().startswith("epoch 1/"):
            assert process.poll() is None
        kill(server)
        said, warned = process.communicate()
    assert process.returncode == 0
    assert "train: kept epoch" in said
    assert "Training goes on" in warned
    assert "evaluate opens another" in warned
    assert "Traceback" not in warned
    assert all((out / name).exists() for name in OUTPUTS)
    (tmp_path / "sheet.png").touch()
    inputs = [
        out / "model.keras",
        splits["test"],
        splits["report"],
        out / "train.json",
        out / "curves.csv",
        tmp_path / "sheet.png",
    ]
    outputs = [out / name for name in ("e.json", "c.csv", "p.csv", "pictures")]
    refused = run(project, "pipeline.evaluate", *inputs, *outputs, **settings)
    assert (refused.returncode, (out / "e.json").exists()) == (1, False)
    with mlflow_server(tmp_path, port):
        done = run(project, "pipeline.evaluate", *inputs, *outputs, **settings)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "server.db") as connection:
        notes = "select status, value from runs left join tags on tags.run_uuid = runs.run_uuid and key = 'mlflow.note.content'"
        runs = dict(connection.execute(notes).fetchall())
    assert runs["RUNNING"] is None  # the run whose server died
    assert "Opened after training" in runs["FINISHED"]
