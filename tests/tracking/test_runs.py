"""MLflow's real stores: sqlite files, and its own server on loopback, which works, fails or stops."""

import os
import subprocess
import sys
import time

import pytest
from projects import ROOT
from servers import free_port, kill, mlflow_server

from pipeline.common.errors import PipelineError
from pipeline.tracking.address import tracking_uri
from pipeline.tracking.runs import MODEL_TAG, run_with_model, training_run
from pipeline.tracking.store import IGNORED


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder with a space as the repository's root."""
    root = tmp_path / "a repository"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return root


def client():
    import mlflow

    return mlflow.MlflowClient(tracking_uri())


def only_run():
    experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    (run,) = client().search_runs(experiments)
    return run


def test_the_store_is_in_the_root_of_the_repository_wherever_the_process_runs(store, monkeypatch, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with training_run({"colour": "red"}) as record:
        import mlflow

        record(mlflow.log_text, "hello", "a.txt")
    run = only_run()
    assert (run.info.run_id, run.info.status, run.data.tags["colour"]) == (record.run_id, "FINISHED", "red")
    assert list(elsewhere.iterdir()) == []
    assert {path.name for path in store.iterdir()} >= {"mlflow.db", "mlartifacts"}
    assert [path.read_text() for path in store.rglob("a.txt")] == ["hello"]


def test_mlflows_own_variables_take_precedence(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/team.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    with training_run({}):
        pass
    assert client().get_experiment(only_run().info.experiment_id).name == "other"
    assert not (store / "mlflow.db").exists()


@pytest.mark.parametrize("known", [True, False])
def test_a_run_id_in_the_environment_is_ignored(store, monkeypatch, known):
    with training_run({"name": "first"}) as first:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", first.run_id if known else "0123456789abcdef0123456789abcdef")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    with training_run({"name": "second"}) as second:
        pass
    assert second.run_id != first.run_id
    for run_id, name in ((first.run_id, "first"), (second.run_id, "second")):
        assert client().get_run(run_id).data.tags["name"] == name


def test_variables_that_change_what_is_recorded_where_are_ignored(store, monkeypatch, tmp_path):
    values = {
        "MLFLOW_RUN_CONTEXT": '{"mlflow.user": "someone else", "odd": "tag"}',
        "MLFLOW_REGISTRY_URI": f"sqlite:///{tmp_path}/other.db",
        "MLFLOW_SYSTEM_METRICS_NODE_ID": "node",
        "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.001",
        "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "perhaps",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_TRUNCATE_LONG_VALUES": "false",
        "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH": "3",
        "MLFLOW_SQLALCHEMYSTORE_ECHO": "true",
    }
    for name in IGNORED:
        monkeypatch.setenv(name, values.get(name, "odd"))
    with training_run({}):
        import mlflow

        assert mlflow.get_registry_uri() == tracking_uri()
        assert not set(IGNORED) - {"MLFLOW_EXPERIMENT_ID", "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"} & set(os.environ)
        mlflow.log_metric("accuracy", 0.5)
        mlflow.log_param("long", "x" * 10_000)
    run = only_run()
    assert "odd" not in run.data.tags
    assert run.data.tags["mlflow.user"] != "someone else"
    assert len(run.data.params["long"]) == 6_000
    assert run.data.metrics["accuracy"] == 0.5
    assert not [name for name in run.data.metrics if name.startswith("system/node")]


def test_a_run_whose_block_fails_is_marked_failed(store):
    with pytest.raises(ZeroDivisionError), training_run({}):
        _ = 1 / 0
    assert only_run().info.status == "FAILED"


def test_evaluate_and_export_continue_the_latest_run_with_that_model(store):
    for name in ("first", "second"):
        with training_run({"name": name}) as record:
            import mlflow

            record(mlflow.set_tag, MODEL_TAG, "abc")
        time.sleep(0.01)
    with run_with_model("abc", restore=pytest.fail):
        mlflow.set_tag("evaluated", "yes")
    runs = client().search_runs([only.experiment_id for only in client().search_experiments()])
    assert {run.data.tags["name"]: run.data.tags.get("evaluated") for run in runs} == {"first": None, "second": "yes"}


def test_if_no_run_has_the_model_a_new_run_says_so(store):
    import mlflow

    with run_with_model("abc", restore=lambda: mlflow.log_metric("restored", 1)):
        pass
    run = only_run()
    assert "Opened after training" in run.data.tags["mlflow.note.content"]
    assert (run.data.metrics, run.data.tags[MODEL_TAG]) == ({"restored": 1.0}, "abc")
    with run_with_model("abc", restore=pytest.fail):  # found from now on
        pass


def test_a_read_only_sqlite_store_is_reported_before_the_block(store, monkeypatch):
    with training_run({}):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{store}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(PipelineError, match="readonly database"), training_run({}):
        pytest.fail("the block started")


def test_a_password_is_not_printed(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(PipelineError) as refusal, training_run({}):
        pass
    assert "secret" not in str(refusal.value)
    assert "http://***@127.0.0.1:9" in str(refusal.value)


def test_if_the_server_stops_a_warning_is_printed_and_the_calls_are_made_once_it_is_back(
    store, monkeypatch, tmp_path, capsys
):
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(tmp_path, port) as server, training_run({}) as record:
        import mlflow

        record(mlflow.log_metric, "accuracy", 0.1, step=1)
        kill(server)
        record(mlflow.log_metric, "accuracy", 0.2, step=2)
        record(mlflow.log_metric, "accuracy", 0.3, step=3)
        warnings = capsys.readouterr().err
        with mlflow_server(tmp_path, port):
            record.flush()
            run = only_run()
            history = client().get_metric_history(run.info.run_id, "accuracy")
    assert warnings.count("train: warning: the MLflow store") == 1
    assert "Training continues" in warnings
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_two_processes_create_one_store_at_the_same_time(store):
    code = "from pipeline.tracking.runs import training_run\nwith training_run({}): pass"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pair = [subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=store) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    experiments = client().search_experiments(filter_string="name = 'cifar10'")
    assert len(experiments) == 1
    assert [run.info.status for run in client().search_runs([experiments[0].experiment_id])] == ["FINISHED"] * 2
