import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest
from conftest import ROOT, approve, run, set_params
from test_tracking import free_port, kill, mlflow_server

from pipeline.errors import PipelineError
from pipeline.splits import read_split
from pipeline.train import TrainParams, train

PARAMS = TrainParams(model="basic", epochs=2, batch_size=50, learning_rate=None, seed=0)
OUTPUTS = ("model.keras", "train.json", "timing.json", "curves.csv")


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
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


def test_a_training_that_diverges_is_stopped(store, splits, tmp_path):
    with pytest.raises(
        PipelineError,
        match=r"the loss became \w+ in epoch \d by step \d of 8, where the learning rate is \d[.\d]*e\+\d+: .*Lower",
    ):
        run_train(splits, tmp_path / "out", PARAMS.model_copy(update={"learning_rate": 1e30}))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("models/.unfinished/*"))
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert found.info.status == "FAILED"


@pytest.mark.parametrize("name", ["basic", "fast"])
def test_a_killed_training_goes_on_in_its_run_and_ends_with_the_same_bytes(splits, tmp_path, project, name):
    set_params(project, train={"model": name, "epochs": 5, "batch_size": 50})

    def command(folder):
        files = [
            splits["train"],
            splits["validation"],
            splits["report"],
            *(tmp_path / folder / name for name in OUTPUTS),
        ]
        return ["pipeline.train", *map(str, files)]

    uninterrupted = run(project, *command("whole"), MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/other.db")
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    unfinished = project / "models/.unfinished"
    assert list(unfinished.iterdir()) == []
    process = subprocess.Popen([sys.executable, "-m", *command("out")], cwd=project, stdout=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("epoch 3/"):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (tmp_path / "out").exists()
    resumed = run(project, *command("out"))
    assert resumed.returncode == 0, resumed.stderr
    after = int(re.search(r"train: resumes after epoch (\d)", resumed.stdout)[1])
    assert after in (2, 3, 4)
    assert re.findall(r"^epoch (\d)/5", resumed.stdout, re.MULTILINE) == [str(i) for i in range(after + 1, 6)]
    for output in ("model.keras", "train.json", "curves.csv"):
        assert (tmp_path / "out" / output).read_bytes() == (tmp_path / "whole" / output).read_bytes()
    assert list(unfinished.iterdir()) == []
    with sqlite3.connect(project / "mlflow.db") as connection:
        assert connection.execute("select status from runs").fetchall() == [("FINISHED",)]
        steps = "select step from metrics where key = 'validation_accuracy' order by step"
        assert connection.execute(steps).fetchall() == [(step,) for step in range(1, 6)]
        assert connection.execute("select count(*) from inputs where destination_type = 'RUN'").fetchone() == (1,)


def test_a_training_goes_on_in_a_new_run_with_all_epochs_where_its_own_is_lost(
    store, splits, tmp_path, monkeypatch, capsys
):
    from pipeline import fit

    class Cut(BaseException):
        pass

    def cut_after_two(row):
        if len(row) == 2:
            raise Cut

    real = fit.fit

    def short(params, training, validation, end_epoch, begun):
        return real(params, training, validation, lambda state: (end_epoch(state), cut_after_two(state.rows)), begun)

    params = PARAMS.model_copy(update={"epochs": 3})
    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit", short)
        with pytest.raises(Cut):
            run_train(splits, tmp_path / "out", params)
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new.db")
    capsys.readouterr()
    run_train(splits, tmp_path / "out", params)
    said = capsys.readouterr().out
    assert "resumes after epoch 2" in said
    assert re.findall(r"^epoch (\d)/3", said, re.MULTILINE) == ["3"]
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    history = client.get_metric_history(found.info.run_id, "validation_accuracy")
    assert sorted(metric.step for metric in history) == [1, 2, 3]


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
    assert found.data.params["train.model"] == "fast"  # as params.yaml says
    assert found.data.params["train.learning_rate"] == "0.035"  # the network's own, where params.yaml says null
    assert (found.data.params["train.optimizer"], found.data.params["train.shift"]) == ("muon", "2")
    assert found.data.params["prepare.validation_images"] == "5000"
    tags = found.data.tags
    assert (tags["archive_sha256"], tags["model"], tags["data"]) == ("ab" * 32, "basic", "archive abababab")
    assert tags["precision"] in ("float32", "mixed_bfloat16")
    assert tags["devices"]
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
    outputs = [out / name for name in ("e.json", "c.csv", "p.csv", "r.csv", "pictures")]
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
