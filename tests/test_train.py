import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest
from projects import OWN_VALUES, ROOT, approve, run, set_params, words
from servers import free_port, kill, mlflow_server
from stores import empty_store

from pipeline.common.errors import PipelineError
from pipeline.common.files import read_csv
from pipeline.data.splits import read_split
from pipeline.models.networks import NETWORKS
from pipeline.models.saving import read_training_record
from pipeline.train import train
from pipeline.training.settings import TrainParams

PARAMS = TrainParams(model="basic", epochs=2, batch_size=50, **OWN_VALUES, seed=0)
OUTPUTS = {
    "model": "model.keras",
    "metrics": "train.json",
    "headline": "headline.json",
    "timing": "timing.json",
    "curves": "curves.csv",
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path / "mlflow.db"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(ROOT)


def paths(splits, folder):
    """The arguments of train, with outputs in `folder`."""
    inputs = {"train_split": splits["train"], "validation_split": splits["validation"], "verdict": splits["verdict"]}
    return inputs | {name: folder / file for name, file in OUTPUTS.items()}


def evaluate_paths(splits, folder):
    """The arguments of evaluate for the model in `folder`, with outputs there."""
    sheet = folder / "sheet.png"
    sheet.touch()
    inputs = {"model": folder / "model.keras", "test_split": splits["test"], "verdict": splits["verdict"]}
    outputs = ("metrics", "headline", "per_class", "predictions", "reliability", "plots")
    return inputs | {"contact_sheet": sheet} | {name: folder / f"test_{name}" for name in outputs}


def run_train(splits, folder, params=PARAMS):
    train(params, **paths(splits, folder))


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_goes_through_the_stages(splits, tmp_path, project, name):
    set_params(project, train={"model": name, "epochs": 1, "batch_size": 50})
    inputs = {"model": tmp_path / "model.keras", "test_split": splits["test"], "verdict": splits["verdict"]}
    exported = {"onnx_model": tmp_path / "model.onnx", "metrics": tmp_path / "export.json"}
    for stage, arguments in {
        "train": paths(splits, tmp_path),
        "evaluate": evaluate_paths(splits, tmp_path),
        "export": inputs | exported,
    }.items():
        done = run(project, f"pipeline.{stage}", *words(arguments))
        assert (done.returncode, done.stderr) == (0, "")
    assert "on 100 test images" in done.stdout
    assert done.stdout.endswith("0 with another class\n")


def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(store, splits, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_train(splits, tmp_path / folder, PARAMS.model_copy(update={"seed": seed}))
    outputs = ("model.keras", "train.json", "headline.json", "curves.csv")
    first, second, other = ([(tmp_path / folder / name).read_bytes() for name in outputs] for folder in "abc")
    assert first == second
    assert first[0] != other[0]
    figures = json.loads(first[1])
    assert json.loads(first[2]) == {"validation_accuracy": figures["validation_accuracy"]}


def test_the_model_carries_its_training_record(store, splits, tmp_path):
    run_train(splits, tmp_path / "out")
    record = read_training_record(tmp_path / "out/model.keras")
    assert record.figures == json.loads((tmp_path / "out/train.json").read_text())
    verdict = json.loads(splits["verdict"].read_text())
    assert record.data == {name: verdict[name] for name in ("archive_sha256", "splits_sha256")}
    assert [{name: str(value) for name, value in row.items()} for row in record.epochs] == read_csv(
        tmp_path / "out/curves.csv"
    )
    assert {name: record.settings[name] for name in ("train.model", "train.epochs", "train.learning_rate")} == {
        "train.model": "basic",
        "train.epochs": 2,
        "train.learning_rate": 0.03,
    }


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
def test_a_killed_training_resumes_in_its_run_and_ends_with_the_same_bytes(splits, tmp_path, project, name):
    set_params(project, train={"model": name, "epochs": 5, "batch_size": 50})

    def command(folder):
        return ["pipeline.train", *words(paths(splits, tmp_path / folder))]

    uninterrupted = run(project, *command("whole"), MLFLOW_TRACKING_URI=empty_store(tmp_path / "other.db"))
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
    for output in ("model.keras", "train.json", "headline.json", "curves.csv"):
        assert (tmp_path / "out" / output).read_bytes() == (tmp_path / "whole" / output).read_bytes()
    assert list(unfinished.iterdir()) == []
    with sqlite3.connect(project / "mlflow.db") as connection:
        assert connection.execute("select status from runs").fetchall() == [("FINISHED",)]
        steps = "select step from metrics where key = 'validation_accuracy' order by step"
        assert connection.execute(steps).fetchall() == [(step,) for step in range(1, 6)]
        assert connection.execute("select count(*) from inputs where destination_type = 'RUN'").fetchone() == (1,)


def test_a_training_resumes_in_a_new_run_with_all_epochs_if_its_own_is_lost(
    store, splits, tmp_path, monkeypatch, capsys
):
    from pipeline.training import fit

    class Cut(BaseException):
        pass

    def cut_after_two(rows):
        if len(rows) == 2:
            raise Cut

    real = fit.fit

    def short(params, training, validation, end_epoch, checkpoint):
        def end_epoch_and_cut(state):
            end_epoch(state)
            cut_after_two(state.rows)

        return real(params, training, validation, end_epoch_and_cut, checkpoint)

    params = PARAMS.model_copy(update={"epochs": 3})
    with monkeypatch.context() as patch:
        patch.setattr(fit, "fit", short)
        with pytest.raises(Cut):
            run_train(splits, tmp_path / "out", params)
    (tmp_path / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new.db")
    capsys.readouterr()
    run_train(splits, tmp_path / "out", params)
    output = capsys.readouterr().out
    assert "resumes after epoch 2" in output
    assert re.findall(r"^epoch (\d)/3", output, re.MULTILINE) == ["3"]
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    history = client.get_metric_history(found.info.run_id, "validation_accuracy")
    assert sorted(metric.step for metric in history) == [1, 2, 3]


def test_the_run_has_settings_data_curves_and_model(store, splits, tmp_path):
    run_train(splits, tmp_path / "out")
    import mlflow

    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    figures = json.loads((tmp_path / "out/train.json").read_text())
    timing = json.loads((tmp_path / "out/timing.json").read_text())
    assert found.info.status == "FINISHED"
    assert found.data.metrics["best_validation_accuracy"] == pytest.approx(figures["validation_accuracy"])
    assert found.data.metrics["train_seconds"] == pytest.approx(timing["seconds"])
    settings = {name: value for name, value in found.data.params.items() if name.startswith("train.")}
    assert settings == {  # those that train was called with, not those of params.yaml
        "train.model": "basic",
        "train.epochs": "2",
        "train.batch_size": "50",
        "train.learning_rate": "0.03",  # the network's own, because the parameter is None
        "train.class_weight": "None",
        "train.seed": "0",
        "train.optimizer": "muon",
        "train.flip": "False",
        "train.shift": "0",
        "train.cutout": "0",
        "train.smoothing": "0.0",
    }
    assert "download.urls" not in found.data.params
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
    verdict = json.loads(splits["verdict"].read_text())
    splits["verdict"].write_text(json.dumps(verdict | {"success": False}))
    code = (
        "import sys; from pipeline.train import *\n"
        "try: run_stage(train, TrainParams)\n"
        "finally: print([name for name in ('tensorflow', 'mlflow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, *words(paths(splits, tmp_path / "out"))]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "[]\n")
    assert "train: the data failed validation" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unreachable_store_is_reported_before_the_fit(splits, tmp_path, project):
    settings = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = run(project, "pipeline.train", *words(paths(splits, tmp_path / "out")), **settings)
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


def test_a_verdict_about_other_files_is_refused(splits, tmp_path):
    approve(splits["verdict"], dict.fromkeys(("train", "validation", "test"), splits["test"]))
    with pytest.raises(PipelineError, match="is not the file that was validated"):
        run_train(splits, tmp_path / "out")


def test_if_the_server_stops_during_training_a_warning_is_printed_and_evaluate_opens_another_run(
    splits, tmp_path, project
):
    port, out = free_port(), tmp_path / "out"
    set_params(project, train={"epochs": 4})
    settings = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    command = [sys.executable, "-m", "pipeline.train", *words(paths(splits, out))]
    with mlflow_server(tmp_path, port) as server:
        process = subprocess.Popen(
            command, cwd=project, env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not process.stdout.readline().startswith("epoch 1/"):
            assert process.poll() is None
        kill(server)
        output, errors = process.communicate()
    assert process.returncode == 0
    assert "train: best epoch" in output
    assert "Training continues" in errors
    assert "evaluate opens another" in errors
    assert "Traceback" not in errors
    assert all((out / name).exists() for name in OUTPUTS.values())
    command = ["pipeline.evaluate", *words(evaluate_paths(splits, out))]
    refused = run(project, *command, **settings)
    assert (refused.returncode, (out / "test_metrics").exists()) == (1, False)
    with mlflow_server(tmp_path, port):
        done = run(project, *command, **settings)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "server.db") as connection:
        notes = (
            "select status, value from runs left join tags "
            "on tags.run_uuid = runs.run_uuid and key = 'mlflow.note.content'"
        )
        runs = dict(connection.execute(notes).fetchall())
    assert runs["RUNNING"] is None  # the run whose server was stopped
    assert "Opened after training" in runs["FINISHED"]


def test_the_log_of_a_training_has_no_line_of_tensorflow(trained):
    lines = (trained.stdout + trained.stderr).splitlines()
    assert [line for line in lines if "NodeDef" in line or len(line) > 200] == []
    assert [line.split(maxsplit=2)[:2] for line in lines] == [
        ["train:", "basic,"],
        ["epoch", "1/1"],
        ["train:", "best"],
    ]


def test_a_lost_run_is_restored_with_the_settings_of_the_training(original, evaluated, project):
    """After training, mlflow.db is lost and params.yaml is changed: none of it may count for the model."""
    assert evaluated.stderr == ""
    restored = recorded(project)
    assert "Opened after training" in restored["tags"]["mlflow.note.content"]
    assert restored["params"] == original["params"]
    assert (original["params"]["train.model"], original["params"]["train.epochs"]) == ("basic", "1")
    for tag in ("model", "data", "archive_sha256", "splits_sha256", "model_sha256"):
        assert restored["tags"][tag] == original["tags"][tag]
    assert (original["tags"]["model"], original["tags"]["data"]) == ("basic", "generated")
    assert restored["epochs"] == original["epochs"]
    assert len(original["epochs"]) == 4


@pytest.fixture
def trained(splits, tmp_path, project):
    """`python -m pipeline.train` with one epoch of network basic."""
    set_params(project, train={"epochs": 1})
    done = run(project, "pipeline.train", *words(paths(splits, tmp_path / "out")))
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def original(trained, project):
    return recorded(project)


@pytest.fixture
def evaluated(original, splits, tmp_path, project):
    """`python -m pipeline.evaluate` after the store was lost and params.yaml was changed."""
    (project / "mlflow.db").unlink()
    shutil.rmtree(project / "mlartifacts")
    changes = {"validate": {"tolerance": 0.5}, "download": {"name": "other data"}, "prepare": {"validation_images": 50}}
    set_params(project, train={"model": "fast", "epochs": 7}, **changes)
    done = run(project, "pipeline.evaluate", *words(evaluate_paths(splits, tmp_path / "out")))
    assert done.returncode == 0, done.stderr
    return done


def recorded(project):
    """Parameters, tags and figures of each epoch in the store's only run."""
    with sqlite3.connect(project / "mlflow.db") as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)
        epochs = "select key, step, value from metrics where step > 0 and key not like 'system/%' order by key, step"
        return {
            "params": dict(connection.execute("select key, value from params").fetchall()),
            "tags": dict(connection.execute("select key, value from tags").fetchall()),
            "epochs": connection.execute(epochs).fetchall(),
        }
